"""Uses of streams that expire: kept in memory, and written to the file soon after."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tailrace.errors import StreamNotFound
from tailrace.store import START, NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.store.sqlite.uses import lag_ms
from tailrace.testing import wait_until
from tailrace.testing.stores import StoreClock

pytestmark = pytest.mark.anyio


def touched(file: Path) -> int:
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.execute("SELECT touched FROM stream").get)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("ttl", "lag"), [(0, 0), (1, 250), (4, 1000), (10, 1000), (11, 1100), (3600, 360_000)]
)
def test_the_file_is_behind_by_a_tenth_but_never_by_more_than_a_quarter(ttl: int, lag: int) -> None:
    assert lag_ms(ttl) == lag


async def test_reads_are_not_written_one_by_one(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream(ttl=100))
        created = clock()
        for _ in range(20):
            clock.advance(0.49)
            await store.read("a", START)
        await store.check()
        assert touched(file) == created
        clock.advance(0.2)
        await store.read("a", START)
        await wait_until(lambda: touched(file) == clock())


async def test_a_use_that_was_not_written_yet_counts_in_its_own_process(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream(ttl=100))
        clock.advance(9)
        await store.read("a", START)
        clock.advance(99.9)
        await store.head("a")
        clock.advance(0.1)
        with pytest.raises(StreamNotFound):
            await store.head("a")


async def test_on_closing_all_uses_are_written(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream(ttl=100))
        clock.advance(9)
        await store.read("a", START)
    assert touched(file) == clock()


async def test_what_is_watched_is_written_down_again_and_again(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream(ttl=100))
        stop = store.watch("a", lambda _change: None)
        await store.head("a")
        await store.check()  # the writer knows what is watched
        for _ in range(3):
            clock.advance(11)
            await store.check()  # the writer looks at the clock
            await wait_until(lambda: touched(file) == clock())
        stop()
        clock.advance(3)
        assert touched(file) == clock() - 3000
        clock.advance(96.9)
        await store.head("a")
        clock.advance(0.1)
        with pytest.raises(StreamNotFound):
            await store.head("a")
