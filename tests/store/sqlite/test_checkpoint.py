"""The write-ahead log does not grow without bound, and is cut when nothing is written."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tailrace import limits
from tailrace.store import Append, NewStream
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.checkpoint import Checkpoint
from tailrace.store.sqlite.connection import open_writer, use_log
from tailrace.testing import wait_until

pytestmark = pytest.mark.anyio


def log_bytes(file: Path) -> int:
    return Path(f"{file}-wal").stat().st_size


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
