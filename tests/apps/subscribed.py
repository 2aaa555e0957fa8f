"""Streams with subscriptions, in the store whose URL is TAILRACE_STORE."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

from tailrace.protocol import DurableStreams
from tailrace.store import open_store
from tailrace.subscriptions import SubscriptionOptions, Subscriptions

mounted: list[DurableStreams] = []


async def streams(scope: Any, receive: Any, send: Any) -> None:
    await mounted[0](scope, receive, send)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with open_store(os.environ["TAILRACE_STORE"]) as store:
        subscriptions = Subscriptions(store, SubscriptionOptions(allow_localhost=True))
        told = subscriptions.appended
        mounted[:] = [DurableStreams(store, control=subscriptions, on_append=told)]
        async with subscriptions:
            yield


app = Starlette(routes=[Mount("/v1/stream", app=streams)], lifespan=lifespan)
