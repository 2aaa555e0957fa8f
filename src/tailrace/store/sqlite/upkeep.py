"""What the writer thread does between commits: expiry, deletion, checkpoints.

Nothing here is urgent, and none of it may hold an append up for long. So it is done a few
milliseconds at a time, under the lock, when nothing else waits; or now and then if something always
does. There is no timer while there is nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import apsw

from tailrace import limits
from tailrace.store.sqlite.aging import Aging
from tailrace.store.sqlite.batch import Batch
from tailrace.store.sqlite.connection import Checkpoint
from tailrace.store.sqlite.expiry import Expiry
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.sqlite.operation import Operation
from tailrace.store.sqlite.sweep import Sweep
from tailrace.store.sqlite.uses import Uses

__all__ = ["Upkeep"]

_log = logging.getLogger("tailrace")

_BUSY_SLICE: Final = 0.05
"""Seconds between two deletions while appends wait all the time: a tenth of the time is theirs. And
once half as much was written as a slice deletes, or what is deleted would grow for ever."""

_PAUSE: Final = 5.0
"""Seconds until upkeep that failed is tried again: the disk may be full."""

_LONGEST: Final = 3600.0
"""Seconds of one wait: what a thread can be told to wait has a bound."""


class Upkeep:
    """The upkeep of one file in one process; belongs to the writer thread.

    Args:
        connection: The writer's.
        lock: Of the file.
        uses: When streams were used.
        clock: Milliseconds since the epoch.
        take_over: Called under the lock before anything is written.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        lock: WriteLock,
        uses: Uses,
        clock: Callable[[], int],
        take_over: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._take_over = take_over
        self._expiry = Expiry(connection, uses, clock)
        self._aging = Aging(connection)
        self._clock = clock
        self._sweep = Sweep(connection)
        self._checkpoint = Checkpoint(connection)
        self._slice_at = 0.0
        self._written = 0
        """Requests since the last slice."""
        self._resume_at = 0.0

    def next_in(self) -> float | None:
        """Seconds until there is something to do; None: nothing."""
        pause = max(0.0, self._resume_at - time.monotonic())
        waits = (
            self._expiry.next_in(),
            self._aging.next_in(),
            self._checkpoint.next_in(),
            0.0 if self._sweep.pending else None,
        )
        known = [seconds for seconds in waits if seconds is not None]
        return min(max(pause, min(known)), _LONGEST) if known else None

    def requests(self) -> list[Operation]:
        """What is to be done with the next commit."""
        if time.monotonic() < self._resume_at:
            return []
        try:
            return [*self._expiry.requests(), *self._aging.requests(self._clock())]
        except apsw.Error as error:
            self._pause(error)
            return []

    def note(self, batch: Batch) -> None:
        """A batch was committed."""
        self._checkpoint.note()
        self._sweep.note(batch.buried, batch.trimmed)
        self._aging.note(batch.ages, batch.untrimmed)
        self._written += batch.size
        try:
            self._expiry.note(batch)
        except apsw.Error as error:
            self._pause(error)

    def run(self, idle: bool) -> apsw.Error | None:
        """Do a piece of what there is to do.

        Args:
            idle: Nothing else waits.

        Returns:
            Why it failed; it will be tried again later.
        """
        now = time.monotonic()
        is_time = idle or now - self._slice_at >= _BUSY_SLICE
        slice_due = self._sweep.pending and (
            is_time or self._written >= limits.STORE_SLICE_ROWS // 2
        )
        if now < self._resume_at or not (slice_due or self._checkpoint.due):
            return None
        try:
            with self._lock:
                self._checkpoint.run()
                if slice_due:
                    self._slice()
        except apsw.Error as error:
            return self._pause(error)
        return None

    def finish(self) -> None:
        """Copy the log into the file, at the end; the caller holds the lock."""
        with suppress(apsw.Error):  # nothing is lost: who opens it next does it
            self._checkpoint.cut()

    def pause(self) -> None:
        """Let all rest for a while: writing does not work."""
        self._resume_at = time.monotonic() + _PAUSE

    def _pause(self, error: apsw.Error) -> apsw.Error:
        self.pause()
        _log.warning("the upkeep of a store failed, and will be tried again: %s", error)
        return error

    def _slice(self) -> None:
        self._take_over()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._sweep.slice()
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(apsw.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise
        self._slice_at = time.monotonic()
        self._written = 0
        self._checkpoint.note()
