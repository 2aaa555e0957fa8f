"""`anyio.from_thread` in a sync source."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
import sniffio

from tailrace.runtime import Loop, call_in_thread, current_loop
from tailrace.source import SyncSource, open_source
from tailrace.source.sync import CallsBack
from tailrace.testing import wait_until
from tests.source.gathered import Gathered, gather, run

pytestmark = pytest.mark.anyio

request_id: ContextVar[str] = ContextVar("request_id")


async def fetch(number: int) -> str:
    await anyio.sleep(0)
    return f"part {number} of {request_id.get()} in {sniffio.current_async_library()}"


async def test_a_coroutine_function_can_be_run_in_the_loop(anyio_backend_name: str) -> None:
    def source() -> Iterator[str]:
        for number in range(2):
            yield anyio.from_thread.run(fetch, number)

    request_id.set("7")
    items = await gather(open_source(source()))
    assert items == [f"part {number} of 7 in {anyio_backend_name}" for number in range(2)]


async def test_a_function_can_be_called_in_the_loop() -> None:
    def source() -> Iterator[int]:
        anyio.from_thread.check_cancelled()
        yield anyio.from_thread.run_sync(threading.get_ident)

    assert await gather(open_source(source())) == [threading.get_ident()]


@pytest.mark.parametrize("asks", [anyio.from_thread.run, anyio.from_thread.run_sync])
async def test_what_is_raised_in_the_loop_is_raised_in_the_source(asks: object) -> None:
    def fails() -> None:
        raise LookupError("no such table")

    async def afails() -> None:
        fails()

    def source() -> Iterator[str]:
        try:
            if asks is anyio.from_thread.run:
                anyio.from_thread.run(afails)
            anyio.from_thread.run_sync(fails)
        except LookupError as error:
            yield str(error)

    assert await gather(open_source(source())) == ["no such table"]


async def test_an_event_loop_of_its_own_can_be_run_in_a_source() -> None:
    async def inner() -> str:
        await anyio.sleep(0)
        return sniffio.current_async_library()

    def source() -> Iterator[str]:
        yield anyio.run(inner)
        yield anyio.run(inner, backend="trio")

    assert await gather(open_source(source())) == ["asyncio", "trio"]


async def test_a_call_under_way_is_interrupted_once_when_the_source_is_closed() -> None:
    ended: list[str] = []

    async def never() -> None:
        ended.append("called")
        await anyio.sleep_forever()

    def source() -> Iterator[int]:
        try:
            yield 1
            anyio.from_thread.run(never)
        except CancelledError:
            ended.append("interrupted")
            raise
        finally:
            request_id.set("7")
            ended.append(anyio.from_thread.run(fetch, 1)[:6])

    opened = SyncSource(source())
    await leave(opened, lambda: bool(ended))
    assert ended == ["called", "interrupted", "part 1"]


async def test_a_call_that_comes_after_the_end_is_interrupted_and_the_cleanups_is_not() -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[str] = []

    def source() -> Iterator[int]:
        try:
            begun.set()
            go_on.wait(10)
            anyio.from_thread.run(anyio.sleep_forever)
            yield 1
        finally:
            request_id.set("7")
            ended.append(anyio.from_thread.run(fetch, 1)[:6])

    opened = SyncSource(source())
    async with anyio.create_task_group() as group:
        group.start_soon(run, opened, Gathered())
        await wait_until(begun.is_set)
        group.cancel_scope.cancel()
    async with anyio.create_task_group() as group:
        group.start_soon(opened.close)
        await anyio.lowlevel.checkpoint()
        go_on.set()
    assert ended == ["part 1"]


async def test_an_end_that_comes_while_a_call_is_on_its_way_interrupts_it() -> None:
    class OnItsWay:
        """An event loop in which the source is interrupted just before its call arrives."""

        def run_from_thread(self, call: Callable[[], Awaitable[Any]]) -> Any:
            loop.ask_from_thread(calls.interrupt)
            return loop.run_from_thread(call)

    def source() -> None:
        with pytest.raises(CancelledError):
            anyio.from_thread.run(anyio.sleep_forever)

    loop = current_loop()
    calls = CallsBack(cast(Loop, OnItsWay()))
    with anyio.fail_after(10):
        await call_in_thread(partial(calls.run, source))


async def test_the_end_is_seen_by_who_asks_for_it() -> None:
    begun, closing = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        begun.set()
        closing.wait(10)
        while True:
            anyio.from_thread.check_cancelled()
        yield 1

    opened = SyncSource(source())
    async with anyio.create_task_group() as group:
        group.start_soon(run, opened, Gathered())
        await wait_until(begun.is_set)
        group.cancel_scope.cancel()
    closing.set()
    with anyio.fail_after(10):
        await opened.close()


async def leave(source: SyncSource, when: object) -> None:
    """Run a source, and close it when `when` returns True."""
    assert callable(when)
    async with anyio.create_task_group() as group:
        group.start_soon(run, source, Gathered())
        await wait_until(when)
        group.cancel_scope.cancel()
    with anyio.fail_after(10):
        await source.close()
