from __future__ import annotations

import asyncio
import io
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest
import trio

from tailrace import limits
from tailrace.errors import SourceExited
from tailrace.runtime import Threads, current_loop, threads
from tailrace.runtime.threads import Job
from tailrace.source import AsyncSource, SyncSource, iterate_in_threads, open_source, sync
from tailrace.testing import Clock, SourceProbe, settle, wait_until
from tests.source.gathered import Gathered, gather, run

pytestmark = pytest.mark.anyio


def numbers() -> Iterator[int]:
    yield from range(3)


async def anumbers() -> AsyncIterator[int]:
    for number in range(3):
        yield number


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Threads:
    """A set of one thread for sync sources, which only this test uses."""
    pool = Threads("tailrace-test", "tests", 1)
    monkeypatch.setattr(sync, "source_threads", pool)
    return pool


# What can be opened ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [numbers, anumbers, lambda: [0, 1, 2], lambda: range(3)])
async def test_whatever_can_be_iterated_gives_its_items_in_order(make: Callable[[], Any]) -> None:
    assert await gather(open_source(make())) == [0, 1, 2]


@pytest.mark.parametrize("content", ["abc", b"abc", bytearray(b"abc"), memoryview(b"abc")])
async def test_a_text_is_one_item(content: Any) -> None:
    assert await gather(open_source(content)) == [content]


async def test_a_generator_that_has_the_name_of_fastapis_wrapper_is_no_wrapper() -> None:
    async def _async_stream_raw(async_gen: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in async_gen:
            yield number * 2

    assert await gather(open_source(_async_stream_raw(anumbers()))) == [0, 2, 4]


async def test_a_file_that_was_closed_raises_that_it_was() -> None:
    file = io.BytesIO(b"a")
    file.close()
    assert not sync.is_rewindable(file)
    with pytest.raises(ValueError, match="closed file"):
        await gather(open_source(file))


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trios_channel_is_closed_only_if_nobody_can_send_into_it_any_more() -> None:
    send, receive = trio.open_memory_channel[int](3)
    source = AsyncSource(receive)
    await source.close()
    await send.send(1)  # the sender, which is not part of the source, is not disturbed
    await send.aclose()
    assert await gather(source) == [1]
    with pytest.raises(trio.ClosedResourceError):
        await receive.receive()


class Both:
    """Both a sync and an async iterable."""

    def __iter__(self) -> Iterator[str]:
        return iter(["sync"])

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "async"


async def test_what_is_iterable_in_both_ways_is_iterated_asynchronously() -> None:
    assert await gather(open_source(Both())) == ["async"]


class Futures:
    """An iterator whose `__anext__` is a plain function: it ends without an awaitable."""

    def __init__(self) -> None:
        self.left = 3

    def __aiter__(self) -> Futures:
        return self

    def __anext__(self) -> Awaitable[int]:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self._item()

    async def _item(self) -> int:
        return 2 - self.left


async def test_an_iterator_may_end_before_it_gives_an_awaitable() -> None:
    assert await gather(open_source(Futures())) == [0, 1, 2]


async def test_what_cannot_be_iterated_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match="not int: give it a generator, or a list of chunks"):
        open_source(5)


async def test_opening_starts_nothing() -> None:
    for make in (numbers, anumbers):
        probe = SourceProbe()
        source = open_source(probe.watch(make()))
        assert not probe.started.is_set()
        await source.close()


# Closing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [numbers, anumbers])
async def test_a_source_that_never_began_is_closed(make: Callable[[], Any]) -> None:
    probe = SourceProbe()
    await open_source(probe.watch(make())).close()
    assert probe.closed.is_set()


@pytest.mark.parametrize("content", [[1], range(3), map(str, [1])])
async def test_what_has_no_close_needs_none(content: Any) -> None:
    await open_source(content).close()
    source = open_source(content)
    await run(source, Gathered())
    await source.close()


