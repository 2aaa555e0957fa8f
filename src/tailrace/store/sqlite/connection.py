"""How the store uses SQLite: connections, the write-ahead log, and SQLite's errors as ours.

The log is copied into the file (a checkpoint) when it has grown, when nothing has been written for
a while, and when the store closes; and only under the lock of `lock.py`. SQLite before 3.51.3 could
damage the log when one process wrote while another copied it. Under the lock that cannot happen,
with any SQLite.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal

import apsw

from tailrace import limits
from tailrace.errors import (
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
)

__all__ = [
    "DRIVER_ERRORS",
    "Checkpoint",
    "Synchronous",
    "close",
    "failure_of",
    "is_damage",
    "is_fatal",
    "open_reader",
    "open_writer",
    "read_transaction",
    "use_log",
]

# Connections --------------------------------------------------------------------------------------

Synchronous = Literal["FULL", "NORMAL"]
"""NORMAL may lose what was acknowledged in a power cut; it proves that the tests would notice."""

_WRITER = apsw.SQLITE_OPEN_READWRITE
_READER = apsw.SQLITE_OPEN_READWRITE  # a reader writes to the index of the log, too


def open_writer(path: str, *, vfs: str | None, synchronous: Synchronous) -> apsw.Connection:
    """Open the connection that writes; the file may have no tables yet.

    Args:
        path: An existing file, maybe empty.
        vfs: A file system layer (VFS) of SQLite, by name; None is the system's.
        synchronous: How durable a commit is.

    Raises:
        StoreReadOnly: The file cannot be written.
    """
    connection = _connect(path, _WRITER, vfs, limits.STORE_WRITE_CACHE_BYTES)
    if connection.readonly("main"):  # SQLite opens a read-only file without an error
        close(connection)
        raise StoreReadOnly(path, "cannot be written: check the permissions of its file")
    connection.pragma("synchronous", synchronous)
    # macOS's fsync leaves what was written in the disk's own cache; other systems ignore this.
    connection.pragma("fullfsync", True)
    connection.pragma("checkpoint_fullfsync", True)
    connection.pragma("temp_store", "MEMORY")
    return connection


def use_log(connection: apsw.Connection) -> None:
    """Turn on the write-ahead log, for good, and make its files."""
    connection.pragma("journal_mode", "WAL")
    connection.pragma("schema_version")  # any read makes them; `kept_private` needs them
    connection.pragma("wal_autocheckpoint", 0)  # `Checkpoint` does it, under the lock
    connection.pragma("journal_size_limit", limits.STORE_WAL_KEPT_BYTES)


def open_reader(path: str, *, vfs: str | None) -> apsw.Connection:
    """Open a connection that cannot change any data."""
    connection = _connect(path, _READER, vfs, limits.STORE_READ_CACHE_BYTES)
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("query_only", True)
    # Otherwise the last connection to close would copy the log into the file, without the lock.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection


def close(connection: apsw.Connection) -> None:
    """Close a connection with all its statements."""
    connection.close(True)


@contextmanager
def read_transaction(connection: apsw.Connection) -> Iterator[None]:
    """A block in which all reads see the file as it was at the first of them."""
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


# The log ------------------------------------------------------------------------------------------

_IDLE: Final = 1.0
"""Seconds without a write after which the log is copied and truncated."""

_LOOK_BYTES: Final = 1024 * 1024
"""Bytes of pages written after which it is worth looking how long the log is."""


class Checkpoint:
    """Copies the log into the file when that is due; used by the writer thread only.

    Args:
        connection: The writer's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._page_bytes = int(connection.pragma("page_size"))
        self._written = 0
        self._wrote_at: float | None = None

    def next_in(self) -> float | None:
        """Seconds until the log is truncated, if nothing more is written; None: it is already."""
        if self._wrote_at is None:
            return None
        return max(0.0, self._wrote_at + _IDLE - time.monotonic())

    def note(self) -> None:
        """Record that something was written now."""
        self._wrote_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether `run` has something to do."""
        return self._grown() >= _LOOK_BYTES or self.next_in() == 0.0

    def run(self) -> None:
        """Copy the log if it has grown, truncate it if it is idle; the caller holds the lock."""
        if self._grown() >= _LOOK_BYTES:
            self._written += self._grown()
            frames, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            if (frames - copied) * self._page_bytes >= limits.STORE_WAL_BYTES:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if self.next_in() == 0.0:
            self._wrote_at = None
            self.cut()

    def cut(self) -> None:
        """Copy all of the log and truncate it, unless a connection is reading it."""
        self._connection.set_busy_timeout(0)
        try:
            with suppress(apsw.BusyError):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._connection.set_busy_timeout(int(limits.STORE_LOCK_TIMEOUT * 1000))

    def _grown(self) -> int:
        """Bytes of pages written since `run` last looked at the log."""
        pages, _ = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)
        return int(pages) * self._page_bytes - self._written


# Errors: mapped only here -------------------------------------------------------------------------

DRIVER_ERRORS: Final = (apsw.Error, OSError, MemoryError)
"""What SQLite and the system calls around it raise."""

_SYNC: Final = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)

_FULL: Final = "has no room left on its disk: free some, then it works again"
_LOCKED: Final = "is locked by another program: stop what writes to its file"
_READ_ONLY_WORDS: Final = "cannot be written: check the permissions of its file and directory"
_CORRUPT: Final = "is damaged: restore a copy of its file, or move it away"

_BY_CLASS: Final[tuple[tuple[type[apsw.Error], type[StoreUnavailable], str], ...]] = (
    (apsw.FullError, StoreFull, _FULL),
    (apsw.ReadOnlyError, StoreReadOnly, _READ_ONLY_WORDS),
    (apsw.PermissionsError, StoreReadOnly, _READ_ONLY_WORDS),
    (apsw.BusyError, StoreLocked, _LOCKED),
    (apsw.LockedError, StoreLocked, _LOCKED),
    (apsw.ProtocolError, StoreLocked, _LOCKED),
    (apsw.NotADBError, StoreCorrupt, "is not a store: its file is something else"),
)


def failure_of(store: str, error: BaseException, number: int = 0) -> StoreUnavailable:
    """Our error for an error of the driver or of the system; one of ours is returned as it is.

    Args:
        store: The file.
        error: What was raised; the caller raises ours `from` it.
        number: The system's errno behind an error of SQLite; 0: not known.
    """
    if isinstance(error, StoreUnavailable):
        return error
    number = _system_number(error, number)
    if number in _NO_ROOM:
        return StoreFull(store, _FULL)
    if number in _READ_ONLY:
        return StoreReadOnly(store, _READ_ONLY_WORDS)
    for kind, ours, words in _BY_CLASS:
        if isinstance(error, kind):
            return ours(store, words)
    if is_damage(error):
        return StoreCorrupt(store, _CORRUPT)
    return StoreUnavailable(store, f"failed: {error}")


def is_fatal(error: BaseException, number: int) -> bool:
    """Whether no write may be tried again through the same descriptor.

    After a failed sync the system may have dropped the pages, and still report the next sync as
    done ("fsyncgate"). So a failed sync is fatal, and so is any other I/O error, unless the disk is
    full or a permission is missing.

    Args:
        error: What SQLite raised.
        number: The system's errno behind it.
    """
    if not isinstance(error, apsw.IOError):
        return False
    synced = getattr(error, "extendedresult", 0) in _SYNC
    return synced or _system_number(error, number) not in (*_NO_ROOM, *_READ_ONLY)


def is_damage(error: BaseException) -> bool:
    """Whether an error shows that the file is damaged: then nothing more may be acknowledged."""
    # A file that was emptied is a database without our tables; they were there when it was opened.
    emptied = isinstance(error, apsw.SQLError) and str(error).startswith("no such table")
    return emptied or isinstance(error, (apsw.CorruptError, apsw.NotADBError))


def _system_number(error: BaseException, number: int) -> int:
    """The errno behind an error; 0: not known."""
    if isinstance(error, OSError):
        return error.errno or 0
    # SQLite keeps the last errno. With an error of another kind, it may be of an earlier call.
    return number if isinstance(error, (apsw.IOError, apsw.CantOpenError)) else 0
