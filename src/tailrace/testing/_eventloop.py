"""What the kit needs of the running event loop, beside what anyio offers.

That is: to wait until every other task waits, to stop and move the clock, and to be called from
threads.

The theory. On trio everything here is public. On asyncio two private attributes of the stock loop
are read, both unchanged since Python 3.4: `_ready`, the callbacks that run in the next turn, and
`_scheduled`, the heap of timers. anyio's own `wait_all_tasks_blocked` cannot be used there, because
between two looks it sleeps for 0.1 s by the clock that a test has stopped.

When a task continues after `asyncio.sleep(0)`, the loop has just polled its selector and moved the
timers that are due to `_ready`. So whatever can run is there. If it is empty, every task waits.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakKeyDictionary

import anyio

if TYPE_CHECKING:
    from trio.abc import Instrument
    from trio.testing import MockClock

__all__ = ["EventLoop", "current_task", "running_loop"]


class EventLoop(Protocol):
    """The running loop, asyncio's or trio's, as the kit sees it."""

    def current_task(self) -> object | None:
        """The task that runs now; None in a callback outside of tasks."""

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Run a callback in the loop soon; may be called in any thread."""

    async def settle(self) -> bool:
        """Wait until every other task waits; return whether any of them ran meanwhile."""

    def freeze(self) -> None:
        """Stop the loop's clock."""

    def move_to(self, time: float) -> None:
        """Set the stopped clock; timers that are due then run at the loop's next turn."""

    def thaw(self) -> None:
        """Let the clock go on from the time that it was moved to."""

    def next_deadline(self) -> float:
        """The time of the next timer; infinity when there is none."""


def running_loop() -> EventLoop:
    """The loop that runs in this thread.

    Raises:
        RuntimeError: No loop runs in this thread.
    """
    if _in_trio():
        return _Trio()
    return _Asyncio(asyncio.get_running_loop())


def current_task() -> object | None:
    """The task that runs in this thread; None where there is no loop, as in a worker thread."""
    try:
        return running_loop().current_task()
    except RuntimeError:
        return None


def _in_trio() -> bool:
    # trio comes first: where it is a guest of an asyncio loop, both loops run in the thread.
    if "trio" not in sys.modules:
        return False
    import trio

    return trio.lowlevel.in_trio_run()


_settling: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""How many tasks are in `settle`, by loop. They are always ready: none may wait for another."""


class _Asyncio:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Any, for the private attributes, and for `time`, which is replaced on the instance.
        self._loop: Any = loop
        self._now = 0.0

    def current_task(self) -> object | None:
        return asyncio.current_task(self._loop)

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    async def settle(self) -> bool:
        if not hasattr(self._loop, "_ready"):  # another loop, such as uvloop's, in real time
            await anyio.wait_all_tasks_blocked()
            return False
        _settling[self._loop] = _settling.get(self._loop, 0) + 1
        ran = False
        try:
            while True:
                await asyncio.sleep(0)
                if len(self._loop._ready) < _settling[self._loop]:
                    return ran
                ran = True
        finally:
            _settling[self._loop] -= 1

    def freeze(self) -> None:
        if not isinstance(self._loop, asyncio.BaseEventLoop):
            raise RuntimeError(
                f"the clock of {type(self._loop).__qualname__} cannot be moved: run the test on "
                "asyncio's own event loop or on trio"
            )
        # Forward to a whole second: a fraction would bring rounding errors into sums with it.
        self._now = float(math.ceil(self._loop.time()))
        self._loop.time = lambda: self._now  # type: ignore[method-assign]  # on the instance

    def move_to(self, time: float) -> None:
        # The loop runs the timers before its time plus the clock's resolution (1 ns). After 194
        # days of uptime that sum is the time itself, and a timer at exactly this time would wait
        # for ever.
        if time + self._loop._clock_resolution == time:
            time = math.nextafter(time, math.inf)
        self._now = time

    def thaw(self) -> None:
        loop, real = self._loop, type(self._loop).time
        ahead = self._now - real(loop)
        loop.time = lambda: real(loop) + ahead

    def next_deadline(self) -> float:
        pending = (timer.when() for timer in self._loop._scheduled if not timer.cancelled())
        return min(pending, default=math.inf)


_settlers: set[object] = set()
"""The trio tasks that are in `settle`: their steps do not count as work of other tasks."""


class _Steps:
    """A trio instrument that records whether a task ran, other than those in `settle`."""

    def __init__(self) -> None:
        self.seen = False

    def before_task_step(self, task: object) -> None:
        self.seen = self.seen or task not in _settlers


class _Trio:
    def __init__(self) -> None:
        import trio

        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()  # here, for calls from other threads
        self._rate = 0.0

    def current_task(self) -> object | None:
        return self._trio.lowlevel.current_task() if self._trio.lowlevel.in_trio_task() else None

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self._token.run_sync_soon(callback)

    async def settle(self) -> bool:
        me = self._trio.lowlevel.current_task()
        steps = _Steps()
        instrument = cast("Instrument", steps)  # not derived from it, or trio would be imported
        _settlers.add(me)
        self._trio.lowlevel.add_instrument(instrument)
        try:
            await anyio.wait_all_tasks_blocked()
        finally:
            self._trio.lowlevel.remove_instrument(instrument)
            _settlers.discard(me)
        return steps.seen

    def freeze(self) -> None:
        clock = self._clock()
        self._rate = clock.rate
        clock.rate = 0.0

    def move_to(self, time: float) -> None:
        clock = self._clock()
        clock.jump(max(0.0, time - clock.current_time()))

    def thaw(self) -> None:
        self._clock().rate = self._rate

    def next_deadline(self) -> float:
        remaining = self._trio.lowlevel.current_statistics().seconds_to_next_deadline
        return self._trio.current_time() + remaining

    def _clock(self) -> MockClock:
        from trio.testing import MockClock

        clock = self._trio.lowlevel.current_clock()
        if not isinstance(clock, MockClock):
            raise RuntimeError(
                "trio runs on a real clock: give the `anyio_backend` fixture "
                '("trio", {"clock": trio.testing.MockClock(rate=1.0)}), or use '
                "tailrace.testing.plugin, which does"
            )
        return clock
