"""Whatever a source raises, of any class, ends that source and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

from tailrace.errors import SourceExited
from tailrace.runtime import current_loop
from tailrace.source import AsyncSource, open_source
from tests.source.gathered import Gathered, gather

pytestmark = pytest.mark.anyio


class Odd(BaseException):
    """An error of an application that is not an `Exception`."""


RAISED: list[Callable[[], BaseException]] = [
    lambda: SystemExit(3),
    KeyboardInterrupt,
    GeneratorExit,
    lambda: Odd("odd"),
    lambda: BaseExceptionGroup("several", [SystemExit(1), ValueError("no")]),
    asyncio.CancelledError,
]
each_kind = pytest.mark.parametrize("make", RAISED, ids=lambda make: type(make()).__name__)


def sync_body(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


def sync_finally(error: BaseException) -> Iterator[int]:
    try:
        yield 1
    finally:
        raise error


async def body(error: BaseException) -> AsyncIterator[int]:
    yield 1
    raise error


async def body_after_a_wait(error: BaseException) -> AsyncIterator[int]:
    yield 1
    await anyio.sleep(0.001)
    raise error


async def cleanup(error: BaseException) -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        raise error


class Rude:
    """An iterator that is not a generator, and whose `close` raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self) -> Rude:
        return self

    def __next__(self) -> int:
        raise StopIteration

    def close(self) -> None:
        raise self.error


class RudeAsync(Rude):
    def __aiter__(self) -> RudeAsync:
        return self

    async def __anext__(self) -> int:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        raise self.error


SOURCES = [sync_body, sync_finally, body, body_after_a_wait, cleanup, Rude, RudeAsync]


@each_kind
@pytest.mark.parametrize("source", SOURCES)
async def test_what_a_source_raises_comes_out_as_an_exception(
    source: Callable[[BaseException], Any], make: Callable[[], BaseException]
) -> None:
    error = make()
    with pytest.raises(SourceExited) as exited:
        await gather(open_source(source(error)))
    assert exited.value.raised == repr(error)
    assert exited.value.__cause__ is error


@each_kind
async def test_a_source_that_never_began_may_raise_where_it_is_closed(
    make: Callable[[], BaseException],
) -> None:
    for source in (Rude(make()), RudeAsync(make())):
        with pytest.raises(SourceExited):
            await open_source(source).close()


@pytest.mark.parametrize("error", [ValueError("no"), ExceptionGroup("several", [ValueError()])])
async def test_an_ordinary_error_stays_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        await gather(open_source(body(error)))
    assert raised.value is error


async def test_a_cancelled_future_that_a_source_waits_for_ends_the_source_alone() -> None:
    async def waits() -> AsyncIterator[int]:
        yield 1
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    if anyio_is_asyncio():
        with pytest.raises(SourceExited, match="CancelledError"):
            await gather(open_source(waits()))


def anyio_is_asyncio() -> bool:
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


# What comes from outside -------------------------------------------------------------------------


async def waiting(reached: anyio.Event) -> AsyncIterator[int]:
    yield 1
    reached.set()
    await anyio.sleep_forever()


async def test_a_scope_that_is_cancelled_cancels_the_source_in_it() -> None:
    reached = anyio.Event()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when, reached, scope)
            await AsyncSource(waiting(reached)).run(Gathered(), current_loop(group))
    assert scope.cancelled_caught


async def cancel_when(reached: anyio.Event, scope: anyio.CancelScope) -> None:
    await reached.wait()
    scope.cancel()


async def test_a_failure_beside_a_cancellation_is_contained_and_the_cancellation_goes_on() -> None:
    async def both(reached: anyio.Event) -> AsyncIterator[int]:
        yield 1
        try:
            reached.set()
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cancelled:
            raise BaseExceptionGroup("both", [cancelled, SystemExit(3)]) from None

    reached = anyio.Event()

    async def cancelled_meanwhile() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_when, reached, scope)
                await AsyncSource(both(reached)).run(Gathered(), current_loop(group))

    with pytest.raises(BaseExceptionGroup) as raised:
        await cancelled_meanwhile()
    assert raised.value.subgroup(SourceExited) is not None
    assert raised.value.subgroup(SystemExit) is None


def test_a_coroutine_that_python_closes_is_closed() -> None:
    closed = []
    reached = asyncio.Event()

    class Waiting:
        def __aiter__(self) -> Waiting:
            return self

        async def __anext__(self) -> int:
            reached.set()
            try:
                await asyncio.sleep(3600)
            finally:
                closed.append(True)
            raise StopAsyncIteration

    async def begin() -> Coroutine[Any, Any, None]:
        running = AsyncSource(Waiting()).run(Gathered(), current_loop())
        tasks.append(asyncio.get_running_loop().create_task(running))
        await reached.wait()
        return running

    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    running = loop.run_until_complete(begin())
    running.close()  # as Python does when the loop is gone; a RuntimeError if the source goes on
    assert closed
    tasks[0].cancel()
    with pytest.raises(RuntimeError, match="reuse"):
        loop.run_until_complete(tasks[0])
    loop.close()


def test_in_another_thread_nothing_is_taken_for_what_a_signals_handler_raises() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        # C code raises it here, as Python's own handler of Ctrl-C does in the main thread.
        await raised(asyncio.get_running_loop())

    def raised(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        future = loop.create_future()
        future.set_exception(KeyboardInterrupt())
        return future

    def work() -> None:
        try:
            anyio.run(gather, open_source(source()))
        except BaseException as error:  # noqa: BLE001 - what comes out is looked at
            errors.append(error)

    errors: list[BaseException] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert [type(error) for error in errors] == [SourceExited]


# The end of the process --------------------------------------------------------------------------

PROGRAM = """
import asyncio, os, signal, sys, time
from tailrace import Streams

def ends(*_):
    sys.exit(7)

async def source():
    yield 1
    {trigger}
    for _ in range(2_000_000):  # a signal's handler is called between two instructions of these
        pass
    yield 2

async def main():
    async with Streams("memory://") as streams:
        run = await streams.run("a", source(), on_disconnect="continue")
        try:
            await run.wait()
        finally:
            print(run.status)

{start}
"""
IN_A_LOOP = "asyncio.new_event_loop().run_until_complete(main())"


@pytest.mark.parametrize(
    ("trigger", "start"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", "signal.signal(15, ends); asyncio.run(main())"),
        ("os.kill(os.getpid(), signal.SIGINT)", IN_A_LOOP),
    ],
    ids=["a handler of one's own", "Ctrl-C"],
)
@pytest.mark.slow
def test_what_a_signals_handler_raises_ends_the_process(trigger: str, start: str) -> None:
    done = run_program(PROGRAM.format(trigger=trigger, start=start))
    assert done.returncode != 0
    assert "SourceExited" not in done.stderr
    assert done.stdout.split() != ["failed"]


@pytest.mark.parametrize(
    ("trigger", "start"),
    [
        ("sys.exit(7)", "signal.signal(15, ends); asyncio.run(main())"),
        ("raise KeyboardInterrupt", IN_A_LOOP),
    ],
    ids=["exit", "as Ctrl-C"],
)
@pytest.mark.slow
def test_the_same_raised_by_code_ends_its_run(trigger: str, start: str) -> None:
    done = run_program(PROGRAM.format(trigger=trigger, start=start))
    assert "SourceExited" in done.stderr
    assert done.stdout.split() == ["failed"]


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
