"""Copies the write-ahead log into the file: when it has grown, when nothing is written, at the end.

Only under the lock of `lock.py`: SQLite before 3.51.3 could damage the log when one process wrote
while another copied, and none of ours can get into that situation with any SQLite.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

import apsw

from tailrace import limits

__all__ = ["Checkpoint"]

_IDLE: Final = 1.0
"""Seconds without a write after which the log is copied and cut to nothing."""

_LOOK_BYTES: Final = 1024 * 1024
"""Bytes of pages written after which it is worth asking how long the log is."""


class Checkpoint:
    """The log of one file, as one process sees it; belongs to the writer thread.

    Args:
        connection: The writer's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._page_bytes = int(connection.pragma("page_size"))
        self._written = 0
        self._wrote_at: float | None = None

    def next_in(self) -> float | None:
        """Seconds until the log is cut, if nothing more is written; None: it is."""
        if self._wrote_at is None:
            return None
        return max(0.0, self._wrote_at + _IDLE - time.monotonic())

    def note(self) -> None:
        """Something was written."""
        self._wrote_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether `run` has something to do."""
        return self._grown() >= _LOOK_BYTES or self.next_in() == 0.0

    def run(self) -> None:
        """Copy what should be; the caller holds the lock."""
        if self._grown() >= _LOOK_BYTES:
            self._written += self._grown()
            frames, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            if (frames - copied) * self._page_bytes >= limits.STORE_WAL_BYTES:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if self.next_in() == 0.0:
            self._wrote_at = None
            self.cut()

    def cut(self) -> None:
        """Copy all of the log, and cut it to nothing, unless somebody reads it now."""
        self._connection.set_busy_timeout(0)
        try:
            with suppress(apsw.BusyError):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._connection.set_busy_timeout(int(limits.STORE_LOCK_TIMEOUT * 1000))

    def _grown(self) -> int:
        """Bytes of pages written since the log was looked at."""
        pages, _ = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)
        return int(pages) * self._page_bytes - self._written
