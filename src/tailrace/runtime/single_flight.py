"""Reads that are under way: identical ones are done once.

A reader that asks while a read is on its way may not have its answer: that read may have looked at
the store before something was acknowledged that the reader knows of. The reader waits for the next
read, which begins when the first is done, with all that came meanwhile. So a thousand readers that
ask at once cost two reads, and no answer was out of date when it was asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import anyio

__all__ = ["SingleFlight"]

T = TypeVar("T")


class _Flight:
    """One read, and those who wait for it."""

    __slots__ = ("_done", "begun", "error", "landed", "over", "result", "waiting")

    def __init__(self) -> None:
        self.begun = self.over = False
        self.landed = False
        """It has a result or an error. Over without: whoever did it was cancelled."""
        self.waiting = 0
        self.result: Any = None
        self.error: Exception | None = None
        self._done: anyio.Event | None = None

    async def done(self) -> None:
        if not self.over:
            if self._done is None:
                self._done = anyio.Event()
            await self._done.wait()

    def end(self) -> None:
        self.over = True
        if self._done is not None:
            self._done.set()


class SingleFlight:
    """The reads under way, by what is asked."""

    def __init__(self) -> None:
        self._now: dict[Hashable, _Flight] = {}
        self._next: dict[Hashable, _Flight] = {}

    def __len__(self) -> int:
        return len(self._now) + len(self._next)

    async def do(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """The result of a read that began after this call; done by one of those who ask for it.

        If the one that reads is cancelled, another of them does it.
        """
        while True:
            flight = self._now.get(key)
            if flight is None:
                flight = self._next.pop(key, None) or _Flight()
                return await self._fly(key, flight, read)
            mine = self._next.setdefault(key, _Flight())
            mine.waiting += 1
            try:
                await flight.done()
                if mine.begun:
                    await mine.done()
            finally:
                mine.waiting -= 1
                if not mine.waiting and self._next.get(key) is mine:
                    del self._next[key]
            if not mine.begun:
                self._next[key] = mine
            elif mine.landed:
                result: T = _result(mine)
                return result

    async def _fly(self, key: Hashable, flight: _Flight, read: Callable[[], Awaitable[T]]) -> T:
        self._now[key] = flight
        flight.begun = True
        try:
            result = flight.result = await read()
        except Exception as error:
            flight.error = error
            flight.landed = True
            raise
        else:
            flight.landed = True
            return result
        finally:
            del self._now[key]
            flight.end()


def _result(flight: _Flight) -> Any:
    if flight.error is not None:
        # Raised in each who asked; what the one before left in it is not theirs.
        raise flight.error.with_traceback(None)
    return flight.result
