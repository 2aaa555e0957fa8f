"""A process that works on a store that holds many idle things: it creates them, then takes turns.

`python -m benchmarks.beside KIND COUNT FILE`: it prints "ready", and then each line of standard
input starts one turn. The answer is a line of JSON with three times in seconds: of the clock and of
this process's CPU for one unit of work, and of the clock for the longest unit.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import apsw

from tailrace import Streams
from tailrace.errors import StreamGone
from tailrace.store import Append, Fork, NewStream, Retention, Store
from tailrace.store.sqlite import SQLiteStore

__all__ = ["KINDS"]

UNITS: Final = 200
IDLE_SECONDS: Final = 12.0
"""The time of two sweeps: in a sweep, the store looks for runs whose worker has died."""

TRIM_SECONDS: Final = 3.0
BODY: Final = b"x" * 200

Unit = Callable[[], Awaitable[object]]
Turn = Callable[[], Awaitable[list[float]]]
"""The seconds that each unit of work took."""


def repeated(unit: Unit, units: int = UNITS) -> Turn:
    async def turn() -> list[float]:
        took = []
        for _ in range(units):
            began = time.perf_counter()
            await unit()
            took.append(time.perf_counter() - began)
        return took

    return turn


def appends(store: Store, path: str) -> Turn:
    return repeated(lambda: store.append(path, Append(data=BODY)))


async def made(store: Store, paths: list[str], new: NewStream) -> None:
    for first in range(0, len(paths), 500):
        await asyncio.gather(*(store.create(path, new) for path in paths[first : first + 500]))


async def watched(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """An append to one stream, beside `count` others that are followed and have a time to live."""
    store = await stack.enter_async_context(SQLiteStore(file))
    await store.create("other", NewStream())
    paths = [f"s/{number}" for number in range(count)]
    await made(store, paths, NewStream(ttl=3600))
    for path in paths:
        store.watch(path, lambda _change: None)
        await store.head(path)
    return appends(store, "other")


def fill(file: Path, count: int, *, ago_ms: int) -> None:
    """Write records of the stream `kept` into the database; appending them would take too long."""
    connection = apsw.Connection(str(file))
    generation = int(connection.execute("SELECT id FROM stream WHERE path = 'kept'").get)
    now = time.time_ns() // 1_000_000
    size = len(BODY)
    rows = ((generation, size * n, now - ago_ms, BODY) for n in range(1, count + 1))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO chunk(sid, tail, at, data) VALUES(?, ?, ?, ?)", rows)
    state = (size * count, count, generation)
    connection.execute("UPDATE stream SET tail = ?, records = ? WHERE id = ?", state)
    connection.execute("COMMIT")
    connection.close()


async def retained(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """Appends to a stream that keeps its last `count` records; enough of them for some trims."""
    async with SQLiteStore(file) as store:
        await store.create("kept", NewStream(retention=Retention(max_records=count)))
    fill(file, count * 5 // 4, ago_ms=0)
    store = await stack.enter_async_context(SQLiteStore(file))

    async def together() -> None:
        some = (store.append("kept", Append(data=BODY)) for _ in range(500))
        await asyncio.gather(*some)

    return repeated(together, 40)


async def forked(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """An append to a stream that has `count` forks."""
    store = await stack.enter_async_context(SQLiteStore(file))
    await store.create("source", NewStream(data=BODY))
    paths = [f"f/{number}" for number in range(count)]
    await made(store, paths, NewStream(fork=Fork("source")))
    return appends(store, "source")


async def gone(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """An append that is refused: the stream was deleted, and is kept only for its forks."""
    store = await stack.enter_async_context(SQLiteStore(file))
    await store.create("source", NewStream(data=BODY))
    paths = [f"f/{number}" for number in range(max(1, count))]
    await made(store, paths, NewStream(fork=Fork("source"), ttl=3600))
    await store.delete("source")

    async def refused() -> None:
        try:
            await store.append("source", Append(data=BODY))
        except StreamGone:
            return
        raise RuntimeError("a stream that is gone was appended to")

    return repeated(refused)


async def deleted(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """The time until the rows of `count` deleted streams are gone, for each, beside appends."""
    store = await stack.enter_async_context(SQLiteStore(file))
    await store.create("other", NewStream())

    async def turn() -> list[float]:
        paths = [f"s/{number}" for number in range(count)]
        await made(store, paths, NewStream(data=BODY))
        for first in range(0, count, 500):
            await asyncio.gather(*(store.delete(path) for path in paths[first : first + 500]))
        began = time.perf_counter()
        connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            while connection.execute("SELECT EXISTS(SELECT 1 FROM stream WHERE path IS NULL)").get:
                some = (store.append("other", Append(data=BODY)) for _ in range(50))
                await asyncio.gather(*some)
        finally:
            connection.close()
        return [(time.perf_counter() - began) / count] * count

    return turn


async def trimmed(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """Appends to one stream while the expired records of another are deleted; only one turn."""
    async with SQLiteStore(file) as store:
        await store.create("kept", NewStream(retention=Retention(max_age=60)))
        await store.create("other", NewStream())
    fill(file, count, ago_ms=3_600_000)
    store = await stack.enter_async_context(SQLiteStore(file))

    async def turn() -> list[float]:
        took = []
        end = time.perf_counter() + TRIM_SECONDS
        while (began := time.perf_counter()) < end:
            await store.append("other", Append(data=BODY))
            took.append(time.perf_counter() - began)
        return took

    return turn


async def _never() -> None:
    await asyncio.Event().wait()


async def _silent() -> AsyncIterator[int]:
    await _never()
    yield 1


async def _running(stack: AsyncExitStack, file: Path, count: int) -> Streams:
    streams = await stack.enter_async_context(Streams(f"sqlite:///{file}"))
    for first in range(0, count, 50):
        some = range(first, min(count, first + 50))
        await asyncio.gather(
            *(streams.run(f"r/{n}", _silent(), on_disconnect="continue") for n in some)
        )
    await asyncio.sleep(7)  # until the first sweep has looked at all of them
    return streams


async def idle(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """One second in which `count` runs yield nothing."""
    await _running(stack, file, count)

    async def turn() -> list[float]:
        await asyncio.sleep(IDLE_SECONDS)
        return [1.0] * round(IDLE_SECONDS)

    return turn


async def started(stack: AsyncExitStack, file: Path, count: int) -> Turn:
    """The start of one more run, beside `count` idle ones."""
    streams = await _running(stack, file, count)
    number = iter(range(1_000_000))

    async def start() -> None:
        await streams.run(f"x/{next(number)}", _silent(), on_disconnect="continue")

    return repeated(start, 100)


KINDS: Final = {
    kind.__name__: kind
    for kind in (watched, retained, forked, gone, deleted, trimmed, idle, started)
}


async def main(kind: str, count: int, file: Path) -> None:
    async with AsyncExitStack() as stack:
        turn = await KINDS[kind](stack, file, count)
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            cpu, wall = time.process_time(), time.perf_counter()
            took = await turn()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            units = len(took)
            print(json.dumps([wall / units, cpu / units, max(took)]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
