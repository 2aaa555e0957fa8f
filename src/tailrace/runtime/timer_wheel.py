"""One timer for all that is waited for in an event loop: heartbeats, lifetimes, stalled clients.

Thousands of readers each have something due in some seconds, and a tenth of a second hardly ever
matters. So times are rounded up to the next tick, what is due at one tick is kept together, and the
loop has one timer: for the earliest tick. When something is sent, no timer is changed: a reader
whose tick comes too early names a later time when it is called.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Protocol

from anyio.lowlevel import RunVar

from tailrace import limits
from tailrace.runtime.loop import Loop, current_loop

__all__ = ["Timed", "TimerWheel", "timer_wheel"]

_TICK = 0.25
"""Seconds between two ticks, and so the longest delay of what is due."""


class Timed(Protocol):
    """Something that has times at which it is to be called."""

    tick: int
    """Which tick it waits for, 0 for none; kept by the wheel."""

    def on_tick(self, now: float) -> float:
        """Do what is due.

        Args:
            now: The loop's time.

        Returns:
            The time at which to be called next, `math.inf` for none.
        """


class TimerWheel:
    """What is due in one event loop, by ticks."""

    def __init__(self) -> None:
        self._loop: Loop = current_loop()
        self._due: dict[int, set[Timed]] = {}
        self._order: list[int] = []
        self._armed = 0
        self._turning = False
        self._disarm: Callable[[], None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def set(self, timed: Timed, when: float) -> None:
        """Call `on_tick` at a time, in place of what was set before; `math.inf`: not at all."""
        self.take_back(timed)
        if when == math.inf:
            return
        tick = max(1, math.ceil(when / _TICK))
        timed.tick = tick
        waiting = self._due.get(tick)
        if waiting is None:
            waiting = self._due[tick] = set()
            heapq.heappush(self._order, tick)
        waiting.add(timed)
        self._arm()

    def take_back(self, timed: Timed) -> None:
        """Do not call it any more."""
        tick, timed.tick = timed.tick, 0
        waiting = self._due.get(tick)
        if waiting is None:
            return
        waiting.discard(timed)
        if not waiting:
            del self._due[tick]  # its entry in the order is skipped later
            self._arm()

    def _arm(self) -> None:
        order, due = self._order, self._due
        while order and order[0] not in due:
            heapq.heappop(order)
        first = order[0] if order else 0
        if first == self._armed or self._turning:
            return
        if self._disarm is not None:
            self._disarm()
        self._armed = first
        self._disarm = self._loop.call_at(first * _TICK, self._turn) if first else None

    def _turn(self) -> None:
        """Call what is due; after `limits.TURN_BUDGET` seconds, the rest waits for another turn.

        If a call raises, what it was about is not called again, and the rest waits as well.
        """
        self._armed, self._disarm, self._turning = 0, None, True
        try:
            self._call_due()
        finally:
            self._turning = False
            self._arm()

    def _call_due(self) -> None:
        begun = now = self._loop.time()
        while self._order and self._order[0] * _TICK <= now:
            tick = self._order[0]
            waiting = self._due.get(tick)
            if waiting is None:
                heapq.heappop(self._order)
                continue
            timed = waiting.pop()
            if not waiting:
                del self._due[tick]
            timed.tick = 0
            # At the next tick at the earliest, or what is always due would be called for ever.
            self.set(timed, max(timed.on_tick(now), (tick + 1) * _TICK))
            now = self._loop.time()
            if now - begun > limits.TURN_BUDGET:
                break


def timer_wheel() -> TimerWheel:
    """The wheel of the event loop that runs now."""
    try:
        return _wheel.get()
    except LookupError:
        wheel = TimerWheel()
        _wheel.set(wheel)
        return wheel


_wheel: RunVar[TimerWheel] = RunVar("tailrace_wheel")
