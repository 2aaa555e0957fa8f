"""The clock that a test moves, rest, and the one wait that is real."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from tailrace.testing import Clock, settle, wait_until

pytestmark = pytest.mark.anyio


async def test_a_long_sleep_ends_when_the_clock_is_moved_and_costs_no_time(clock: Clock) -> None:
    slept: list[float] = []

    async def sleep() -> None:
        await anyio.sleep(30)
        slept.append(clock.time)

    before = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(sleep)
        await clock.advance(29.999)
        assert slept == []
        await clock.advance(0.001)
        assert slept == [30.0]
    assert time.monotonic() - before < 5


async def test_timers_fire_in_their_order_and_at_their_times(clock: Clock) -> None:
    fired: list[tuple[str, float]] = []

    async def sleep(name: str, *seconds: float) -> None:
        for each in seconds:
            await anyio.sleep(each)
            fired.append((name, clock.time))

    async with anyio.create_task_group() as group:
        group.start_soon(sleep, "a", 3, 3)
        group.start_soon(sleep, "b", 1, 4)
        group.start_soon(sleep, "c", 0.1, 0.1)
        await clock.advance(10)
    assert fired == [("c", 0.1), ("c", 0.2), ("b", 1), ("a", 3), ("b", 5), ("a", 6)]
    assert clock.time == 10


async def test_a_timer_that_a_timer_sets_fires_within_the_same_advance(clock: Clock) -> None:
    beats: list[float] = []

    async def beat() -> None:
        while True:
            await anyio.sleep(15)
            beats.append(clock.time)

    async with anyio.create_task_group() as group:
        group.start_soon(beat)
        await clock.advance(46)
        group.cancel_scope.cancel()
    assert beats == [15, 30, 45]


async def test_time_stands_still_until_it_is_moved(clock: Clock) -> None:
    start = anyio.current_time()
    time.sleep(0.002)  # noqa: ASYNC251 - real time must pass, to see that it does not count
    await anyio.lowlevel.checkpoint()
    assert anyio.current_time() == start
    assert clock.time == 0
    await clock.advance(0)
    assert clock.time == 0


async def test_a_timeout_fires_on_a_moved_clock(clock: Clock) -> None:
    expired: list[bool] = []

    async def wait() -> None:
        with anyio.move_on_after(5) as scope:
            await anyio.sleep_forever()
        expired.append(scope.cancelled_caught)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await clock.advance(5)
        assert expired == [True]


async def test_a_timeout_that_was_not_reached_does_not_fire_later(clock: Clock) -> None:
    async with anyio.create_task_group() as group:

        async def in_time() -> None:
            with anyio.fail_after(5):
                await anyio.sleep(4)

        group.start_soon(in_time)
        await clock.advance(100)


async def test_settle_lets_everything_run_that_can(clock: Clock) -> None:
    steps: list[int] = []
    events = [anyio.Event() for _ in range(50)]

    async def relay(number: int) -> None:
        await events[number].wait()
        await anyio.lowlevel.checkpoint()
        steps.append(number)
        if number + 1 < len(events):
            events[number + 1].set()

    async with anyio.create_task_group() as group:
        for number in range(len(events)):
            group.start_soon(relay, number)
        await clock.settle()
        assert steps == []
        events[0].set()
        await clock.settle()
        assert steps == list(range(50))


async def test_settle_needs_no_clock() -> None:
    steps: list[str] = []

    async def work() -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        steps.append("done")

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await settle()
        assert steps == ["done"]


async def test_several_tasks_may_settle_at_once(clock: Clock) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(settle)
        await clock.settle()


@pytest.mark.linux  # elsewhere the kernel does not tell whether a thread runs
async def test_settle_waits_for_a_thread_that_runs(clock: Clock) -> None:
    lines: list[bytes] = []

    def work() -> None:
        for number in range(2000):
            anyio.from_thread.run_sync(lines.append, b"%d" % number)

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, work)
        await clock.settle()
        assert len(lines) == 2000


async def test_a_step_of_the_clock_waits_for_the_threads_that_it_sets_off(clock: Clock) -> None:
    times: list[float] = []

    async def each_second() -> None:
        for _ in range(5):
            await anyio.sleep(1)
            await anyio.to_thread.run_sync(sum, range(100_000))
            times.append(clock.time)

    async with anyio.create_task_group() as group:
        group.start_soon(each_second)
        await clock.advance(5)
        assert times == [1, 2, 3, 4, 5]


async def test_settle_leaves_a_thread_alone_that_never_stops(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.testing.clock._PATIENCE", 0.02)
    stop: list[bool] = []

    def work() -> None:
        while not stop:
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, work)
        await clock.settle()
        stop.append(True)


async def test_settle_and_advance_return_while_a_thread_blocks(clock: Clock) -> None:
    release = threading.Event()
    done: list[bool] = []

    async def work() -> None:
        await anyio.to_thread.run_sync(release.wait, 10)
        done.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await clock.settle()
        await clock.advance(60)
        assert done == []
        release.set()
        await wait_until(lambda: done)


async def test_a_thread_may_come_back_into_a_loop_whose_clock_stands_still(clock: Clock) -> None:
    def work() -> float:
        return anyio.from_thread.run_sync(lambda: clock.time)

    await clock.advance(2)
    assert await anyio.to_thread.run_sync(work) == 2


async def test_wait_until_gives_up_in_real_time(clock: Clock) -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        await wait_until(lambda: False, timeout=0.01)


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
async def test_the_clock_does_not_go_back_nor_to_the_end_of_time(
    clock: Clock, seconds: float
) -> None:
    with pytest.raises(ValueError, match="out of range"):
        await clock.advance(seconds)


async def test_a_clock_outside_its_block_says_how_to_use_it() -> None:
    with pytest.raises(RuntimeError, match="in `with Clock"):
        await Clock().advance(1)


async def test_after_the_block_time_goes_on_from_where_it_was() -> None:
    with Clock() as clock:
        await clock.advance(1000)
        inside = anyio.current_time()
    assert 0 <= anyio.current_time() - inside < 100
    await anyio.sleep(0.001)
    assert anyio.current_time() > inside


async def test_without_the_fixture_time_is_real() -> None:
    before = time.monotonic()
    await anyio.sleep(0.005)
    assert time.monotonic() - before >= 0.004


class _Everlasting(asyncio.SelectorEventLoop):
    """A loop whose machine has been up for years, where floats are coarser than a nanosecond."""

    def time(self) -> float:
        return super().time() + 2.0**32


def test_timers_fire_exactly_also_after_years_of_uptime() -> None:
    async def main() -> list[float]:
        fired: list[float] = []

        async def sleep() -> None:
            for _ in range(3):
                await anyio.sleep(0.1)
                fired.append(round(clock.time, 3))

        with Clock() as clock:
            async with anyio.create_task_group() as group:
                group.start_soon(sleep)
                await clock.advance(1)
        return fired

    options = {"loop_factory": _Everlasting}
    assert anyio.run(main, backend_options=options) == [0.1, 0.2, 0.3]


def test_trio_on_its_real_clock_is_refused_with_what_to_do() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="MockClock"), Clock():
            pass

    anyio.run(main, backend="trio")


def test_a_loop_that_keeps_its_own_time_is_refused_but_can_settle() -> None:
    steps: list[str] = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        steps.append("done")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="cannot be moved"), Clock():
            pass
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await settle()
            assert steps == ["done"]

    options: dict[str, Any] = {"use_uvloop": True}
    anyio.run(main, backend_options=options)
