"""Connections to a store's file: one that writes, a few that read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import apsw

from tailrace import limits
from tailrace.errors import StoreReadOnly

__all__ = ["Synchronous", "close", "moment", "open_reader", "open_writer", "use_log"]

Synchronous = Literal["FULL", "NORMAL"]
"""NORMAL loses what was acknowledged when the power is cut: it shows that tests would see it."""

_WRITER = apsw.SQLITE_OPEN_READWRITE
_READER = apsw.SQLITE_OPEN_READWRITE  # even who only reads writes to the index of the log


def open_writer(path: str, *, vfs: str | None, synchronous: Synchronous) -> apsw.Connection:
    """The connection that writes; its tables may not be there yet.

    Args:
        path: An existing file, maybe empty.
        vfs: A file system layer of SQLite by name; None is the system's.
        synchronous: How durable a commit is.

    Raises:
        StoreReadOnly: It cannot be written.
    """
    connection = _connect(path, _WRITER, vfs, limits.STORE_WRITE_CACHE_BYTES)
    if connection.readonly("main"):  # SQLite opens a file that cannot be written all the same
        close(connection)
        raise StoreReadOnly(path, "cannot be written: look at the rights of its file")
    connection.pragma("synchronous", synchronous)
    # macOS's fsync leaves what was written in the disk's own cache; other systems ignore this.
    connection.pragma("fullfsync", True)
    connection.pragma("checkpoint_fullfsync", True)
    connection.pragma("temp_store", "MEMORY")
    return connection


def use_log(connection: apsw.Connection) -> None:
    """Turn the write-ahead log on; it stays on for good. Its files are there from now on."""
    connection.pragma("journal_mode", "WAL")
    connection.pragma("schema_version")  # any read makes them: they are to be known by their inodes
    connection.pragma("wal_autocheckpoint", 0)  # `upkeep.py` does it, under the lock
    connection.pragma("journal_size_limit", limits.STORE_WAL_KEPT_BYTES)


def open_reader(path: str, *, vfs: str | None) -> apsw.Connection:
    """A connection that cannot change anything."""
    connection = _connect(path, _READER, vfs, limits.STORE_READ_CACHE_BYTES)
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("query_only", True)
    # The last one to close would copy the log into the file, outside of the lock.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection


def close(connection: apsw.Connection) -> None:
    """Close for good, with all its statements."""
    connection.close(True)


@contextmanager
def moment(connection: apsw.Connection) -> Iterator[None]:
    """All that is read within is of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(apsw.Error):  # a damaged page may have ended it
            connection.execute("COMMIT")


def _connect(path: str, flags: int, vfs: str | None, cache_bytes: int) -> apsw.Connection:
    connection = apsw.Connection(path, flags=flags, vfs=vfs)
    connection.set_busy_timeout(int(limits.STORE_LOCK_TIMEOUT * 1000))
    connection.pragma("cache_size", -(cache_bytes // 1024))
    connection.pragma("foreign_keys", False)
    return connection
