"""What goes wrong in SQLite and in the file system, as our own errors; the only place that maps."""

from __future__ import annotations

import errno

import apsw

from tailrace.errors import (
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
)

__all__ = ["DRIVER_ERRORS", "failure_of", "is_damage", "is_fatal"]

DRIVER_ERRORS = (apsw.Error, OSError, MemoryError)
"""What SQLite and the calls around it raise."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

_FULL = "has no room left on its disk: make some, then it works again"
_LOCKED = "is held by somebody else: close what writes to its file"
_READ_ONLY_WORDS = "cannot be written: look at the rights of its file and directory"
_CORRUPT = "is damaged: put back a copy of its file, or move it away"

_BY_CLASS: tuple[tuple[type[apsw.Error], type[StoreUnavailable], str], ...] = (
    (apsw.FullError, StoreFull, _FULL),
    (apsw.ReadOnlyError, StoreReadOnly, _READ_ONLY_WORDS),
    (apsw.PermissionsError, StoreReadOnly, _READ_ONLY_WORDS),
    (apsw.BusyError, StoreLocked, _LOCKED),
    (apsw.LockedError, StoreLocked, _LOCKED),
    (apsw.ProtocolError, StoreLocked, _LOCKED),
    (apsw.NotADBError, StoreCorrupt, "is no store: its file is something else"),
)


def failure_of(store: str, error: BaseException, number: int = 0) -> StoreUnavailable:
    """An error of the driver or of the system as ours.

    Args:
        store: The file.
        error: What was raised; the caller raises ours `from` it.
        number: The system's errno behind an error of SQLite, if it is known.
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

    After a failed sync the system may have dropped the pages and report the next one as done
    ("fsyncgate"); so a write that failed for another reason than room or rights ends the writer.

    Args:
        error: What SQLite raised.
        number: The system's errno behind it.
    """
    if not isinstance(error, apsw.IOError):
        return False
    synced = getattr(error, "extendedresult", 0) in _SYNC
    return synced or _system_number(error, number) not in (*_NO_ROOM, *_READ_ONLY)


def is_damage(error: BaseException) -> bool:
    """Whether the file is not what was written to it: nothing more may be acknowledged on it."""
    # A file that was emptied is a database without our tables, which it had when it was opened.
    emptied = isinstance(error, apsw.SQLError) and str(error).startswith("no such table")
    return emptied or isinstance(error, (apsw.CorruptError, apsw.NotADBError))


_SYNC = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


def _system_number(error: BaseException, number: int) -> int:
    """The errno behind an error; 0 if there is none."""
    if isinstance(error, OSError):
        return error.errno or 0
    # SQLite keeps the last one, which need not belong to an error of another kind.
    return number if isinstance(error, (apsw.IOError, apsw.CantOpenError)) else 0
