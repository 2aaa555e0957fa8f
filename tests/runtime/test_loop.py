from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
import trio

from tailrace.runtime import CancelOnce, Loop, current_loop
from tailrace.testing import Clock, settle, wait_until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Loop, anyio.abc.TaskGroup]]:
    async with anyio.create_task_group() as group:
        yield current_loop(group), group
        group.cancel_scope.cancel()


# The signal --------------------------------------------------------------------------------------


async def test_a_signal_that_was_set_before_is_not_waited_for() -> None:
    async with running() as (loop, _):
        signal = loop.signal()
        signal.set()
        signal.set()
        await signal.wait()


async def test_a_signal_wakes_who_waits_once_for_each_time() -> None:
    woken = 0

    async def wait() -> None:
        nonlocal woken
        while True:
            await signal.wait()
            woken += 1

    async with running() as (loop, group):
        signal = loop.signal()
        group.start_soon(wait)
        for times in range(3):
            await settle()
            assert woken == times
            signal.set()
        await settle()
        assert woken == 3


async def test_a_signal_that_comes_together_with_a_cancellation_is_not_lost() -> None:
    async with running() as (loop, _):
        signal = loop.signal()
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(signal.wait)
            await settle()
            waiting.cancel_scope.cancel()
            signal.set()
        with anyio.fail_after(10):
            await signal.wait()


async def test_a_signal_can_be_waited_for_after_a_wait_was_cancelled() -> None:
    async with running() as (loop, group):
        signal = loop.signal()
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(signal.wait)
            await settle()
            waiting.cancel_scope.cancel()
        group.start_soon(asyncio_or_trio_set, signal)
        with anyio.fail_after(10):
            await signal.wait()


async def asyncio_or_trio_set(signal: Any) -> None:
    signal.set()


# Time --------------------------------------------------------------------------------------------


async def test_its_time_is_that_of_timers(clock: Clock) -> None:
    async with running() as (loop, _):
        before = loop.time()
        await clock.advance(2.5)
        assert loop.time() - before == pytest.approx(2.5)


async def test_a_call_comes_at_its_time(clock: Clock) -> None:
    calls: list[float] = []
    async with running() as (loop, _):
        loop.call_at(loop.time() + 2, lambda: calls.append(clock.time))
        await clock.advance(1.9)
        assert calls == []
        await clock.advance(5)
    assert calls == [2.0]


async def test_a_call_can_be_taken_back(clock: Clock) -> None:
    calls: list[float] = []
    async with running() as (loop, _):
        take_back = loop.call_at(loop.time() + 2, lambda: calls.append(clock.time))
        await clock.advance(1)
        take_back()
        await clock.advance(5)
        take_back()
    assert calls == []


async def test_a_call_whose_time_is_over_comes_at_once(clock: Clock) -> None:
    calls: list[float] = []
    async with running() as (loop, _):
        loop.call_at(loop.time() - 1, lambda: calls.append(clock.time))
        await clock.settle()
        assert calls == [0.0]


# Threads -----------------------------------------------------------------------------------------


async def test_a_call_from_a_thread_runs_in_the_loops_thread_in_order() -> None:
    calls: list[tuple[int, int]] = []
    async with running() as (loop, _):

        def work() -> None:
            for number in range(3):
                loop.call_from_thread(
                    lambda number=number: calls.append((number, threading.get_ident()))  # type: ignore[misc] # a call
                )

        threading.Thread(target=work, daemon=True).start()
        await wait_until(lambda: len(calls) == 3)
    assert calls == [(number, threading.get_ident()) for number in range(3)]


async def test_a_call_from_a_thread_may_start_a_task() -> None:
    ran = anyio.Event()

    async def run() -> None:
        ran.set()

    async with running() as (loop, group):
        call = partial(group.start_soon, run)
        thread = threading.Thread(target=loop.call_from_thread, args=(call,))
        thread.start()
        with anyio.fail_after(10):
            await ran.wait()
        thread.join()


def test_a_call_from_a_thread_to_a_loop_that_is_gone_is_nothing(anyio_backend: Any) -> None:
    loops: list[Loop] = []

    async def leave() -> None:
        async with running() as (loop, _):
            loops.append(loop)

    backend, options = anyio_backend
    anyio.run(leave, backend=backend, backend_options=options)
    loops[0].call_from_thread(lambda: pytest.fail("there is no loop to run this"))


def test_a_thread_that_asks_a_loop_that_is_gone_is_told_so(anyio_backend: Any) -> None:
    loops: list[Loop] = []

    async def leave() -> None:
        async with running() as (loop, _):
            loops.append(loop)

    async def never() -> None:
        pytest.fail("there is no loop to run this")

    backend, options = anyio_backend
    anyio.run(leave, backend=backend, backend_options=options)
    gone = {"asyncio": RuntimeError, "trio": trio.RunFinishedError}[backend]
    with pytest.raises(gone):
        loops[0].run_from_thread(never)
    with pytest.raises(gone):
        loops[0].ask_from_thread(lambda: pytest.fail("there is no loop to run this"))


