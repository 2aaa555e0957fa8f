"""What the kit asks of the running event loop and anyio does not offer: rest, timers, threads.

The theory. On trio everything here is public. On asyncio two private attributes of the stock loop
are read, both unchanged since Python 3.4: `_ready`, the callbacks that wait for this turn, and
`_scheduled`, the heap of timers. anyio's own `wait_all_tasks_blocked` cannot be used there, since
between two looks it sleeps for 0.1 s by the very clock that a test has stopped.

At the moment a task comes back from `asyncio.sleep(0)`, the loop has just polled its selector and
moved the timers that are due: whatever can run is in `_ready`. If it is empty, every task waits.
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
        """The task that runs now; None in a bare callback."""

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Run a callback in the loop soon; may be called in any thread."""

    async def settle(self) -> bool:
        """Wait until every other task waits; tells whether any of them ran meanwhile."""

    def freeze(self) -> None:
        """Stop the loop's clock."""

    def move_to(self, time: float) -> None:
        """Set the stopped clock; what is due runs at the loop's next turn."""

    def thaw(self) -> None:
        """Let the clock go on from where it was moved to; it never goes back."""

    def next_deadline(self) -> float:
        """The time of the next timer; infinity when there is none."""


def running_loop() -> EventLoop:
    """The loop that runs in this thread.

    Raises:
        RuntimeError: none runs.
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
    # Asked first: a trio that is the guest of an asyncio loop has both running.
    if "trio" not in sys.modules:
        return False
    import trio

    return trio.lowlevel.in_trio_run()


_settling: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""How many tasks settle on a loop: each is always ready, and must not wait for the others."""


class _Asyncio:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Any: the private attributes, and `time`, which is replaced on the instance.
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
        # Forward to a whole second, so that what is added to it stays a plain number.
        self._now = float(math.ceil(self._loop.time()))
        self._loop.time = lambda: self._now  # type: ignore[method-assign]  # the whole trick

    def move_to(self, time: float) -> None:
        # The loop takes a timer as due one clock resolution (1 ns) early. After 194 days of
        # uptime a float of seconds is coarser than that, and a timer at this very instant would
        # wait for ever.
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
"""The tasks that settle on trio; what they do to find rest is not unrest to each other."""


class _Steps:
    """A trio instrument that sees whether a task ran."""

    def __init__(self) -> None:
        self.seen = False

    def before_task_step(self, task: object) -> None:
        self.seen = self.seen or task not in _settlers


class _Trio:
    def __init__(self) -> None:
        import trio

        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()  # here, since a thread could not ask
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
