"""One call that may block, in a thread that serves no endpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from tailrace.runtime.loop import Loop, current_loop
from tailrace.runtime.threads import Threads, short_threads

__all__ = ["call_in_thread"]

T = TypeVar("T")


async def call_in_thread(
    work: Callable[[], T], discard: Callable[[T], None], threads: Threads = short_threads
) -> T:
    """What a function gives, called in a thread.

    A cancelled call is not waited for: a disk that hangs cannot be interrupted, and must not hold
    the request. What the thread still gives after that goes to `discard`.

    Args:
        work: May block.
        discard: Closes what `work` gave, in a thread. Must not raise.
        threads: Where. Those for short calls are for what waits for nobody; disks have their own.
    """
    call = _Call(work, discard, current_loop(), threads)
    job = call.run
    threads.submit(job)
    try:
        await call.done.wait()
    except BaseException:
        if not threads.withdraw(job):
            call.abandon()
        raise
    return call.result()


class _Call(Generic[T]):
    def __init__(
        self,
        work: Callable[[], T],
        discard: Callable[[T], None],
        loop: Loop,
        threads: Threads,
    ) -> None:
        self.done = loop.signal()
        self._work = work
        self._discard = discard
        self._loop = loop
        self._threads = threads
        self._lock = threading.Lock()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._abandoned = False

    def run(self) -> None:
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
            self._error = error
        else:
            with self._lock:
                abandoned = self._abandoned
                if not abandoned:
                    self._results.append(result)
            if abandoned:
                self._discard(result)
        self._loop.call_from_thread(self.done.set)

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            results, self._results = self._results, []
        for result in results:
            self._threads.submit(partial(self._discard, result))

    def result(self) -> T:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or this frame and the traceback keep each other alive
        return self._results.pop()