# Interrupts --------------------------------------------------------------------------------------


async def test_a_block_that_waits_ends_at_once_and_what_follows_it_runs() -> None:
    went: list[str] = []
    async with running() as (loop, group):
        once = loop.cancel_once()

        async def work() -> None:
            with once:
                await anyio.sleep_forever()
                went.append("never")
            await anyio.sleep(0)
            went.append("after")

        group.start_soon(work)
        await settle()
        once.cancel()
        await settle()
    assert went == ["after"]
    assert once.cancelled


async def test_a_block_that_was_not_cancelled_says_so() -> None:
    async with running() as (loop, _):
        with loop.cancel_once() as once:
            await anyio.sleep(0)
    assert not once.cancelled


async def test_a_cancel_after_the_block_does_nothing_to_its_task() -> None:
    async with running() as (loop, _):
        with loop.cancel_once() as once:
            await anyio.sleep(0)
        once.cancel()
        await anyio.sleep(0)


async def test_a_task_that_cancels_itself_and_does_not_wait_goes_on_behind_the_block() -> None:
    async with running() as (loop, _):
        with loop.cancel_once() as once:
            once.cancel()
        await anyio.sleep(0)
        await anyio.sleep(0.001)
    assert once.cancelled


async def test_a_task_that_cancels_itself_is_cancelled_where_it_waits_next() -> None:
    went: list[str] = []
    async with running() as (loop, _):
        with loop.cancel_once() as once:
            once.cancel()
            await anyio.sleep(0)
            went.append("never")
        await anyio.sleep(0)
    assert went == []


async def test_an_error_in_a_block_comes_out() -> None:
    async with running() as (loop, _):
        with pytest.raises(LookupError), loop.cancel_once():
            raise LookupError


async def test_an_error_in_the_cleanup_of_a_cancelled_block_comes_out() -> None:
    errors: list[BaseException] = []
    async with running() as (loop, group):
        once = loop.cancel_once()

        async def work() -> None:
            try:
                with once:
                    try:
                        await anyio.sleep_forever()
                    finally:
                        raise LookupError("no such table")
            except LookupError as error:
                errors.append(error)
            await anyio.sleep(0)
            errors.append(StopIteration())

        group.start_soon(work)
        await settle()
        once.cancel()
        await settle()
    assert [type(error) for error in errors] == [LookupError, StopIteration]


async def test_a_cancellation_from_outside_goes_on_through_a_block() -> None:
    went: list[str] = []
    async with running() as (loop, _):
        async with anyio.create_task_group() as group:

            async def work() -> None:
                with loop.cancel_once():
                    await anyio.sleep_forever()
                went.append("never")

            group.start_soon(work)
            await settle()
            group.cancel_scope.cancel()
    assert went == []


async def test_a_cancellation_together_with_an_interrupt_goes_on() -> None:
    went: list[str] = []
    async with running() as (loop, _):
        once = loop.cancel_once()
        async with anyio.create_task_group() as group:

            async def work() -> None:
                with once:
                    await anyio.sleep_forever()
                await anyio.sleep(0)
                went.append("never")

            group.start_soon(work)
            await settle()
            once.cancel()
            group.cancel_scope.cancel()
    assert went == []


async def _interrupted(once: CancelOnce, group: anyio.abc.TaskGroup, work: Any) -> None:
    group.start_soon(work)
    await settle()
    once.cancel()
    once.cancel()
    await settle()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_on_asyncio_what_an_interrupted_source_awaits_in_its_finally_runs() -> None:
    cleaned: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await asyncio.sleep(0)
            cleaned.append("cleaned")

    async with running() as (loop, group):
        once = loop.cancel_once()

        async def work() -> None:
            with once:
                async for _ in source():
                    pass

        await _interrupted(once, group, work)
    assert cleaned == ["cleaned"]


async def test_what_a_source_shields_in_its_finally_runs_everywhere() -> None:
    cleaned: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep(1000)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0)
                cleaned.append("cleaned")

    async with running() as (loop, group):
        once = loop.cancel_once()

        async def work() -> None:
            with once:
                async for _ in source():
                    pass

        await _interrupted(once, group, work)
    assert cleaned == ["cleaned"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_block_leaves_no_cancellation_behind_in_its_task() -> None:
    async with running() as (loop, group):
        once = loop.cancel_once()
        counts: list[int] = []

        async def work() -> None:
            with once:
                await asyncio.sleep(1000)
            task = asyncio.current_task()
            assert task is not None
            counts.append(task.cancelling())

        await _interrupted(once, group, work)
    assert counts == [0]
