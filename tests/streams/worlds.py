"""Stores for tests of runs: one that several "processes" share, and one that can be disturbed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from tailrace.errors import StoreUnavailable, StreamError
from tailrace.store import (
    Append,
    Appended,
    Created,
    MemoryStore,
    NewStream,
    OnChange,
    Slice,
    Store,
    StreamInfo,
    Where,
)
from tailrace.streams import Streams

__all__ = ["BASE_MS", "Link", "shared_store", "worker"]

BASE_MS = 1_800_000_000_000
"""The time at which the tests begin, in milliseconds since the epoch."""


def shared_store() -> MemoryStore:
    """A store with the event loop's clock, so that a test moves the time of both."""
    return MemoryStore(clock=lambda: BASE_MS + round(anyio.current_time() * 1000))


class Link(Store):
    """Access to another store, which a test can disturb.

    Attributes:
        cut: Calls never return and no change is told, as for a process that was killed.
        failing: Calls fail, as on a full disk.
        refusals: The next appends raise them, one each, except those to Tailrace's own streams.
        appends: The data of each append in order, by path.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cut = False
        self.failing = False
        self.refusals: list[StreamError] = []
        self.gate: anyio.Event | None = None
        """Appends wait for it, except those to Tailrace's own streams (`__ds/`)."""
        self.appends: dict[str, list[bytes]] = {}

    async def _through(self) -> None:
        if self.cut:
            await anyio.sleep_forever()
        if self.failing:
            raise StoreUnavailable("link", "fails")

    async def open(self) -> None:
        await self.store.open()

    async def aclose(self) -> None:
        """Does nothing: the owner of the other store closes it."""

    async def create(self, path: str, new: NewStream) -> Created:
        await self._through()
        return await self.store.create(path, new)

    async def append(self, path: str, append: Append) -> Appended:
        if self.gate is not None and not path.startswith("__ds/"):
            await self.gate.wait()
        await self._through()
        if self.refusals and not path.startswith("__ds/"):
            raise self.refusals.pop(0)
        self.appends.setdefault(path, []).append(append.data)
        return await self.store.append(path, append)

    async def read(self, path: str, start: Where, max_bytes: int = 1 << 20) -> Slice:
        await self._through()
        return await self.store.read(path, start, max_bytes)

    async def head(self, path: str) -> StreamInfo:
        await self._through()
        return await self.store.head(path)

    async def delete(self, path: str) -> None:
        await self._through()
        await self.store.delete(path)

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[StreamInfo]:
        await self._through()
        return await self.store.list(prefix, after, limit)

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        return self.store.watch(path, lambda change: None if self.cut else on_change(change))

    async def check(self) -> None:
        await self._through()


@asynccontextmanager
async def worker(store: Store, **options: Any):  # type: ignore[no-untyped-def] # a test's helper
    """The streams of one "process", while the block runs."""
    streams = Streams(store, **options)
    async with streams:
        yield streams
