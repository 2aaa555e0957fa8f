"""An event that any thread may set, and any event loop wait for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.lowlevel

from tailrace.testing._eventloop import running_loop

__all__ = ["Flag"]


class Flag:
    """Something that happens once, in whatever thread.

    No lock: `set()` may run in the garbage collector, in the middle of anything.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: deque[Callable[[], None]] = deque()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    async def wait(self) -> None:
        """Wait until it has happened; returns after a checkpoint if it has."""
        if self._is_set:
            await anyio.lowlevel.checkpoint()
            return
        happened = anyio.Event()
        loop = running_loop()
        self._waiters.append(lambda: loop.call_soon_threadsafe(happened.set))
        # Set by another thread since the first look? Then nobody may know of this waiter.
        if self._is_set:
            happened.set()
        await happened.wait()

    def set(self) -> None:
        """Say that it has happened, and wake those who wait."""
        self._is_set = True
        with suppress(IndexError):
            while True:
                wake = self._waiters.popleft()
                with suppress(RuntimeError):  # the loop of a waiter that gave up may be closed
                    wake()
