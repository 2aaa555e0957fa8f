"""Requests to the streams of an application in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Mount

from tailrace.protocol import DurableStreams, ProtocolOptions
from tailrace.store import MemoryStore, Store
from tailrace.testing import Client

__all__ = ["ROOT", "Answer", "Streams", "streams"]

ROOT = "/v1/stream"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def problem(self) -> Mapping[str, Any]:
        """The problem (RFC 9457) in the body of a refusal."""
        assert self.headers["content-type"] == "application/problem+json"
        problem: Mapping[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        return problem

    @property
    def next_offset(self) -> str:
        return self.headers["stream-next-offset"]


class Streams:
    """A client of streams that are mounted at `ROOT`."""

    def __init__(self, client: Client, store: Store) -> None:
        self.client = client
        self.store = store

    async def ask(
        self, method: str, path: str, body: bytes | Iterable[bytes] = b"", **headers: str
    ) -> Answer:
        """Send a request. Headers are keywords, with `_` for `-`."""
        async with self.open(method, path, body, **headers) as exchange:
            start = await exchange.response()
            return Answer(start.status, start.headers, await exchange.read_all())

    def open(
        self, method: str, path: str, body: bytes | Iterable[bytes] = b"", **headers: str
    ) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(method, f"{ROOT}/{path}", headers=named, body=body)

    async def get(self, path: str, **headers: Any) -> Answer:
        return await self.ask("GET", path, **headers)

    async def put(self, path: str, body: bytes = b"", **headers: str) -> Answer:
        return await self.ask("PUT", path, body, **{"content_type": "text/plain", **headers})

    async def post(self, path: str, body: bytes = b"x", **headers: str) -> Answer:
        return await self.ask("POST", path, body, **{"content_type": "text/plain", **headers})


@asynccontextmanager
async def streams(
    store: Store | None = None, options: ProtocolOptions | None = None, **more: Any
) -> AsyncIterator[Streams]:
    """A client of the streams of a store; by default of a new one in memory."""
    store = store or MemoryStore()
    options = options or ProtocolOptions(forks=True)
    app = Starlette(routes=[Mount(ROOT, DurableStreams(store, options, **more))])
    async with Client(app) as client:
        yield Streams(client, store)
