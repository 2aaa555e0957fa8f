"""What is deleted goes in slices, and what was left over goes after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tailrace import limits
from tailrace.store import Append, Fork, Mark, NewStream, Producer, Retention
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.sweep import Sweep
from tailrace.testing import wait_until
from tailrace.testing.stores import StoreClock

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
    sweep = Sweep(connection)
    left: list[tuple[int, int, int]] = []
    while sweep.pending:
        sweep.slice()
        row = connection.execute(
            "SELECT (SELECT count(*) FROM chunk), (SELECT count(*) FROM producer),"
            " (SELECT count(*) FROM stream)"
        ).fetchone()
        assert row is not None
        left.append((int(row[0]), int(row[1]), int(row[2])))
    connection.close()
    assert left[:7] == [
        (5, 9, 1), (1, 9, 1), (0, 9, 1), (0, 5, 1), (0, 1, 1), (0, 0, 0), (0, 0, 0)
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
    sweep = Sweep(connection)
    left = []
    for _ in range(3):
        sweep.slice()
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


def pages(file: Path) -> int:
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.pragma("page_count"))
    finally:
        connection.close()
