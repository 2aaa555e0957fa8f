"""Calls of a sync source back into the event loop: `anyio.from_thread` works in it.

anyio's functions look for the loop in what its own worker threads know of themselves. Ours are not
anyio's (`threads.py` says why), so they are given the same knowledge while a source's job runs:
something with the three methods that anyio calls. It is of the source, not of the thread, so it
knows what anyio could not: that the source is to end. A call under way is interrupted *once* then,
or else the next one, as the `await` of an async source is; in its cleanup calls work. What it meets
is asyncio's CancelledError, on trio too, whose own cannot be made: no `except Exception` takes it
for a failure and tries again.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import anyio

from tailrace.runtime.loop import Loop

__all__ = ["CallsBack"]

T = TypeVar("T")

_anyio: Any = None
with suppress(ImportError):  # not public: without it, calls must name their loop (`token=`)
    from anyio._core._eventloop import threadlocals as _anyio


class CallsBack:
    """What a thread knows of the loop while a source runs in it.

    Args:
        loop: Where calls go.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._under_way: set[anyio.CancelScope] = set()
        self._interrupted = False
        """The source is to end, and has not met it yet."""

    def run(self, work: Callable[[], None]) -> None:
        """Call a function; the current thread is taken for one of anyio's meanwhile."""
        if _anyio is None:
            work()
            return
        # anyio's own way to say this (`claim_worker_thread`) takes 11 us, as long as all the rest.
        _anyio.current_token = self
        try:
            work()
        finally:
            del _anyio.current_token

    @property
    def backend_class(self) -> CallsBack:
        """Where anyio looks for the three methods below."""
        return self

    native_token = None

    def interrupt(self) -> None:
        """The source is to end; to be called in the loop."""
        self._interrupted = True
        for scope in tuple(self._under_way):
            scope.cancel()

    def cleaning_up(self) -> None:
        """The source learns of its end in another way: it is closed."""
        self._interrupted = False

    # What anyio calls, in the thread

    def run_async_from_thread(
        self, func: Callable[..., Awaitable[T]], args: tuple[Any, ...], token: object = None
    ) -> T:
        async def call() -> list[T]:
            if self._interrupted:  # asked in the loop, where it is set: it cannot come in between
                return []
            with anyio.CancelScope() as scope:
                self._under_way.add(scope)
                try:
                    return [await func(*args)]
                finally:
                    self._under_way.discard(scope)
            return []

        if not (result := self._loop.run_from_thread(call)):
            self._interrupted = False
            raise CancelledError
        return result[0]

    def run_sync_from_thread(
        self, func: Callable[..., T], args: tuple[Any, ...], token: object = None
    ) -> T:
        return self._loop.ask_from_thread(lambda: func(*args))

    def check_cancelled(self) -> None:
        if self._interrupted:
            self._interrupted = False
            raise CancelledError
