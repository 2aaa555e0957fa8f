"""Uses of streams that expire: kept in memory, and written to the file soon after."""

from __future__ import annotations

from pathlib import Path

import anyio
import apsw
import pytest

from tailrace import limits
from tailrace.errors import StreamNotFound
from tailrace.store import START, Append, NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.store.sqlite.operation import AppendTo, Create, Keep
from tailrace.store.sqlite.uses import Uses, lag_ms
from tailrace.testing import wait_until
from tests.store.contract import StoreClock
from tests.store.sqlite.writing import Writing
from tests.store.work import lines, steps

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


async def test_what_another_process_has_ended_is_let_go_of(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as owner, SQLiteStore(file, clock=clock) as reader:
        for number in range(20):
            await owner.create(f"s/{number}", NewStream(ttl=10))
            await reader.read(f"s/{number}", START)
            if number % 2:
                await owner.delete(f"s/{number}")
        assert len(reader._uses) == 20
        clock.advance(10)
        await owner.check()
        await reader.check()  # any commit
        assert len(reader._uses) == 0


async def test_a_watching_keeps_nothing_of_a_stream_once_it_has_ended(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        for number in range(20):
            await store.create(f"s/{number}", NewStream(ttl=10))
            stop = store.watch(f"s/{number}", lambda _change: None)
            await store.head(f"s/{number}")
            stop()
        assert store._uses.keep_at() is None
        clock.advance(10)
        await store.check()
        assert len(store._uses) == 0


class Watched(Writing):
    """Beside watched streams that expire."""

    def __init__(self, folder: Path, count: int, ttl: int = 3600) -> None:
        super().__init__(folder, is_watched=lambda path: path != "other")
        made = [Create(f"s/{number}", NewStream(ttl=ttl), None) for number in range(count)]
        self.commit(Create("other", NewStream(), None), *made)
        for path in self.cache.records:
            self.uses.begin(path, self.clock())
        self.commit(Keep([each.path for each in made]))

    def append(self) -> None:
        self.commit(AppendTo("other", Append(data=b"x"), None))


def test_an_append_costs_the_same_beside_ten_and_a_thousand_watched_streams(
    tmp_path: Path,
) -> None:
    counts = []
    for count in (10, 1000):
        with Watched(tmp_path / str(count), count) as writer:
            writer.append()
            with steps(writer.connection) as done:
                counts.append((lines(writer.append), done.count))
    assert counts[0] == counts[1]


def test_those_that_are_watched_are_written_down_so_many_in_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_CHORE_STREAMS", 4)
    with Watched(tmp_path, 10, ttl=100) as writer:
        written = f"SELECT count(*) FROM stream WHERE touched = {writer.clock() + 11_000}"
        writer.clock.advance(11)
        seen = []
        while (writer.uses.keep_at() or 0) <= writer.clock():
            writer.append()
            seen.append(int(writer.connection.execute(written).get))
        assert seen == [5, 9, 11], "and the one that was appended to"
        assert writer.uses.keep_at() == writer.clock() + lag_ms(100)


async def test_the_writer_is_called_once_for_all_uses_that_are_due(file: Path) -> None:
    clock = StoreClock()
    calls: list[None] = []
    uses = Uses(lambda _path: False, lambda: calls.append(None))
    async with SQLiteStore(file, clock=clock) as store:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(store.create, f"s/{number}", NewStream(ttl=10))
        states = [record.state for record in store._writer._cache.records.values()]
    for state in states:
        uses.note(state, clock() + 1)
    assert len(calls) == 1, "the first is to be let go of one day"
    for state in states:
        uses.note(state, clock() + 1000)
    assert len(calls) == 2
    assert len(uses.take()) == 20
