"""Uses of streams that expire: kept in memory, and written to the file soon after."""

from __future__ import annotations

from pathlib import Path

import anyio
import apsw
import pytest

from tailrace import limits
from tailrace.errors import StreamExists, StreamGone, StreamNotFound
from tailrace.store import START, Append, Fork, Mark, NewStream, Retention
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.batch import Batch, Operation, Task
from tailrace.store.sqlite.lifetime import LastAccess, lag_ms
from tailrace.store.sqlite.transaction import Stale
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
        assert len(reader._accesses) == 20
        clock.advance(10)
        await owner.check()
        await reader.check()  # any commit
        assert len(reader._accesses) == 0


async def test_a_watching_keeps_nothing_of_a_stream_once_it_has_ended(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        for number in range(20):
            await store.create(f"s/{number}", NewStream(ttl=10))
            stop = store.watch(f"s/{number}", lambda _change: None)
            await store.head(f"s/{number}")
            stop()
        assert store._accesses.keep_at() is None
        clock.advance(10)
        await store.check()
        assert len(store._accesses) == 0


class Watched(Writing):
    """Beside watched streams that expire."""

    def __init__(self, folder: Path, count: int, ttl: int = 3600) -> None:
        super().__init__(folder, is_watched=lambda path: path != "other")
        made = [Operation(NewStream(ttl=ttl), f"s/{number}") for number in range(count)]
        self.commit(Operation(NewStream(), "other"), *made)
        for path in self.cache.streams:
            self.accesses.begin(path, self.clock())
        self.commit(Operation(Task.KEEP_ALIVE, paths=[each.path for each in made]))

    def append(self) -> None:
        self.commit(Operation(Append(data=b"x"), "other"))


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
        while (writer.accesses.keep_at() or 0) <= writer.clock():
            writer.append()
            seen.append(int(writer.connection.execute(written).get))
        assert seen == [5, 9, 11], "and the one that was appended to"
        assert writer.accesses.keep_at() == writer.clock() + lag_ms(100)


async def test_the_writer_is_called_once_for_all_uses_that_are_due(file: Path) -> None:
    clock = StoreClock()
    calls: list[None] = []
    accesses = LastAccess(lambda _path: False, lambda: calls.append(None))
    async with SQLiteStore(file, clock=clock) as store:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(store.create, f"s/{number}", NewStream(ttl=10))
        states = [stored.state for stored in store._writer._file.cache.streams.values()]
    for state in states:
        accesses.note(state, clock() + 1)
    assert len(calls) == 1, "the first is to be let go of one day"
    for state in states:
        accesses.note(state, clock() + 1000)
    assert len(calls) == 2
    assert len(accesses.take()) == 20


def failed(writer: Writing, operation: Operation) -> None:
    """Try to commit after another process has written: nothing is committed."""
    writer.cache.version = -1
    batch = Batch(writer.connection, writer.cache, writer.accesses, writer.clock())
    with pytest.raises(Stale):
        batch.run([operation])
    writer.cache.clear()
    batch.roll_back()


@pytest.mark.parametrize(
    "operation",
    [Operation(Task.WRITE_ACCESSES), Operation(Task.KEEP_ALIVE, paths=["a"])],
    ids=lambda operation: str(operation.do),
)
def test_uses_that_a_failed_commit_has_not_written_are_due_again(
    tmp_path: Path, operation: Operation
) -> None:
    with Writing(tmp_path) as writer:
        writer.commit(Operation(NewStream(ttl=100), "a"))
        writer.clock.advance(11)
        writer.accesses.note(writer.cache.streams["a"].state, writer.clock())
        failed(writer, operation)
        assert writer.accesses.are_due
        writer.commit()
        assert not writer.accesses.are_due
        assert touched(writer.file) == writer.clock()


# Retention ----------------------------------------------------------------------------------------


KEEPS = {
    "records": lambda count: Retention(max_records=count),
    "bytes": lambda count: Retention(max_bytes=2 * count),
    "age": lambda count: Retention(max_age=count),
}


def filled(folder: Path, keep: Retention, count: int) -> Writing:
    """A stream with so many records of two bytes, one each second."""
    writer = Writing(folder)
    writer.commit(Operation(NewStream(retention=keep), "a"))
    state = writer.cache.streams["a"].state
    begun = writer.clock() - 1000 * count
    writer.connection.executemany(
        "INSERT INTO chunk(sid, tail, at, data) VALUES(?, ?, ?, x'0000')",
        ((state.generation, 2 * n, begun + 1000 * n) for n in range(1, count + 1)),
    )
    writer.connection.execute(
        "UPDATE stream SET tail = ?, records = ? WHERE id = ?",
        (2 * count, count, state.generation),
    )
    writer.cache.clear()
    return writer


def append(writer: Writing, count: int = 1) -> list[str]:
    """Append, and say of which streams more is to go."""
    appends = [Operation(Append(data=b"xx"), "a") for _ in range(count)]
    return writer.commit(*appends).untrimmed


def records(writer: Writing) -> int:
    return writer.cache.streams["a"].state.records


@pytest.mark.parametrize("kind", KEEPS)
@pytest.mark.slow
def test_a_trim_costs_the_same_of_a_thousand_records_and_of_sixteen_thousand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 100)
    counts = []
    for count in (1000, 16_000):
        with filled(tmp_path / str(count), KEEPS[kind](count), count * 5 // 4) as writer:
            append(writer, 1)  # what is known of it is read
            writer.clock.advance(2)
            with steps(writer.connection) as done:
                append(writer, 2)
            assert records(writer) == count * 5 // 4 + 3 - 100
            counts.append(done.count)
    assert counts[1] <= counts[0] * 1.1


@pytest.mark.parametrize("kind", KEEPS)
@pytest.mark.slow
def test_an_append_that_trims_nothing_looks_at_no_record(tmp_path: Path, kind: str) -> None:
    counts = []
    for count in (1000, 16_000):
        with filled(tmp_path / str(count), KEEPS[kind](count), count) as writer:
            append(writer)
            with steps(writer.connection) as done:
                counts.append((lines(lambda: append(writer)), done.count))
    assert counts[1][0] <= counts[0][0] * 1.1
    assert counts[1][1] == counts[0][1]


@pytest.mark.parametrize("kind", KEEPS)
def test_what_is_over_goes_over_several_commits_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 50)
    with filled(tmp_path, KEEPS[kind](100), 400) as writer:
        assert append(writer) == ["a"]
        left = [records(writer)]
        while writer.commit().untrimmed:
            left.append(records(writer))
        assert left == [351, 301, 251, 201, 151]
        assert 100 <= records(writer) <= 125


