"""HEAD on a stream: a client that takes not even the head is cut off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.types import ASGIApp

from tailrace import StreamingResponse, StreamOptions, Streams
from tailrace.protocol import DurableStreams, ProtocolOptions
from tailrace.store import MemoryStore, NewStream
from tailrace.testing import Clock

pytestmark = pytest.mark.anyio

OPTIONS = StreamOptions(send_timeout=7)


async def nothing() -> AsyncIterator[bytes]:
    yield b""


@pytest.mark.parametrize("what", ["response", "subscription", "awaited", "protocol"])
async def test_a_client_that_takes_nothing_is_cut_off(clock: Clock, what: str) -> None:
    store = MemoryStore()
    await store.create("s", NewStream())
    scope = {"type": "http", "method": "HEAD", "path": "/s", "headers": [], "query_string": b""}
    over = anyio.Event()

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        await anyio.sleep_forever()

    async with Streams(store, options=OPTIONS) as streams:
        apps: dict[str, ASGIApp] = {
            "response": StreamingResponse(nothing(), options=OPTIONS),
            "subscription": streams.subscribe("s", Request(scope)),
            "awaited": streams.subscribe("not there", Request(scope)),
            "protocol": DurableStreams(store, ProtocolOptions(stream=OPTIONS)),
        }

        async def respond() -> None:
            await apps[what](scope, receive, send)
            over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(respond)
            await clock.advance(6.9)
            assert not over.is_set()
            await clock.advance(0.2)
            await over.wait()
