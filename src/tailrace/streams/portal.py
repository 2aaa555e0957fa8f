"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

__all__ = ["Portal"]

T = TypeVar("T")


class Portal:
    """A thread with an event loop, started with the first call; for calls from any thread.

    anyio's own helper has a thread that is waited for when the program ends: one that forgets to
    close this would never end. This thread is a daemon.

    After a fork the child has no thread any more: `here` tells.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._portal: BlockingPortal | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tailrace-streams", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def here(self) -> bool:
        """It was started in this process."""
        return self._process == os.getpid()

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """What a coroutine function gives, called in the loop; blocks.

        Interrupted (Ctrl-C), the call is cancelled.

        Raises:
            RuntimeError: It was closed, or this is its own thread.
            CancelledError: It was closed meanwhile.
        """
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError("this would wait for itself: call it from another thread")
        assert self._portal is not None
        future: Future[T] = self._portal.start_task_soon(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def hold(self, block: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        """An asynchronous block, in a task of the loop, as one for threads."""
        assert self._portal is not None
        return self._portal.wrap_async_context_manager(block)

    def close(self) -> None:
        """Cancel what is under way, and end the thread."""
        assert self._portal is not None
        self._portal.start_task_soon(self._portal.stop, True)
        self._thread.join()

    def _run(self) -> None:
        anyio.run(self._serve)

    async def _serve(self) -> None:
        async with BlockingPortal() as self._portal:
            self._started.set()
            await self._portal.sleep_until_stopped()
