"""How the file is opened."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tailrace import limits
from tailrace.store import NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.store.sqlite.connection import open_reader, open_writer

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