class Rows:
    """An iterable whose iterators are generators, a new one each time."""

    def __init__(self, probe: SourceProbe) -> None:
        self._probe = probe

    def __iter__(self) -> Iterator[int]:
        with self._probe.inside():
            yield from range(3)


class AsyncRows:
    """As `Rows`, for `async for`."""

    def __init__(self, probe: SourceProbe) -> None:
        self._probe = probe

    async def __aiter__(self) -> AsyncIterator[int]:
        with self._probe.inside():
            for number in range(3):
                yield number


@pytest.mark.parametrize("make", [Rows, AsyncRows])
async def test_the_iterator_that_was_made_is_what_is_closed(make: Any) -> None:
    probe = SourceProbe()
    source = open_source(make(probe))
    sink = Gathered(full_after=1)
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, sink)
        await wait_until(lambda: sink.waits)
        group.cancel_scope.cancel()
    assert sink.items == [0]
    await source.close()
    assert probe.how == "closed"


def failing_at_close() -> Iterator[int]:
    try:
        yield 1
        yield 2
    finally:
        raise LookupError("no such table")


async def afailing_at_close() -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        raise LookupError("no such table")


@pytest.mark.parametrize("make", [failing_at_close, afailing_at_close])
async def test_an_error_in_the_cleanup_is_raised_by_close(make: Callable[[], Any]) -> None:
    source = open_source(make())
    sink = Gathered(full_after=1)
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, sink)
        await wait_until(lambda: sink.waits)
        group.cancel_scope.cancel()
    with pytest.raises(LookupError, match="no such table"):
        await source.close()


# Asynchronous sources ----------------------------------------------------------------------------


async def test_it_is_iterated_and_closed_in_the_task_that_runs_it() -> None:
    probe = SourceProbe()
    assert await gather(open_source(probe.watch(anumbers()))) == [0, 1, 2]
    assert probe.same_task
    assert probe.same_context


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio, sleep(0) is like any other wait
async def test_one_sleep_of_zero_for_each_item_costs_no_turn_of_the_loop() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def polite() -> AsyncIterator[int]:
        for number in range(1000):
            yield number
            await asyncio.sleep(0)

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        items = await gather(open_source(polite()))
        group.cancel_scope.cancel()
    assert len(items) == 1000
    assert turns < 500


async def test_a_source_that_polls_by_sleeping_zero_lets_others_run() -> None:
    ready = False

    async def make_ready() -> None:
        nonlocal ready
        ready = True

    async def polling() -> AsyncIterator[str]:
        while not ready:
            await anyio.sleep(0)
        yield "ready"

    async with anyio.create_task_group() as group:
        group.start_soon(make_ready)
        with anyio.fail_after(10):
            assert await gather(open_source(polling())) == ["ready"]


async def test_an_endless_source_that_never_waits_lets_others_run() -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "x"

    sink = Gathered()
    source = open_source(endless())
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, sink)
        await anyio.sleep(0)
        await anyio.sleep(0)
        group.cancel_scope.cancel()
    await source.close()
    assert sink.items


async def test_it_waits_when_the_sink_is_full() -> None:
    sink = Gathered(full_after=2)
    async with anyio.create_task_group() as group:
        group.start_soon(run, open_source(anumbers()), sink)
        await settle()
        assert sink.items == [0, 1]
        sink.make_room()
    assert sink.items == [0, 1, 2]


class Awaiting:
    """An async iterator that is not a generator. Its steps are the awaitables of `make`."""

    def __init__(self, make: Callable[[int], Awaitable[Any]]) -> None:
        self._make = make
        self._given = 0

    def __aiter__(self) -> Awaiting:
        return self

    def __anext__(self) -> Awaitable[Any]:
        self._given += 1
        return self._make(self._given)


