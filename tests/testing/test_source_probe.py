"""What the probe tells of a source's life."""

from __future__ import annotations

import gc
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context

import anyio
import anyio.to_thread
import pytest
from starlette.responses import StreamingResponse

from tailrace.testing import Client, Clock, SourceProbe, settle, wait_until

pytestmark = pytest.mark.anyio


async def numbers(stop: int = 3) -> AsyncIterator[int]:
    for number in range(stop):
        yield number


async def test_a_source_that_gave_its_last_item_is_exhausted() -> None:
    probe = SourceProbe()
    assert [item async for item in probe.watch(numbers())] == [0, 1, 2]
    assert (probe.how, probe.items, probe.error) == ("exhausted", 3, None)
    assert probe.same_task
    assert probe.same_context


async def test_closing_reaches_the_source_before_the_probe_tells_of_it() -> None:
    probe = SourceProbe()
    cleaned: list[bool] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await anyio.lowlevel.checkpoint()
            cleaned.append(not probe.closed.is_set())

    content = probe.watch(source())
    await anext(content)
    await content.aclose()
    assert cleaned == [True]
    assert (probe.how, probe.error, probe.same_context) == ("closed", None, True)


async def test_an_error_of_the_source_is_kept_and_raised() -> None:
    probe = SourceProbe()

    async def source() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async for _ in probe.watch(source()):
            pass
    assert probe.how == "failed"
    assert isinstance(probe.error, ZeroDivisionError)


async def test_a_cancelled_source_is_told_from_a_closed_one() -> None:
    probe = SourceProbe()

    async def source() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep_forever()

    async def take() -> None:
        async for _ in probe.watch(source()):
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await settle()
        assert probe.items == 1
        group.cancel_scope.cancel()
    assert probe.how == "cancelled"
    assert probe.same_task


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_source_that_never_started_can_be_seen_to_be_closed(asynchronous: bool) -> None:
    probe = SourceProbe()
    if asynchronous:
        source = numbers()
        await probe.watch(source).aclose()
        assert source.ag_frame is None  # type: ignore[attr-defined]  # a generator
    else:
        generator = (number for number in range(3))
        probe.watch(generator).close()
        assert inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED
    assert probe.closed.is_set()
    assert not probe.started.is_set()
    assert (probe.how, probe.same_context) == ("closed", None)


async def test_a_sync_source_is_watched_in_its_thread() -> None:
    probe = SourceProbe()
    items = await anyio.to_thread.run_sync(list, probe.watch(iter("abc")))
    assert items == ["a", "b", "c"]
    assert probe.started_in is not None
    assert probe.started_in.task is None
    assert probe.started_in.thread != threading.get_ident()
    assert (probe.how, probe.items, probe.same_context) == ("exhausted", 3, True)
    assert not probe.same_task


async def test_closing_a_sync_source_reaches_it() -> None:
    probe = SourceProbe()
    cleaned: list[bool] = []

    def source() -> Iterator[int]:
        try:
            yield 1
        finally:
            cleaned.append(True)

    content = probe.watch(source())
    next(content)
    content.close()
    assert cleaned == [True]
    assert probe.how == "closed"


async def test_another_context_is_noticed_even_if_it_is_a_copy() -> None:
    probe = SourceProbe()
    content = probe.watch(iter([1, 2]))
    next(content)
    copy_context().run(content.close)
    assert probe.same_context is False


async def test_another_task_is_noticed() -> None:
    probe = SourceProbe()
    content = probe.watch(numbers())
    await anext(content)
    async with anyio.create_task_group() as group:
        group.start_soon(content.aclose)
    assert not probe.same_task
    assert probe.same_context is False


async def test_a_generator_of_the_test_can_be_watched_from_inside() -> None:
    probe = SourceProbe()

    async def source() -> AsyncIterator[bytes]:
        with probe.inside():
            yield b"1"
            yield b"2"

    async with (
        Client(StreamingResponse(source())) as client,
        client.open("GET", "/") as exchange,
    ):
        assert await exchange.read_all() == b"12"
    assert probe.how == "exhausted"


# trio says so itself when a generator is left to the garbage collector.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_closing_by_the_garbage_collector_is_seen_in_another_context() -> None:
    probe = SourceProbe()

    async def take_one() -> None:
        content = probe.watch(numbers())
        await anext(content)

    await take_one()
    gc.collect()
    await probe.closed.wait()
    assert probe.how == "closed"
    assert not probe.same_task


async def test_closed_can_be_awaited_when_it_happens_in_a_thread(clock: Clock) -> None:
    probe = SourceProbe()
    go_on = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        go_on.wait(10)

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, list, probe.watch(source()))  # type: ignore[arg-type] # mypy: by its overloads
        await probe.started.wait()
        await wait_until(lambda: probe.items == 1)
        assert not probe.closed.is_set()
        go_on.set()
        await probe.closed.wait()
    assert probe.how == "exhausted"


async def test_what_starlette_does_to_a_blocked_source_is_visible() -> None:
    """Its generator is left suspended when a send was blocked, and closed by nobody in its task."""
    probe = SourceProbe()

    def source() -> Iterator[bytes]:
        with probe.inside():
            while True:
                yield b"x" * 100_000

    async with (
        Client(StreamingResponse(source())) as client,
        client.open("GET", "/") as exchange,
    ):
        await wait_until(lambda: exchange.blocked)
    gc.collect()
    assert not probe.same_task
    assert probe.same_context is not True


async def test_a_probe_takes_one_source() -> None:
    probe = SourceProbe()
    list(probe.watch([1]))
    with pytest.raises(RuntimeError, match="make a probe for each"):
        list(probe.watch([2]))
