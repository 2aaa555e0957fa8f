"""What is deleted goes in slices, and what was left over goes after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tailrace import limits
from tailrace.store import Append, Fork, Mark, NewStream, Producer, Retention
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.batch import Operation, Task
from tailrace.store.sqlite.maintenance import Aging, GarbageCollector
from tailrace.testing import wait_until
from tests.store.contract import StoreClock
from tests.store.sqlite.writing import Writing
from tests.store.work import steps

pytestmark = pytest.mark.anyio


def count(file: Path, what: str) -> Callable[[], int]:
    def look() -> int:
        connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return int(connection.execute(f"SELECT count(*) FROM {what}").get)
        finally:
            connection.close()

    return look


def gone(file: Path, what: str) -> Callable[[], bool]:
    look = count(file, what)
    return lambda: look() == 0


async def fill(store: SQLiteStore, path: str, appends: int) -> None:
    await store.create(path, NewStream())
    for number in range(appends):
        producer = Producer(f"p{number}", 0, 0)
        await store.append(path, Append(data=b"x", producer=producer))


async def test_a_deleted_stream_leaves_nothing(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await fill(store, "a", 20)
        await fill(store, "b", 3)
        await store.delete("a")
        await wait_until(lambda: count(file, "stream")() == 1)
        assert count(file, "chunk")() == 3
        assert count(file, "producer")() == 3
    assert verify(file) == []


async def test_one_slice_deletes_so_many_rows_and_no_more(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_SLICE_ROWS", 4)
    async with SQLiteStore(file) as store:
        await fill(store, "a", 9)
    connection = apsw.Connection(str(file))
    connection.execute("UPDATE stream SET path = NULL, gone = 1")
    garbage = GarbageCollector(connection)
    left: list[tuple[int, int, int]] = []
    while garbage.pending:
        garbage.slice()
        row = connection.execute(
            "SELECT (SELECT count(*) FROM chunk), (SELECT count(*) FROM producer),"
            " (SELECT count(*) FROM stream)"
        ).fetchone()
        assert row is not None
        left.append((int(row[0]), int(row[1]), int(row[2])))
    connection.close()
    assert left[:7] == [
        (5, 9, 1), (1, 9, 1), (0, 6, 1), (0, 2, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0)
    ]  # fmt: skip


async def test_one_slice_deletes_so_many_bytes_but_one_row_at_least(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_SLICE_BYTES", 100)
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        for size in (10, 40, 60, 500, 101):
            await store.append("a", Append(data=b"x" * size))
    connection = apsw.Connection(str(file))
    connection.execute("UPDATE stream SET path = NULL, gone = 1")
    garbage = GarbageCollector(connection)
    left = []
    for _ in range(3):
        garbage.slice()
        left.append(int(connection.execute("SELECT count(*) FROM chunk").get))
    connection.close()
    # The first with the two that end within 100 bytes of it; then one by one.
    assert left == [2, 1, 0]


async def test_what_a_killed_process_left_is_deleted_by_the_next(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await fill(store, "a", 5)
        await fill(store, "b", 5)
    connection = apsw.Connection(str(file))
    connection.execute("UPDATE stream SET path = NULL, gone = 1 WHERE path = 'a'")
    connection.execute("UPDATE stream SET low = 3, records = 2 WHERE path = 'b'")
    connection.close()
    async with SQLiteStore(file) as store:
        await wait_until(lambda: count(file, "chunk")() == 2)
        await wait_until(lambda: count(file, "stream")() == 1)
        assert (await store.read("b", Mark.BEGINNING)).data == b"xx"
    assert verify(file) == []


async def test_what_is_no_longer_retained_is_deleted(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(retention=Retention(max_records=4)))
        for _ in range(50):
            await store.append("a", Append(data=b"x"))
        await wait_until(lambda: count(file, "chunk")() <= 5)
    assert verify(file) == []


async def test_what_is_too_old_is_deleted_though_nobody_reads_or_writes(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream(data=b"x", retention=Retention(max_age=100)))
    clock.advance(126)
    async with SQLiteStore(file, clock=clock):
        await wait_until(gone(file, "chunk"))


def test_what_a_failed_commit_was_to_trim_is_tried_with_the_next(tmp_path: Path) -> None:
    with Writing(tmp_path) as writer:
        new = NewStream(data=b"x", retention=Retention(max_age=100))
        writer.commit(*(Operation(new, path) for path in ("a", "b")))
        writer.clock.advance(126)
        aging = Aging(writer.connection)
        for _ in range(3):  # the first two fail: `note` is not called
            (trim,) = aging.requests(writer.clock())
            assert trim.paths == ["a", "b"]
            assert aging.next_in() == 0
        aging.note(writer.commit(trim))
        assert aging.requests(writer.clock()) == []
        assert aging.next_in() != 0


async def test_a_source_that_was_kept_for_forks_goes_with_the_last(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await fill(store, "a", 5)
        for path, source in (("b", "a"), ("c", "b"), ("d", "a")):
            await store.create(path, NewStream(fork=Fork(source), data=b"own"))
        for path in ("a", "b", "d"):
            await store.delete(path)
        assert (await store.read("c", Mark.BEGINNING)).data == b"xxxxxownown"
        await wait_until(lambda: count(file, "stream")() == 3)
        await store.delete("c")
        await wait_until(gone(file, "stream"))
        assert count(file, "chunk")() == 0
    assert verify(file) == []


async def test_expired_streams_are_deleted_without_being_asked_for(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"x", ttl=0))
        await store.create("b", NewStream(data=b"x", expires_at=0))
        await wait_until(gone(file, "stream"))


async def test_most_free_pages_are_given_back(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        for _ in range(20):
            await store.append("a", Append(data=b"x" * 1_000_000))
        await store.create("b", NewStream(data=b"kept"))
        await store.delete("a")
        await wait_until(gone(file, "chunk WHERE length(data) > 4"))
        await wait_until(lambda: pages(file) < 3000)
    assert file.stat().st_size < 3000 * 4096  # noqa: ASYNC240 - it is closed
    assert verify(file) == []


async def test_what_retention_has_freed_is_given_back_though_no_stream_is_deleted(
    file: Path,
) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(retention=Retention(max_records=1)))
        await wait_until(lambda: not store._waiting_ops)
        for size in (16_000_000, 16_000_000, 4):
            await store.append("a", Append(data=b"x" * size))
        await wait_until(gone(file, "chunk WHERE length(data) > 4"))
        await wait_until(lambda: pages(file) < 3000)
    assert verify(file) == []


def dead(connection: apsw.Connection, count: int) -> None:
    """Streams that are dead, of one record and one producer each."""
    connection.execute("BEGIN")
    for number in range(1, count + 1):
        connection.execute(
            "INSERT INTO stream(id, content_type, base, tail, low, records, closed, touched,"
            " created_at, gone) VALUES(?, '', 0, 1, 0, 1, 0, 0, 0, 1)",
            (number,),
        )
        connection.execute(
            "INSERT INTO chunk(sid, tail, at, data) VALUES(?, 1, 0, x'00')", (number,)
        )
        connection.execute("INSERT INTO producer VALUES(?, 'p', 0, 0)", (number,))
    connection.execute("COMMIT")


def left(connection: apsw.Connection, what: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {what}").get)


@pytest.mark.parametrize("count", [100, 300])
def test_many_small_streams_go_in_few_transactions(tmp_path: Path, count: int) -> None:
    with Writing(tmp_path) as writer:
        dead(writer.connection, count)
        garbage = GarbageCollector(writer.connection)
        garbage.slice()
        assert left(writer.connection, "stream") == 0


def test_a_slice_costs_the_same_beside_a_long_queue(tmp_path: Path) -> None:
    counts = []
    for count in (2000, 8000):
        with Writing(tmp_path / str(count)) as writer:
            dead(writer.connection, count)
            garbage = GarbageCollector(writer.connection)
            with steps(writer.connection) as done:
                garbage.slice()
            counts.append(done.count)
            assert left(writer.connection, "chunk") == count - limits.STORE_SLICE_ROWS
    assert counts[1] <= counts[0] * 1.1


def test_what_is_trimmed_does_not_keep_what_is_dead_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writing(tmp_path) as writer:
        writer.commit(Operation(NewStream(), "a"))
        writer.commit(*(Operation(Append(data=b"x"), "a") for _ in range(20)))
        generation = writer.cache.streams["a"].state.generation
        dead(writer.connection, 2)
        monkeypatch.setattr(limits, "STORE_SLICE_ROWS", 6)
        garbage = GarbageCollector(writer.connection)
        garbage.note(False, {generation: 20})
        garbage.slice()
        assert left(writer.connection, "chunk") == 14
        assert left(writer.connection, "stream WHERE path IS NULL") == 0


def test_a_store_that_is_never_idle_deletes_faster_than_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_SLICE_ROWS", 40)
    with Writing(tmp_path) as writer:
        writer.maintenance.run(idle=True)
        dead(writer.connection, 100)
        writer.maintenance.run(idle=True)
        rounds = 0
        while left(writer.connection, "stream WHERE path IS NULL"):
            rounds += 1
            path = f"s/{rounds}"
            writer.commit(
                Operation(NewStream(), path),
                *(Operation(Append(data=b"x"), path) for _ in range(9)),
            )
            writer.commit(Operation(Task.DELETE, path), *(Operation(Task.PROBE) for _ in range(9)))
            assert writer.maintenance.run(idle=False) is None
            assert rounds < 100
    assert verify(writer.file) == []


def pages(file: Path) -> int:
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.pragma("page_count"))
    finally:
        connection.close()
