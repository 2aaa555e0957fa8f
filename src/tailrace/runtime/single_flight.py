"""Identical calls that are asked for at the same time are made once.

A caller must not get the answer of a call that began before it asked: that call may have read the
store before something was acknowledged that the caller knows of. So the caller waits for the next
call, which begins when the first is over and answers all callers that came meanwhile. A thousand
callers at once cost two calls, and no answer is older than its caller's question.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import anyio

__all__ = ["SingleFlight"]

T = TypeVar("T")


class _Call:
    """One call, and its callers that wait."""

    __slots__ = ("_done", "answered", "begun", "error", "over", "result", "waiting")

    def __init__(self) -> None:
        self.begun = self.over = False
        self.answered = False
        """It has a result or an error. If it is over without one, its caller was cancelled."""
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

    def answer(self) -> Any:
        if self.error is not None:
            # Raised in each caller, without what the last one has added to the traceback.
            raise self.error.with_traceback(None)
        return self.result


class SingleFlight:
    """The calls under way, by what they ask for."""

    def __init__(self) -> None:
        self._now: dict[Hashable, _Call] = {}
        self._next: dict[Hashable, _Call] = {}

    def __len__(self) -> int:
        return len(self._now) + len(self._next)

    async def do(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        """The result of a call that begins after this was asked; one of its callers makes it.

        If that caller is cancelled, another one makes the call. An error of the call is raised in
        each of its callers.

        Args:
            key: What is asked for.
            call: The call; that of another caller with the same key may be made in its place.
        """
        while True:
            current = self._now.get(key)
            if current is None:
                waiting = self._next.pop(key, None)
                return await self._make(key, waiting or _Call(), call)
            mine = self._next.setdefault(key, _Call())
            mine.waiting += 1
            try:
                await current.done()
                if mine.begun:
                    await mine.done()
            finally:
                mine.waiting -= 1
                if not mine.waiting and self._next.get(key) is mine:
                    del self._next[key]
            if not mine.begun:
                self._next[key] = mine
            elif mine.answered:
                result: T = mine.answer()
                return result

    async def _make(self, key: Hashable, made: _Call, call: Callable[[], Awaitable[T]]) -> T:
        self._now[key] = made
        made.begun = True
        try:
            result = made.result = await call()
        except Exception as error:
            made.error = error
            made.answered = True
            raise
        else:
            made.answered = True
            return result
        finally:
            del self._now[key]
            made.end()
