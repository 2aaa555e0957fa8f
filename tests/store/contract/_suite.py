"""What every part of the contract uses: a store, its clock, and short functions around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import anyio
import pytest

from tailrace.errors import StreamNotFound
from tailrace.store import Append, Change, NewStream, Offset, Slice, Store, Where

__all__ = [
    "JSON",
    "OCTETS",
    "StoreClock",
    "StoreSuite",
    "Watcher",
    "fill",
    "in_time",
    "is_there",
    "read_all",
]

PATIENCE = 10.0
"""Seconds of real time within which a store must have called a watcher."""

OCTETS = "application/octet-stream"
JSON = "application/json"


_START_MS = 1_800_000_000_000
"""In January 2027, so that a store is noticed that uses another clock."""


class StoreClock:
    """A time of day that stands still until the test moves it.

    `clock()` gives milliseconds since the epoch. This is not the event loop's time
    (`tailrace.testing.Clock`): a store keeps times for longer than a loop lives.

    Args:
        milliseconds: Where it starts, since the epoch.
    """

    def __init__(self, milliseconds: int = _START_MS) -> None:
        self.milliseconds = milliseconds

    def __call__(self) -> int:
        return self.milliseconds

    def advance(self, seconds: float) -> None:
        """Move the clock; `seconds` may be negative, as when a machine's clock is set back."""
        self.milliseconds += round(seconds * 1000)


class StoreSuite:
    """A store of its own for each test, with a clock that only the test moves."""

    durable: ClassVar[bool] = True
    """Whether acknowledged data is still there after the store was closed and made again."""

    def make(self, folder: Path, clock: StoreClock) -> Store:
        """Make a store that is not open yet; the same `folder` gives the same store again.

        Args:
            folder: The test's own; empty at first.
            clock: The time of day, in milliseconds since the epoch, that the store must use.
        """
        raise NotImplementedError("say which store is tested: def make(self, folder, clock)")

    @pytest.fixture
    def clock(self) -> StoreClock:
        return StoreClock()

    @pytest.fixture
    async def store(self, tmp_path: Path, clock: StoreClock) -> AsyncIterator[Store]:
        async with self.make(tmp_path, clock) as store:
            yield store


class Watcher:
    """Watches a path and keeps the changes that it is given.

    ```
    with Watcher(store, "a") as watcher:
        await store.append("a", Append(data=b"x"))
        await watcher.told(lambda change: change.tail == tail)
    ```
    """

    def __init__(self, store: Store, path: str) -> None:
        self.changes: list[Change] = []
        self._store = store
        self._path = path
        self._more = anyio.Event()

    def __enter__(self) -> Self:
        self._stop = self._store.watch(self._path, self._on_change)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop()

    def _on_change(self, change: Change) -> None:
        self.changes.append(change)
        self._more.set()

    async def told(self, wanted: Callable[[Change], object]) -> Change:
        """The first change that is `wanted`, of those that have come, or wait for one."""
        seen = 0
        with in_time():
            while True:
                for change in self.changes[seen:]:
                    seen += 1
                    if wanted(change):
                        return change
                self._more = anyio.Event()
                await self._more.wait()


def in_time() -> AbstractContextManager[object]:
    """Make a block fail that waits for longer than `PATIENCE`."""
    return anyio.fail_after(PATIENCE)


async def is_there(store: Store, path: str) -> bool:
    """Whether the stream exists; does not count as a use of it."""
    try:
        await store.head(path)
    except StreamNotFound:
        return False
    return True


async def read_all(store: Store, path: str, start: Where, max_bytes: int) -> list[Slice]:
    """What a reader gets that reads slice after slice, up to the tail."""
    slices = [await store.read(path, start, max_bytes)]
    while not slices[-1].up_to_date:
        slices.append(await store.read(path, slices[-1].end, max_bytes))
        assert slices[-1].chunks, "a read before the tail gives something"
    return slices


async def fill(
    store: Store, path: str, *parts: bytes, new: NewStream | None = None
) -> list[Offset]:
    """Create a stream with these appends; gives the offset before the first and after each."""
    await store.create(path, new or NewStream())
    ends = [(await store.append(path, Append(data=part))).tail for part in parts]
    return [Offset(0, 0), *ends]