def test_one_commit_lets_no_more_go_of_many_streams_than_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writing(tmp_path) as writer:
        paths = [f"s/{number}" for number in range(6)]
        new = NewStream(retention=Retention(max_age=100))
        writer.commit(*(Operation(new, path) for path in paths))
        writer.commit(*(Operation(Append(data=b"x"), path) for path in paths * 5))
        monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 60)
        writer.clock.advance(126)
        # Each has five records, and costs as much as twenty more would.
        assert writer.commit(Operation(Task.TRIM, paths=paths)).untrimmed == paths[3:]
        assert writer.commit().untrimmed == []
        assert [writer.cache.streams[path].state.records for path in paths] == [0] * 6
    assert verify(writer.file) == []


def test_an_append_that_is_longer_than_what_is_kept_is_not_tried_again_and_again(
    tmp_path: Path,
) -> None:
    with filled(tmp_path, Retention(max_bytes=10), 2) as writer:
        long = Operation(Append(data=b"x" * 100), "a")
        assert writer.commit(long).untrimmed == []
        assert records(writer) == 1
        assert writer.commit(Operation(Task.TRIM, paths=["a"])).untrimmed == []


@pytest.mark.anyio
@pytest.mark.slow
async def test_who_reads_meanwhile_sees_what_is_kept_go_forward_only(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 7)
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream(retention=Retention(max_age=100)))
        for _ in range(100):
            await store.append("a", Append(data=b"x"))
        clock.advance(126)
        firsts = [0]
        while firsts[-1] < 100:
            firsts.append((await store.read("a", Mark.BEGINNING)).start.position)
            assert firsts[-1] >= firsts[-2]
        await wait_until(lambda: store._writer._file.cache.streams["a"].state.low == 100)
    assert verify(file) == []


# Forks --------------------------------------------------------------------------------------------


MOST = 100


async def forked(store: SQLiteStore, count: int) -> None:
    await store.create("a", NewStream(data=b"x"))
    async with anyio.create_task_group() as group:
        for number in range(count):
            new = NewStream(fork=Fork("a"), ttl=10)
            group.start_soon(store.create, f"f/{number}", new)
    await store.delete("a")


@pytest.mark.anyio
@pytest.mark.parametrize("extra", [0, 1])
async def test_so_many_that_have_expired_are_let_go_at_once_and_the_next_time_more(
    file: Path, extra: int
) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await forked(store, MOST + extra)
        clock.advance(10)
        for _ in range(extra):
            with pytest.raises(StreamExists):
                await store.create("a", NewStream())
        assert (await store.create("a", NewStream())).is_new
    assert verify(file) == []


@pytest.mark.anyio
async def test_among_many_that_have_expired_one_that_lives_is_found(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await forked(store, MOST - 1)
        await store.create("lives", NewStream(fork=Fork("f/7"), ttl=100))
        clock.advance(10)
        with pytest.raises(StreamGone):
            await store.head("a")
        with pytest.raises(StreamExists):
            await store.create("a", NewStream())
        assert (await store.read("lives", START)).data == b"x"
        clock.advance(100)  # it was read
        with pytest.raises(StreamNotFound) as refused:
            await store.head("a")
        assert not isinstance(refused.value, StreamGone)
    assert verify(file) == []


@pytest.mark.parametrize("ttl", [None, 10])
@pytest.mark.parametrize("between", [False, True])
def test_who_asks_for_a_stream_that_is_gone_looks_at_no_more_forks_than_one(
    tmp_path: Path, ttl: int | None, between: bool
) -> None:
    counts = []
    for count in (MOST, 4 * MOST):
        with Writing(tmp_path / str(count)) as writer:
            writer.commit(Operation(NewStream(data=b"x"), "a"))
            for number in range(count):
                path = f"f/{number}"
                writer.commit(Operation(NewStream(fork=Fork("a"), ttl=ttl), path))
                if between:
                    writer.commit(Operation(NewStream(fork=Fork(path)), f"g/{number}"))
                    writer.commit(Operation(Task.DELETE, path))
            writer.commit(Operation(Task.DELETE, "a"))
            with steps(writer.connection) as done:
                append = Operation(Append(data=b"x"), "a")
                with pytest.raises(StreamGone):
                    writer.commit(append)
            counts.append(done.count)
    assert counts[0] == counts[1]
    assert counts[0] < 10_000


def test_the_live_source_of_many_forks_is_appended_to_as_any_other(tmp_path: Path) -> None:
    counts = []
    for count in (10, 400):
        with Writing(tmp_path / str(count)) as writer:
            writer.commit(Operation(NewStream(data=b"x"), "a"))
            for number in range(count):
                writer.commit(Operation(NewStream(fork=Fork("a")), f"f/{number}"))
            with steps(writer.connection) as done:
                writer.commit(Operation(Append(data=b"x"), "a"))
            counts.append(done.count)
    assert counts[0] == counts[1]
