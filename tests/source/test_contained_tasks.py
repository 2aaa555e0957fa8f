"""Tasks that a source begins: SystemExit in one of them ends that task, not the server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.from_thread
import pytest

from tailrace.errors import SourceExited
from tailrace.source import AsyncSource, open_source
from tests.source.gathered import Gathered, gather
from tests.source.test_contained import run_program

pytestmark = pytest.mark.anyio
ENDS: list[Callable[[], BaseException]] = [lambda: SystemExit(3), KeyboardInterrupt]
each_end = pytest.mark.parametrize("make", ENDS, ids=["SystemExit", "KeyboardInterrupt"])


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def tool(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def in_a_task_group(error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(tool(error))


async def in_a_group_of_anyio(error: BaseException) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(tool, error)


async def gathered(error: BaseException) -> None:
    await asyncio.gather(tool(error), asyncio.sleep(0))


async def two_deep(error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_a_task_group(error))


async def as_it_is_cancelled(error: BaseException) -> None:
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            raise error

    task = asyncio.create_task(waits())
    await begun.wait()
    task.cancel()
    await task


WAYS = [in_a_task_group, in_a_group_of_anyio, gathered, two_deep, as_it_is_cancelled]


@each_end
@pytest.mark.parametrize("way", WAYS)
async def test_a_task_that_exits_ends_its_source_alone(
    way: Callable[[BaseException], Awaitable[None]], make: Callable[[], BaseException]
) -> None:
    async def body() -> AsyncIterator[int]:
        yield 1
        await way(make())

    with pytest.raises(Exception) as raised:  # noqa: PT011 - of which class, is looked at
        await gather(open_source(body()))
    assert innermost(raised.value).raised == repr(make())


@each_end
async def test_so_does_one_that_the_cleanup_begins(make: Callable[[], BaseException]) -> None:
    async def cleanup() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await in_a_task_group(make())

    with pytest.raises(ExceptionGroup) as raised:
        await gather(open_source(cleanup()))
    assert innermost(raised.value)


def innermost(error: BaseException) -> SourceExited:
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    assert isinstance(error, SourceExited)
    return error


@each_end
async def test_so_does_one_that_a_sync_source_begins(make: Callable[[], BaseException]) -> None:
    def body() -> Iterator[int]:
        yield 1
        anyio.from_thread.run(tool, make())

    with pytest.raises(SourceExited) as raised:
        await gather(open_source(body()))
    assert raised.value.raised == repr(make())


async def test_a_task_that_nobody_waits_for_ends_nothing() -> None:
    begun: list[asyncio.Task[None]] = []

    async def body() -> AsyncIterator[int]:
        begun.append(asyncio.create_task(tool(SystemExit(3))))
        yield 1

    await gather(open_source(body()))
    await asyncio.wait(begun)
    assert isinstance(begun[0].exception(), SourceExited)


async def test_a_task_is_made_as_the_application_has_asked_for() -> None:
    made: list[str] = []

    def own(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    async def body() -> AsyncIterator[int]:
        yield 1
        await in_a_task_group(SystemExit(3))

    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(own)
    try:
        for _ in range(2):
            with pytest.raises(ExceptionGroup):
                await gather(open_source(body()))
    finally:
        loop.set_task_factory(before)
    assert made == ["tool", "tool"]


FACTORIES: list[Any] = [None]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_task_of_anyio_begins_as_it_must_whatever_the_factory(factory: Any) -> None:
    order: list[str] = []

    async def child() -> None:
        order.append("child")
        with anyio.CancelScope():
            await anyio.sleep(0)

    async def body() -> AsyncIterator[int]:
        yield 1
        await in_a_task_group(SystemExit(3))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        for _ in range(2):
            with pytest.raises(ExceptionGroup) as raised:
                await gather(open_source(body()))
            assert innermost(raised.value)
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            order.append("group")

    asyncio.run(main())
    assert order == ["group", "child"]


@pytest.mark.filterwarnings("error")
async def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing() -> None:
    async def body() -> AsyncIterator[int]:
        task = asyncio.create_task(tool(SystemExit(3)), name="early")
        assert task.get_name() == "early"
        assert task.get_stack()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        yield 1

    assert await gather(open_source(body())) == [1]


async def test_what_a_task_gives_and_waits_for_is_as_before() -> None:
    async def gives() -> str:
        await asyncio.sleep(0.001)
        return "given"

    async def body() -> AsyncIterator[str]:
        yield await asyncio.create_task(gives())

    assert await gather(open_source(body())) == ["given"]


async def test_outside_of_a_source_tasks_are_nobodys_but_the_applications() -> None:
    await AsyncSource(aiter_of(1)).run(Gathered(), None)  # type: ignore[arg-type]
    task = asyncio.create_task(asyncio.sleep(0))
    assert asyncio.iscoroutine(task.get_coro())
    assert type(task.get_coro()).__name__ == "coroutine"
    await task


async def aiter_of(*items: int) -> AsyncIterator[int]:
    for item in items:
        yield item


PROGRAM = """
import asyncio, os, signal, sys
from tailrace import Streams

async def child():
    {trigger}
    for _ in range(2_000_000):
        pass

async def source():
    yield 1
    async with asyncio.TaskGroup() as group:
        group.create_task(child())

async def main():
    async with Streams("memory://") as streams:
        run = await streams.run("a", source(), on_disconnect="continue")
        try:
            await run.wait()
        except Exception:
            pass
        print(run.status)

def ends(*_):
    sys.exit(7)

signal.signal(signal.SIGTERM, ends)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("trigger", "status"), [("sys.exit(7)", 0), ("os.kill(os.getpid(), signal.SIGTERM)", 7)]
)
def test_code_ends_its_run_and_a_signal_the_process(trigger: str, status: int) -> None:
    done = run_program(PROGRAM.format(trigger=trigger))
    assert done.returncode == status, done.stderr
    assert done.stdout.split() == (["failed"] if status == 0 else [])
