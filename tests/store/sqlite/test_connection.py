"""How the file is opened, and when its log is copied."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tailrace import limits
from tailrace.store import Append, NewStream
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.connection import Checkpoint, open_reader, open_writer, use_log
from tailrace.testing import wait_until

pytestmark = pytest.mark.anyio


async def test_each_connection_keeps_so_many_bytes_of_pages(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
    reader = open_reader(str(file), vfs=None)
    writer = open_writer(str(file), vfs=None, synchronous="FULL")
    # Below zero SQLite counts KiB.
    assert reader.pragma("cache_size") == -limits.STORE_READ_CACHE_BYTES // 1024
    assert writer.pragma("cache_size") == -limits.STORE_WRITE_CACHE_BYTES // 1024
    reader.close()
    writer.close()


async def test_a_reader_that_reads_much_keeps_no_more_than_its_part(file: Path) -> None:
    async with SQLiteStore(file) as store:
        for number in range(4):
            await store.create(f"s/{number}", NewStream(data=bytes(4 * 1024 * 1024)))
    reader = open_reader(str(file), vfs=None)
    # The memory of this connection's pages, in bytes.
    for row in reader.execute("SELECT data FROM chunk"):
        assert len(row[0]) == 4 * 1024 * 1024
    used, _ = reader.status(apsw.SQLITE_DBSTATUS_CACHE_USED)
    assert used < 1.2 * limits.STORE_READ_CACHE_BYTES
    reader.close()


async def test_a_connection_that_reads_cannot_write(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
    reader = open_reader(str(file), vfs=None)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM stream")
    reader.close()


# The log is copied --------------------------------------------------------------------------------


def log_bytes(file: Path) -> int:
    return Path(f"{file}-wal").stat().st_size


@pytest.mark.slow
async def test_the_log_is_copied_as_it_grows(file: Path) -> None:
    longest = 0
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        for _ in range(60):
            await store.append("a", Append(data=b"x" * 1_000_000))
            longest = max(longest, log_bytes(file))
    assert 8_000_000 < longest < 16_000_000
    assert verify(file) == []


@pytest.mark.slow
async def test_the_log_is_cut_when_nothing_is_written_for_a_while(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"x" * 100_000))
        assert log_bytes(file) > 100_000
        await wait_until(lambda: log_bytes(file) == 0)
        await store.append("a", Append(data=b"y"))
        await wait_until(lambda: log_bytes(file) == 0)


@pytest.mark.slow
async def test_a_reader_that_stays_holds_up_nobody(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"x"))
        reader = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chunk").fetchall()
        for _ in range(20):
            await store.append("a", Append(data=b"x" * 1_000_000))
        assert log_bytes(file) > 16_000_000  # what the reader sees cannot be overwritten
        reader.execute("COMMIT")
        reader.close()
        for _ in range(20):
            await store.append("a", Append(data=b"x" * 1_000_000))
        assert log_bytes(file) <= limits.STORE_WAL_KEPT_BYTES
    assert verify(file) == []


@pytest.mark.parametrize(("beyond", "is_copied"), [(-1, False), (0, True)])
async def test_it_is_copied_at_its_limit_and_not_before(
    file: Path, monkeypatch: pytest.MonkeyPatch, beyond: int, is_copied: bool
) -> None:
    connection = apsw.Connection(str(file))
    connection.pragma("journal_mode", "WAL")
    connection.pragma("wal_autocheckpoint", 0)
    checkpoint = Checkpoint(connection)
    connection.execute("CREATE TABLE t(x)")
    connection.execute("INSERT INTO t VALUES(zeroblob(2000000))")
    frames, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    assert copied == 0
    monkeypatch.setattr(limits, "STORE_WAL_BYTES", frames * 4096 - beyond)
    checkpoint.run()
    after = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    assert after == (frames, frames if is_copied else 0)
    connection.close()


@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_log_that_was_longer_is_cut_to_its_limit(
    file: Path, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    apsw.Connection(str(file)).close()
    connection = open_writer(str(file), vfs=None, synchronous="FULL")
    use_log(connection)
    connection.execute("CREATE TABLE t(x)")
    connection.execute("INSERT INTO t VALUES(zeroblob(2000000))")
    longest = log_bytes(file)
    monkeypatch.setattr(limits, "STORE_WAL_KEPT_BYTES", longest - beyond)
    use_log(connection)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    connection.execute("DELETE FROM t")  # the log begins anew
    assert log_bytes(file) == longest - beyond
    connection.close()
