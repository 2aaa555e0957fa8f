"""Time that a test moves, and `settle`, which waits until everything is at rest.

At rest, every task waits and every thread blocks: nothing more happens until the test moves time.

A thread blocks (in a lock, in `time.sleep`, in a read), or it runs, or it could run but waits for a
processor or for Python's lock. Only the first is rest. From inside Python the three look the same,
so the kernel is asked for each thread's state and for the nanoseconds that it has run. The check
sleeps for a moment, which lets other threads take Python's lock. If afterwards no thread has run,
and none is running or waiting for a disk, all of them block, even on a loaded machine.

Only the kernel of Linux tells this. Elsewhere the check compares the position of each thread in its
code, and on a loaded machine `settle` may return too early.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio

from tailrace.testing._eventloop import EventLoop, running_loop

__all__ = ["Clock", "let_threads_run", "settle", "wait_until"]

_TICK = 1e-9
"""Seconds by which rounding may misplace a timer; also the resolution of asyncio's clock."""

_PATIENCE = 1.0
"""Seconds of real time that `settle` waits for threads that run and do not call the event loop."""

_NAP = 0.0005
"""Seconds of real time between two looks in `wait_until`."""


class Clock:
    """The event loop's time, which stands still until the test moves it.

    Everything that waits through anyio, asyncio or trio (sleeps, timeouts, deadlines) then waits
    for `advance()`, and never in real time. What a thread does is still real: see `wait_until`.
    Use it inside the event loop, one at a time:

    ```
    with Clock() as clock:
        ...
        await clock.advance(30.0)
    ```

    asyncio's stock loop needs nothing. trio must run on a `trio.testing.MockClock`; the fixtures
    of `tailrace.testing.plugin` do that. After the block time goes on by itself, from where the
    test left it.

    Raises:
        RuntimeError: The loop's clock cannot be moved (uvloop, trio on its real clock).
    """

    def __init__(self) -> None:
        self._running: EventLoop | None = None
        self._start = math.nan

    def __enter__(self) -> Self:
        loop = running_loop()
        loop.freeze()
        self._running = loop
        self._start = anyio.current_time()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.thaw()
        self._running = None

    @property
    def time(self) -> float:
        """Seconds by which the clock was moved so far, rounded to nanoseconds."""
        return round(anyio.current_time() - self._start, 9)

    async def advance(self, seconds: float) -> None:
        """Move time forward, from timer to timer.

        Before each step everything comes to rest (see `settle`). So a timer that is set meanwhile
        also fires, at its own time and in its turn, if that time is within `seconds`.

        If the call is cancelled, the clock stays at the time that it has reached.

        Args:
            seconds: 0 or more.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"seconds={seconds!r} is out of range: give 0 or more")
        loop = self._loop
        target = anyio.current_time() + seconds
        await settle()
        while (deadline := loop.next_deadline()) <= target + _TICK:
            loop.move_to(max(deadline, anyio.current_time()))
            await settle()
        loop.move_to(max(target, anyio.current_time()))
        await settle()

    async def settle(self) -> None:
        """As the function `settle`; time stands still."""
        await settle()

    @property
    def _loop(self) -> EventLoop:
        if self._running is None:
            raise RuntimeError("this clock does not hold the time: use it in `with Clock() as ...`")
        return self._running


async def settle() -> None:
    """Let everything that can run do so, until every task waits and every thread blocks.

    A task that waits for a timer or a socket counts as waiting. A thread that blocks (in a lock, in
    `time.sleep`, in a read) is at rest even if it will go on later; to wait for what it or another
    process does then, use `wait_until`. A thread that runs and does not call the event loop is
    waited for at most one second. If a task never waits, this never returns.
    """
    loop = running_loop()
    await loop.settle()
    while True:
        # A thread's call to the loop may start other tasks, and these may start threads.
        let_threads_run(until=time.monotonic() + _PATIENCE)
        if not await loop.settle():
            return


async def wait_until(condition: Callable[[], object], *, timeout: float = 10.0) -> None:
    """Wait, in real time, until a condition holds that a thread or another process will make true.

    A moved clock cannot wake a thread that sleeps, so this waits in real time. The condition is
    called when everything has come to rest, and then again every half millisecond.

    Args:
        condition: Called in the event loop's thread: `thread_event.is_set`, `lambda: count == 3`.
        timeout: Seconds of real time.

    Raises:
        TimeoutError: It did not become true in time.
    """
    end = time.monotonic() + timeout
    await settle()
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{condition!r} did not become true within {timeout} s")
        # This blocks the loop, which is at rest, while other threads run. `anyio.sleep` would never
        # return if the test has stopped the clock.
        time.sleep(_NAP)  # noqa: ASYNC251
        await settle()


# Threads ------------------------------------------------------------------------------------------

_LOOK = 0.00005
"""Seconds between two looks at the threads: a sleep, which lets them take Python's lock."""

_LONG_LOOK = 0.001
"""The same where only the position in its code shows that a thread runs."""

_HAS_SCHEDSTAT = os.path.exists("/proc/self/schedstat")

Activity = dict[int, tuple[str, str]]


def let_threads_run(until: float) -> None:
    """Block this thread until all others block.

    Args:
        until: The time to give up, by `time.monotonic`.
    """
    before = _activity()
    while before and time.monotonic() < until:
        time.sleep(_LOOK if _HAS_SCHEDSTAT else _LONG_LOOK)
        after = _activity()
        if after == before and not any(state in "RD" for state, _ in after.values()):
            return
        before = after


def _activity() -> Activity:
    """The state of each other thread, and something that changes when it runs."""
    me = threading.get_ident()
    others = [thread for thread in threading.enumerate() if thread.ident != me]
    if not others:
        return {}
    read = _by_kernel if _HAS_SCHEDSTAT else _by_position
    return {id(thread): read(thread) for thread in others}


def _by_kernel(thread: threading.Thread) -> tuple[str, str]:
    folder = f"/proc/self/task/{thread.native_id}"
    try:
        # The thread's name, in parentheses, may contain some too; the state follows the last one.
        state = _read(f"{folder}/stat").rpartition(")")[2].split()[0]
        ran = _read(f"{folder}/schedstat").split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X", ""  # it has just ended
    return state, ran


def _by_position(thread: threading.Thread) -> tuple[str, str]:
    frame = sys._current_frames().get(thread.ident or 0)
    return "S", "" if frame is None else f"{id(frame)} {frame.f_lasti}"


def _read(path: str) -> str:
    # Faster than `open`: this is done for every thread at every look.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1024).decode("latin-1")
    finally:
        os.close(descriptor)
