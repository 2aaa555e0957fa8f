"""One timer for all: what is due comes, not before its time and not much later."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tailrace import limits
from tailrace.runtime.timer_wheel import TimerWheel, timer_wheel
from tailrace.testing import Clock, no_leaks

pytestmark = pytest.mark.anyio


class Bell:
    """Rings at its times, and notes when."""

    def __init__(self, *, every: float = math.inf) -> None:
        self.tick = 0
        self.rang: list[float] = []
        self.every = every
        self.begun = anyio.current_time()

    def on_tick(self, now: float) -> float:
        self.rang.append(now - self.begun)
        return now + self.every


async def test_what_is_due_comes_at_its_time_or_up_to_a_quarter_of_a_second_later(
    clock: Clock,
) -> None:
    wheel, bells = TimerWheel(), [Bell() for _ in range(40)]
    for at, bell in enumerate(bells):
        wheel.set(bell, anyio.current_time() + at * 0.1)
    await clock.advance(5)
    for at, bell in enumerate(bells):
        assert len(bell.rang) == 1
        assert at * 0.1 - 1e-6 <= bell.rang[0] <= at * 0.1 + 0.5
    assert len(wheel) == 0


async def test_what_is_taken_back_does_not_come(clock: Clock) -> None:
    wheel, bell, other = TimerWheel(), Bell(), Bell()
    wheel.set(bell, anyio.current_time() + 1)
    wheel.set(other, anyio.current_time() + 1)
    wheel.take_back(bell)
    await clock.advance(2)
    assert (bell.rang, len(other.rang)) == ([], 1)


async def test_a_new_time_takes_the_place_of_the_old_one(clock: Clock) -> None:
    wheel, bell = TimerWheel(), Bell()
    wheel.set(bell, anyio.current_time() + 1)
    wheel.set(bell, anyio.current_time() + 10)
    await clock.advance(9)
    assert bell.rang == []
    await clock.advance(2)
    assert len(bell.rang) == 1


async def test_it_comes_again_when_it_says_so(clock: Clock) -> None:
    wheel, bell = TimerWheel(), Bell(every=2.0)
    wheel.set(bell, anyio.current_time() + 2)
    await clock.advance(9)
    assert len(bell.rang) == 4
    wheel.take_back(bell)


async def test_what_is_always_due_does_not_keep_the_loop_busy(clock: Clock) -> None:
    wheel, bell = TimerWheel(), Bell(every=0.0)
    wheel.set(bell, anyio.current_time())
    await clock.advance(1)
    assert 3 <= len(bell.rang) <= 5
    wheel.take_back(bell)


async def test_an_earlier_time_comes_before_one_that_was_set_first(clock: Clock) -> None:
    wheel, late, early = TimerWheel(), Bell(), Bell()
    wheel.set(late, anyio.current_time() + 60)
    wheel.set(early, anyio.current_time() + 1)
    await clock.advance(2)
    assert (late.rang, len(early.rang)) == ([], 1)
    wheel.take_back(late)


async def test_what_is_due_can_be_taken_back_by_what_is_due_before_it(clock: Clock) -> None:
    wheel, later, last = TimerWheel(), Bell(), Bell()

    class TakesBack(Bell):
        def on_tick(self, now: float) -> float:
            wheel.take_back(later)
            return super().on_tick(now)

    first = TakesBack()
    await clock.advance(10)
    for bell, ago in ((first, 3), (later, 2), (last, 1)):  # one turn finds all three due
        wheel.set(bell, anyio.current_time() - ago)
    await clock.advance(1)
    assert (len(first.rang), later.rang, len(last.rang)) == (1, [], 1)
    assert len(wheel) == 0


async def test_what_takes_long_lets_the_loop_run_before_the_rest_is_called() -> None:
    wheel, went = TimerWheel(), list[str]()

    class Slow(Bell):
        def on_tick(self, now: float) -> float:
            went.append("slow")
            while anyio.current_time() <= now + limits.TURN_BUDGET:
                pass
            return super().on_tick(now)

    async def other() -> None:
        while went.count("slow") < 3:
            went.append("other")
            await anyio.lowlevel.checkpoint()

    for _ in range(3):
        wheel.set(Slow(), anyio.current_time())
    with anyio.fail_after(10):
        await other()
    first, second, third = (at for at, name in enumerate(went) if name == "slow")
    assert "other" in went[first:second]
    assert "other" in went[second:third]


async def test_nothing_is_left_of_what_was_taken_back(clock: Clock) -> None:
    async with no_leaks():
        wheel, bell = TimerWheel(), Bell()
        wheel.set(bell, anyio.current_time() + 60)
        wheel.take_back(bell)


async def test_there_is_one_in_each_event_loop() -> None:
    assert timer_wheel() is timer_wheel()


class PaperLoop:
    """A loop whose time the test sets, and whose timers it calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, _when: float, call: Callable[[], None]) -> Callable[[], None]:
        self.calls.append(call)
        return lambda: self.calls.remove(call)


class Broken(Bell):
    """Raises instead of ringing."""

    def on_tick(self, now: float) -> float:
        raise RuntimeError("broken")


async def test_what_raises_does_not_keep_the_others_from_being_called() -> None:
    wheel, loop = TimerWheel(), PaperLoop()
    paper: Any = loop
    wheel._loop = paper
    broken, bell, later = Broken(), Bell(), Bell()
    wheel.set(broken, 1)
    wheel.set(bell, 2)
    wheel.set(later, 60)
    loop.now = 2.0
    with pytest.raises(RuntimeError, match="broken"):
        loop.calls.pop()()
    assert not bell.rang
    loop.calls.pop()()
    assert len(bell.rang) == 1
    loop.now = 60.0
    loop.calls.pop()()
    assert len(later.rang) == 1
    assert len(wheel) == 0