class Step:
    """An awaitable that is not a coroutine: it waits once and gives a number; after two it ends."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __await__(self) -> Generator[Any, Any, int]:
        yield from anyio.sleep(0).__await__()
        if self._number > 2:
            raise StopAsyncIteration
        return self._number


async def test_awaitables_of_ones_own_are_waited_for() -> None:
    assert await gather(open_source(Awaiting(Step))) == [1, 2]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_futures_are_waited_for() -> None:
    loop = asyncio.get_running_loop()

    def step(number: int) -> asyncio.Future[int]:
        future: asyncio.Future[int] = loop.create_future()
        if number > 2:
            loop.call_soon(future.set_exception, StopAsyncIteration())
        elif number > 1:
            loop.call_soon(future.set_result, number)
        else:
            future.set_result(number)
        return future

    assert await gather(open_source(Awaiting(step))) == [1, 2]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_error_of_the_source_is_raised(waits: bool) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        if waits:
            await anyio.sleep(0)
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        await gather(open_source(failing()))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_timeout_works_inside_a_source(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(5):
                yield "before"
                await asyncio.sleep(10)
        except TimeoutError:
            yield f"timed out at {clock.time}"
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        yield "after"

    await _takes(clock, 6, source(), ["before", "timed out at 5.0", "after"])


async def test_fail_after_works_inside_a_source(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        try:
            with anyio.fail_after(5):
                yield "before"
                await anyio.sleep(10)
        except TimeoutError:
            yield f"timed out at {clock.time}"
        with anyio.move_on_after(1) as scope:
            await anyio.sleep(10)
        yield f"moved on: {scope.cancelled_caught}"

    await _takes(clock, 6, source(), ["before", "timed out at 5.0", "moved on: True"])


async def test_a_task_group_works_inside_a_source(clock: Clock) -> None:
    async def source() -> AsyncIterator[int]:
        send, receive = anyio.create_memory_object_stream[int](1)

        async def produce() -> None:
            async with send:
                for number in range(3):
                    await anyio.sleep(1)
                    await send.send(number)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            async for number in receive:
                yield number

    await _takes(clock, 3, source(), [0, 1, 2])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_task_group_works_inside_a_source() -> None:
    async def source() -> AsyncIterator[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
            for task in tasks:
                yield await task

    assert await gather(open_source(source())) == [0, 1, 2]


async def _takes(clock: Clock, seconds: float, source: Any, items: list[Any]) -> None:
    """Check that the source gives these items within so many seconds of the clock."""
    got: list[Any] = []

    async def take() -> None:
        got.extend(await gather(open_source(source)))

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await clock.advance(seconds)
        assert got == items


# Synchronous sources -----------------------------------------------------------------------------

request_id: ContextVar[str] = ContextVar("request_id")


async def test_it_runs_in_a_thread() -> None:
    sink = Gathered()
    source = open_source(numbers())
    await run(source, sink)
    await source.close()
    assert threading.get_ident() not in sink.places


async def test_it_runs_and_closes_in_one_copy_of_the_callers_context() -> None:
    seen: list[str] = []

    def source() -> Iterator[int]:
        try:
            seen.append(request_id.get())
            request_id.set("changed")
            yield 1
            seen.append(request_id.get())
            yield 2
        finally:
            seen.append(request_id.get())

    request_id.set("7")
    sink = Gathered(full_after=2)
    opened = open_source(source())
    async with anyio.create_task_group() as group:
        group.start_soon(run, opened, sink)
        await wait_until(lambda: sink.waits)
        group.cancel_scope.cancel()
    await opened.close()
    assert seen == ["7", "changed", "changed"]
    assert request_id.get() == "7"


async def test_a_thread_is_given_back_while_there_is_no_room(pool: Threads) -> None:
    sink = Gathered(full_after=1)
    source = open_source(numbers())
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, sink)
        await wait_until(lambda: sink.waits)
        await wait_until(lambda: pool.busy == 0)
        assert sink.items == [0]
        sink.make_room()
    assert sink.items == [0, 1, 2]
    await source.close()


async def test_an_error_in_the_thread_is_raised_in_the_task() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise LookupError("no such table")

    source = SyncSource(failing())
    async with anyio.create_task_group() as group:
        with pytest.raises(LookupError):
            await source.run(Gathered(), current_loop(group))
    await source.close()


class Blocking:
    """An iterator whose second step blocks until the test lets it go on."""

    def __init__(self, then: Exception | None = None, at_close: Exception | None = None) -> None:
        self.blocks = threading.Event()
        self.go_on = threading.Event()
        self.may_close = threading.Event()
        self.may_close.set()
        self.closed_in: int | None = None
        self._then = then
        self._at_close = at_close
        self._given = 0

    def __iter__(self) -> Blocking:
        return self

    def __next__(self) -> int:
        self._given += 1
        if self._given > 1:
            self.blocks.set()
            self.go_on.wait(10)
            if self._then is not None:
                raise self._then
        return self._given

    def close(self) -> None:
        self.may_close.wait(10)
        self.closed_in = threading.get_ident()
        if self._at_close is not None:
            raise self._at_close


async def abandoned(content: Blocking) -> SyncSource:
    """A source whose run was cancelled while it blocks."""
    source = SyncSource(content)
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, Gathered())
        await wait_until(content.blocks.is_set)
        group.cancel_scope.cancel()
    return source


async def closing(content: Blocking, source: SyncSource) -> None:
    """Close a source that blocks, and then let it go on."""
    async with anyio.create_task_group() as group:

        async def let_go() -> None:
            await settle()
            assert content.closed_in is None
            content.go_on.set()

        group.start_soon(let_go)
        await source.close()


async def test_one_that_blocks_is_closed_in_its_thread_as_soon_as_it_returns() -> None:
    content = Blocking()
    await closing(content, await abandoned(content))
    assert content.closed_in not in (None, threading.get_ident())


async def test_one_that_blocks_is_closed_even_if_nobody_waits_for_it_any_more() -> None:
    content = Blocking()
    source = await abandoned(content)
    async with anyio.create_task_group() as group:
        group.start_soon(source.close)
        await settle()
        group.cancel_scope.cancel()
    content.go_on.set()
    await wait_until(lambda: content.closed_in)


@pytest.mark.parametrize("moment", ["then", "at_close"])
async def test_an_error_of_one_that_blocked_is_raised_by_close(moment: str) -> None:
    content = Blocking(**{moment: LookupError("no such table")})
    source = await abandoned(content)
    with pytest.raises(ExceptionGroup) as caught:
        await closing(content, source)
    assert caught.value.subgroup(LookupError) is not None
    assert content.closed_in is not None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio wakes a task for one reason only
async def test_closing_is_waited_for_when_the_last_job_ended_in_the_moment_of_the_interrupt(
    pool: Threads,
) -> None:
    content = Blocking()
    content.may_close.clear()
    source = SyncSource(content)
    async with anyio.create_task_group() as group:
        loop = current_loop(group)
        once = loop.cancel_once()
        returned = anyio.Event()

        async def work() -> None:
            with once:
                await source.run(Gathered(full_after=2), loop)
            await source.close()
            returned.set()

        group.start_soon(work)
        await wait_until(content.blocks.is_set)
        content.go_on.set()
        while pool.busy:  # the loop stands still, so it gets the thread's call after this
            pass
        asyncio.get_running_loop().call_soon(once.cancel)
        await settle()
        returned_early = returned.is_set()
        content.may_close.set()
    assert not returned_early
    assert content.closed_in is not None


@pytest.mark.parametrize("count", [1, 3])
async def test_one_that_waits_in_line_for_a_thread_is_closed_without_one(
    pool: Threads, count: int
) -> None:
    content = Blocking()
    blocked = await abandoned(content)
    probes = [SourceProbe() for _ in range(count)]
    sources = [SyncSource(probe.watch(numbers())) for probe in probes]
    async with anyio.create_task_group() as group:
        for source in sources:
            group.start_soon(run, source, Gathered())
        await settle()
        group.cancel_scope.cancel()
    with anyio.move_on_after(0.05):
        for source in sources:
            await source.close()
    assert [probe.closed.is_set() for probe in probes] == [True] * count
    assert not any(probe.started.is_set() for probe in probes)
    await closing(content, blocked)
    await wait_until(lambda: pool.busy == 0)


class CountedThreads(Threads):
    """A set of one thread, which counts its jobs."""

    def __init__(self) -> None:
        super().__init__("tailrace-test", "tests", 1)
        self._given = 0
        self._changed = threading.Condition()

    def submit(self, job: Job, *, first: bool = False) -> bool:
        at_once = super().submit(job, first=first)
        with self._changed:
            self._given += 1
            self._changed.notify_all()
        return at_once

    def wait_until_given(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._given >= count, 10)


async def test_when_others_wait_each_source_has_a_turn_after_an_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TURN_BUDGET", 0.0)  # a turn ends after one item, if others wait
    pool = CountedThreads()
    order: list[str] = []

    def source(name: str) -> Iterator[int]:
        for number in range(3):
            pool.wait_until_given(len(order) + 2)  # the other one waits in line
            order.append(name)
            yield number

    async with anyio.create_task_group() as group:
        group.start_soon(run, open_source(source("a"), pool), Gathered())
        await anyio.to_thread.run_sync(pool.wait_until_given, 1)
        group.start_soon(run, open_source(source("b"), pool), Gathered())
    assert "".join(order) == "ababab"


async def test_a_source_that_waits_for_a_thread_says_so_and_when_it_has_begun(
    pool: Threads,
) -> None:
    go_on = threading.Event()
    pool.submit(partial(go_on.wait, 10))  # type: ignore[arg-type] # what it gives is not looked at
    sink = Gathered()
    async with anyio.create_task_group() as group:
        group.start_soon(run, open_source(numbers()), sink)
        await wait_until(lambda: sink.line)
        assert sink.line == [True]
        go_on.set()
    await wait_until(lambda: len(sink.line) == 2)
    assert sink.line == [True, False]
    assert sink.items == [0, 1, 2]


async def test_a_source_that_has_a_thread_at_once_says_nothing(pool: Threads) -> None:
    sink = Gathered()
    await run(open_source(numbers()), sink)
    assert sink.line == []


# One thread --------------------------------------------------------------------------------------


async def test_a_pinned_source_runs_and_is_closed_in_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Threads("tailrace-test", "tests", 2)
    monkeypatch.setattr(sync, "source_threads", pool)
    seen: list[int] = []

    def rows() -> Iterator[Any]:
        seen.append(threading.get_ident())
        base = sqlite3.connect(":memory:")  # it refuses other threads
        try:
            yield from base.execute("values (1), (2), (3)")
        finally:
            base.close()
            seen.append(threading.get_ident())

    sink = Gathered(full_after=1)
    source = SyncSource(rows())
    source.pin_thread()
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, sink)
        await wait_until(lambda: sink.waits)
        with Busy(pool):  # so that it cannot get the same thread by chance
            assert pool.busy == 2
        sink.make_room()
    assert sink.items == [(1,), (2,), (3,)]
    await source.close()
    await wait_until(lambda: pool.busy == 0)
    assert len(set(seen)) == 1


class Busy:
    """Keeps one thread of a set busy while the block runs."""

    def __init__(self, pool: Threads) -> None:
        self._pool = pool
        self._go_on = threading.Event()

    def __enter__(self) -> None:
        begun = threading.Event()

        def job() -> None:
            begun.set()
            self._go_on.wait(10)

        self._pool.submit(job)
        assert begun.wait(10)

    def __exit__(self, *_: object) -> None:
        self._go_on.set()


async def test_a_pinned_source_gives_its_thread_back_however_it_ends(pool: Threads) -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise LookupError("no such table")

    source = SyncSource(failing())
    source.pin_thread()
    with pytest.raises(LookupError):
        await run(source, Gathered())
    await source.close()
    await wait_until(lambda: pool.busy == 0)

    probe = SourceProbe()
    source = SyncSource(probe.watch(numbers()))
    source.pin_thread()
    sink = Gathered(full_after=1)
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, sink)
        await wait_until(lambda: sink.waits)
        group.cancel_scope.cancel()
    await source.close()
    assert probe.how == "closed"
    await wait_until(lambda: pool.busy == 0)


@pytest.mark.parametrize("error", [None, LookupError("no"), SystemExit(1)])
async def test_one_that_has_begun_is_closed_though_the_system_has_no_thread_left(
    pool: Threads, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.0)
    begun: list[threading.Thread] = []
    closed: list[threading.Thread] = []

    def rows() -> Iterator[int]:
        begun.append(threading.current_thread())
        try:
            yield 1
        finally:
            closed.append(threading.current_thread())
            if error is not None:
                raise error

    source, sink = SyncSource(rows()), Gathered(full_after=1)
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, sink)
        await wait_until(lambda: sink.waits)
        group.cancel_scope.cancel()
    begun[0].join(10)
    before = threading.stack_size()
    threading.stack_size(1 << 46)  # more than any address space: the system refuses
    try:
        with nullcontext() if error is None else pytest.raises((LookupError, SourceExited)):
            await source.close()
    finally:
        threading.stack_size(before)
    assert closed == [threading.current_thread()]


# As an asynchronous iterable ---------------------------------------------------------------------


async def test_a_sync_iterable_can_be_iterated_asynchronously_and_is_closed() -> None:
    probe = SourceProbe()
    names: set[str] = set()

    def source() -> Iterator[int]:
        for number in numbers():
            names.add(threading.current_thread().name.rpartition("-")[0])
            yield number

    assert [item async for item in iterate_in_threads(probe.watch(source()))] == [0, 1, 2]
    assert probe.closed.is_set()
    assert names == {"tailrace-source"}


async def test_it_is_closed_too_when_it_is_left_early() -> None:
    probe = SourceProbe()
    items = iterate_in_threads(probe.watch(numbers()))
    assert await anext(items) == 0
    await items.aclose()  # type: ignore[attr-defined] # a generator
    assert probe.how == "closed"


async def test_what_it_raises_is_raised() -> None:
    def failing() -> Iterator[int]:
        raise LookupError("no such table")
        yield 1

    with pytest.raises(LookupError):
        await anext(iterate_in_threads(failing()))


async def test_one_that_begins_waits_in_line_as_every_source(pool: Threads) -> None:
    begun: list[str] = []

    def source(name: str) -> Iterator[int]:
        begun.append(name)
        yield 1

    async def take() -> None:
        assert [item async for item in iterate_in_threads(source("second"))] == [1]

    async with anyio.create_task_group() as group:
        with Busy(pool):
            group.start_soon(run, open_source(source("first")), Gathered())
            await wait_until(lambda: len(pool.queue) == 1)
            group.start_soon(take)
            await wait_until(lambda: len(pool.queue) == 2)
    assert begun == ["first", "second"]


# Without a thread --------------------------------------------------------------------------------


async def test_one_for_which_the_system_has_no_thread_is_raised_and_closed(pool: Threads) -> None:
    probe = SourceProbe()
    source = SyncSource(probe.watch(numbers()))
    before = threading.stack_size()
    threading.stack_size(1 << 46)  # more than any address space
    try:
        with pytest.raises(RuntimeError, match="no thread left"):
            await run(source, Gathered())
        with anyio.move_on_after(0.05):
            await source.close()
    finally:
        threading.stack_size(before)
    assert probe.closed.is_set()


async def test_sources_of_both_kinds_say_who_puts_their_items() -> None:
    assert SyncSource([]).threaded
    assert not AsyncSource(anumbers()).threaded
