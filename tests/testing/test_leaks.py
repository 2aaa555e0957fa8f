"""What `no_leaks` finds, and what it lets pass."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest
from starlette.responses import StreamingResponse

import tailrace
from tailrace.testing import Client, Leaked, leaks, no_leaks, wait_until


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_GRACE", 0.05)


def numbers() -> Iterator[int]:
    yield 1
    yield 2


async def async_numbers() -> AsyncGenerator[int, None]:
    yield 1
    yield 2


def numbers_as_text() -> Iterator[str]:
    for number in numbers():
        yield str(number)


def started(source: Iterator[int]) -> Iterator[int]:
    next(source)
    return source


def test_a_block_that_leaves_nothing_passes() -> None:
    with no_leaks():
        assert list(numbers()) == [1, 2]
        os.close(os.dup(0))
        thread = threading.Thread(target=int)
        thread.start()


@pytest.mark.linux
def test_an_open_descriptor_is_told_with_where_it_leads() -> None:
    with pytest.raises(Leaked, match=r"descriptor \d+: .*null") as caught, no_leaks():
        descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    assert len(caught.value.leaks) == 1


def test_a_thread_is_told_with_its_name() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    with pytest.raises(Leaked, match="thread 'forgotten'"), no_leaks():
        thread.start()
    stop.set()
    thread.join()


def test_a_suspended_generator_is_told_with_its_line() -> None:
    suspended: list[Iterator[int]] = []
    message = r"generator 'numbers' not closed in .*numbers, line \d+"
    with pytest.raises(Leaked, match=message), no_leaks():
        suspended.append(started(numbers()))


def test_a_generator_that_was_never_started_is_told() -> None:
    unstarted: list[Iterator[int]] = []
    with pytest.raises(Leaked, match="'numbers'"), no_leaks():
        unstarted.append(numbers())


def test_a_generator_that_only_the_garbage_collector_would_close_is_told() -> None:
    class Knot:
        def __init__(self) -> None:
            self.me = self
            self.source = numbers()

    with pytest.raises(Leaked, match="'numbers'"), no_leaks():
        next(Knot().source)
    gc.collect()


def test_the_garbage_collector_rests_within_the_block() -> None:
    with no_leaks():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_there_before_is_not_a_leak() -> None:
    suspended = numbers()
    next(suspended)
    with no_leaks():
        pass
    suspended.close()  # type: ignore[attr-defined] # a generator


def test_an_idle_worker_of_a_pool_passes() -> None:
    with ThreadPoolExecutor(1) as pool, no_leaks():
        pool.submit(int).result()


def test_a_worker_of_a_pool_in_a_function_does_not_pass() -> None:
    busy, stop = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        stop.wait(10)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(Leaked, match=r"thread .* in threading\.wait"), no_leaks():
            assert pool.submit(work) and busy.wait(10)  # noqa: PT018 - one statement may raise
        stop.set()


def test_the_error_of_the_block_is_not_hidden() -> None:
    unclosed: list[Iterator[int]] = []
    with pytest.raises(IndexError), no_leaks():
        unclosed[len(unclosed)] = started(numbers())
    assert gc.isenabled()


@pytest.mark.anyio
async def test_an_idle_worker_of_anyio_passes() -> None:
    async with no_leaks():
        await anyio.to_thread.run_sync(int)


@pytest.mark.anyio
async def test_an_idle_thread_for_sync_sources_passes() -> None:
    async with (
        no_leaks(),
        Client(tailrace.StreamingResponse(numbers_as_text())) as client,
        client.open("GET", "/") as exchange,
    ):
        assert await exchange.read_all() == b"12"


@pytest.mark.anyio
async def test_a_worker_of_anyio_in_a_function_does_not_pass() -> None:
    stop = threading.Event()
    busy = threading.Event()

    def work() -> None:
        busy.set()
        stop.wait(10)

    async def start(group: anyio.abc.TaskGroup) -> None:
        async with no_leaks():
            group.start_soon(anyio.to_thread.run_sync, work)
            await wait_until(busy.is_set)

    async with anyio.create_task_group() as group:
        with pytest.raises(Leaked) as caught:
            await start(group)
        stop.set()
    assert any(leak.startswith("thread ") for leak in caught.value.leaks)
    assert any(leak.startswith("task ") for leak in caught.value.leaks)


@pytest.mark.anyio
async def test_a_task_that_lives_on_is_told() -> None:
    async with anyio.create_task_group() as group:
        with pytest.raises(Leaked, match="task 'sleeper'"):
            async with no_leaks():
                group.start_soon(anyio.sleep_forever, name="sleeper")
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_task_that_is_about_to_end_passes() -> None:
    async with (
        anyio.create_task_group() as group,
        no_leaks(),
    ):
        group.start_soon(anyio.lowlevel.checkpoint)


@pytest.mark.anyio
async def test_a_suspended_async_generator_is_told() -> None:
    suspended = []

    async def suspend() -> None:
        async with no_leaks():
            suspended.append(async_numbers())
            await anext(suspended[0])

    with pytest.raises(Leaked, match="async generator 'async_numbers' not closed"):
        await suspend()
    await suspended[0].aclose()


@pytest.mark.anyio
async def test_a_whole_exchange_leaves_nothing() -> None:
    async with (
        no_leaks(),
        Client(StreamingResponse(iter(["a", "b"]))) as client,
    ):
        async with client.open("GET", "/") as exchange:
            assert [line async for line in exchange.lines()] == [b"ab"]


def test_a_forgotten_asyncio_task_is_told() -> None:
    async def main() -> None:
        with pytest.raises(Leaked, match="task 'forgotten'"):
            async with no_leaks():
                task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
        task.cancel()

    asyncio.run(main())
