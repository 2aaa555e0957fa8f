"""What the writer thread does between commits: expiry, `max_age`, deletion, checkpoints.

Nothing here is urgent, and none of it may delay an append for long. So it is done a few
milliseconds at a time, under the lock, when no operation waits; and now and then if operations
always wait. There is no timer while there is nothing to do.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final

import apsw

from tailrace import limits
from tailrace.store.sqlite.batch import Batch, Operation, Task
from tailrace.store.sqlite.connection import Checkpoint
from tailrace.store.sqlite.lifetime import LastAccess
from tailrace.store.sqlite.lock import WriteLock

__all__ = ["GarbageCollector", "Maintenance"]

_log = logging.getLogger("tailrace")

_BUSY_SLICE: Final = 0.05
"""Seconds between two slices of deletion while appends wait all the time: so deletion takes a tenth
of the time. A slice also follows once half as many operations were committed as a slice deletes
rows; otherwise more could be added than is deleted."""

_PAUSE: Final = 5.0
"""Seconds until maintenance that failed is tried again: the disk may be full."""

_LONGEST: Final = 3600.0
"""The longest wait, in seconds: the time-out of a thread's wait has a limit."""


class Maintenance:
    """The maintenance of one file in one process; used by the writer thread only.

    Args:
        connection: The writer's.
        lock: The file's write lock.
        accesses: When streams were last accessed.
        clock: Milliseconds since the epoch.
        take_over: Called under the lock before anything is written.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        lock: WriteLock,
        accesses: LastAccess,
        clock: Callable[[], int],
        take_over: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._take_over = take_over
        self._expiry = Expiry(connection, accesses, clock)
        self._aging = Aging(connection)
        self._clock = clock
        self._garbage = GarbageCollector(connection)
        self._checkpoint = Checkpoint(connection)
        self._slice_at = 0.0
        self._written = 0
        """Operations since the last slice."""
        self._resume_at = 0.0

    def next_in(self) -> float | None:
        """Seconds until there is something to do; None: nothing waits."""
        pause = max(0.0, self._resume_at - time.monotonic())
        waits = (
            self._expiry.next_in(),
            self._aging.next_in(),
            self._checkpoint.next_in(),
            0.0 if self._garbage.pending else None,
        )
        known = [seconds for seconds in waits if seconds is not None]
        return min(max(pause, min(known)), _LONGEST) if known else None

    def requests(self) -> list[Operation]:
        """The operations that are due with the next commit."""
        if time.monotonic() < self._resume_at:
            return []
        try:
            return [*self._expiry.requests(), *self._aging.requests(self._clock())]
        except apsw.Error as error:
            self._pause(error)
            return []

    def note(self, batch: Batch) -> None:
        """Take note of a batch that was committed."""
        self._checkpoint.note()
        self._garbage.note(batch.has_dead, batch.trimmed)
        self._aging.note(batch)
        self._written += batch.size
        try:
            self._expiry.note(batch)
        except apsw.Error as error:
            self._pause(error)

    def run(self, idle: bool) -> apsw.Error | None:
        """Do the checkpoint and one slice of deletion, if they are due.

        Args:
            idle: No operation waits.

        Returns:
            The error if it failed; it will be tried again later.
        """
        now = time.monotonic()
        is_time = idle or now - self._slice_at >= _BUSY_SLICE
        slice_due = self._garbage.pending and (
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
        """Copy the log into the file when the store closes; the caller holds the lock."""
        with suppress(apsw.Error):  # nothing is lost: the next process that opens it does it
            self._checkpoint.cut()

    def pause(self) -> None:
        """Do nothing for `_PAUSE` seconds, because a write failed."""
        self._resume_at = time.monotonic() + _PAUSE

    def _pause(self, error: apsw.Error) -> apsw.Error:
        self.pause()
        _log.warning("the maintenance of a store failed, and will be tried again: %s", error)
        return error

    def _slice(self) -> None:
        self._take_over()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._garbage.slice()
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(apsw.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise
        self._slice_at = time.monotonic()
        self._written = 0
        self._checkpoint.note()


# Streams that expire ------------------------------------------------------------------------------

_AT: Final = "ifnull(expires_at, touched + ttl * 1000 + min(max(1000, ttl * 100), ttl * 250))"
"""When to check a stream; the same expression as in the index `stream_due`. With a `ttl` it is
`lag_ms` after the expiry, because another process may know of an access that much later."""

_OURS: Final = "FROM stream WHERE gone = 0 AND (ttl IS NOT NULL OR expires_at IS NOT NULL)"
_FIRST: Final = f"SELECT min({_AT}) {_OURS}"
_DUE: Final = f"SELECT path {_OURS} AND {_AT} <= ? ORDER BY {_AT} LIMIT ?"

_OTHERS: Final = 60.0
"""Seconds between two checks for streams that other processes have created, while any stream
expires. A process expires its own streams as long as it lives. Accesses that keep nothing alive
are forgotten at the same time, if nothing is written meanwhile."""


class Expiry:
    """When to check which streams have expired, and when to write accesses of watched ones.

    What is due becomes an operation of the next batch, so that the writer's cache stays right. The
    next time is found in an index of the file and in the schedules of `LastAccess`, so that a
    commit does not look at streams which are not due.

    Args:
        connection: The writer's.
        accesses: When streams were last accessed.
        clock: Milliseconds since the epoch.
    """

    def __init__(
        self, connection: apsw.Connection, accesses: LastAccess, clock: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._accesses = accesses
        self._clock = clock
        self._next: int | None = None
        self._looked_at = 0.0
        self._look()

    def next_in(self) -> float | None:
        """Seconds until something is due; None: nothing expires."""
        accesses = self._accesses
        if accesses.are_due:
            return 0.0
        now = self._clock()
        waits = [(at - now) / 1000 for at in (self._next, accesses.keep_at()) if at is not None]
        if self._next is not None or len(accesses):
            waits.append(self._looked_at + _OTHERS - time.monotonic())
        return max(0.0, min(waits)) if waits else None

    def requests(self) -> list[Operation]:
        """The operations that are due with the next commit."""
        now = self._clock()
        found: list[Operation] = []
        if time.monotonic() >= self._looked_at + _OTHERS:
            self._look()
            self._accesses.let_go(now)
        if self._next is not None and now >= self._next:
            rows = self._connection.execute(_DUE, (now, limits.STORE_CHORE_STREAMS))
            found.append(Operation(Task.EXPIRE, paths=[str(row[0]) for row in rows]))
        kept = self._accesses.to_keep(now)
        if kept:
            found.append(Operation(Task.KEEP_ALIVE, paths=kept))
        if self._accesses.are_due:
            found.append(Operation(Task.WRITE_ACCESSES))
        return found

    def note(self, batch: Batch) -> None:
        """Take note of a batch that was committed."""
        self._accesses.let_go(self._clock())
        if batch.expires:
            self._look()

    def _look(self) -> None:
        self._next = self._connection.execute(_FIRST).get
        self._looked_at = time.monotonic()


# Streams with a `max_age` -------------------------------------------------------------------------

_ROUND: Final = 60.0
"""Seconds between two rounds. What is too old cannot be read anyway; it only takes room."""

_PACE: Final = 0.25
"""Seconds between two steps of a round, of 2 ms each."""

_PAGE: Final = """
SELECT s.id, s.path, ifnull((
  SELECT at FROM chunk WHERE sid = s.id AND tail > s.low ORDER BY tail LIMIT 1
) < ?1 - s.max_age * 1250, 0)
FROM stream s WHERE s.max_age IS NOT NULL AND s.gone = 0 AND s.id > ?2 ORDER BY s.id LIMIT ?3
"""


class Aging:
    """When to look for appends that are too old in streams that no client appends to or reads.

    It looks in rounds, a few streams at a time, while there are streams with a `max_age`. The more
    there are, the longer a round takes, so that the work of each second is always the same.

    Args:
        connection: The writer's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._last = 0
        self._next: float | None = time.monotonic()
        self._unfinished: dict[str, None] = {}
        """The paths of streams that have more to trim, for whatever reason. A path stays here until
        a commit has tried it."""

    def next_in(self) -> float | None:
        """Seconds until there is something to look at; None: no stream has a `max_age`."""
        if self._unfinished:
            return 0.0
        return None if self._next is None else max(0.0, self._next - time.monotonic())

    def note(self, batch: Batch) -> None:
        """Take note of a batch that was committed."""
        if batch.ages and self._next is None:
            self._next = time.monotonic() + _ROUND
        for path in batch.tried:
            self._unfinished.pop(path, None)
        self._unfinished.update(dict.fromkeys(batch.untrimmed))

    def requests(self, now: int) -> list[Operation]:
        """The operations that are due with the next commit.

        Args:
            now: Milliseconds since the epoch.
        """
        if self._next is not None and self._next <= time.monotonic():
            self._unfinished.update(dict.fromkeys(self._page(now)))
        paths = list(islice(self._unfinished, limits.STORE_CHORE_STREAMS))
        return [Operation(Task.TRIM, paths=paths)] if paths else []

    def _page(self, now: int) -> list[str]:
        """Those of the round's next few streams that have appends which are too old."""
        bounds = (now, self._last, limits.STORE_CHORE_STREAMS)
        rows = self._connection.execute(_PAGE, bounds).fetchall()
        is_none = self._last == 0 and not rows
        if len(rows) == limits.STORE_CHORE_STREAMS:
            self._last = int(str(rows[-1][0]))
            self._next = time.monotonic() + _PACE
        else:
            self._last = 0
            self._next = None if is_none else time.monotonic() + _ROUND
        return [str(path) for _, path, is_old in rows if is_old]


# Deletion -----------------------------------------------------------------------------------------

_SOME: Final = """
DELETE FROM chunk WHERE id IN (
  SELECT id FROM (
    SELECT id, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS before
    FROM (SELECT c.id, length(c.data) AS size FROM {} LIMIT ?1)
  ) WHERE before < ?2
)
"""
"""Deletes chunks, up to ?1 rows and ?2 bytes, but one row at least."""

_DEAD: Final = "(SELECT id FROM stream WHERE path IS NULL LIMIT ?1) d"
"""The first dead streams: a slice that looked at all would cost more, the more there are."""

_TRIMMED_CHUNKS: Final = _SOME.format(
    "json_each(?3) t CROSS JOIN chunk c ON c.sid = t.value ->> 0 AND c.tail <= t.value ->> 1"
)
_DEAD_CHUNKS: Final = _SOME.format(f"{_DEAD} CROSS JOIN chunk c ON c.sid = d.id")
_DEAD_PRODUCERS: Final = f"""
DELETE FROM producer WHERE (sid, pid) IN (
  SELECT p.sid, p.pid FROM {_DEAD} CROSS JOIN producer p ON p.sid = d.id LIMIT ?2
)
"""
_DEAD_STREAMS: Final = f"""
DELETE FROM stream WHERE id IN (
  SELECT d.id FROM {_DEAD}
  WHERE NOT EXISTS (SELECT 1 FROM chunk WHERE sid = d.id)
    AND NOT EXISTS (SELECT 1 FROM producer WHERE sid = d.id)
  LIMIT ?2
)
"""

_LEFT: Final = "SELECT id, low FROM stream WHERE low > 0 AND id > ? ORDER BY id LIMIT ?"

_FREE_SHARE: Final = 4
_FREE_PAGES: Final = 2560
"""Free pages are given back to the system if they are a quarter of the file and over 10 MiB; until
then new appends use them."""

_VACUUM_PAGES: Final = 500
_VACUUM_SECONDS: Final = 0.005
"""Bounds of giving pages back in one slice. The statement is stepped for each page, and each step
may wait for the interpreter's lock."""


class GarbageCollector:
    """Deletes what cannot be reached any more, in slices; used by the writer thread only.

    A slice is bounded by the records that it deletes, not by the number of streams: a thousand
    streams of one record go in one transaction, as a thousand records of one stream do. Each of its
    statements is stepped once, for the reason that `transaction.py` gives.

    Args:
        connection: The writer's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # A process that was killed may have left dead streams, and chunks below a `low`.
        self._dead = True
        self._trimmed: dict[int, int] = {}
        self._left_after: int | None = 0
        """The generation up to which streams with a `low` were looked at; None: all were."""
        self._vacuum = False

    @property
    def pending(self) -> bool:
        """Whether `slice` has something to do."""
        has_left = self._left_after is not None
        return self._dead or bool(self._trimmed) or has_left or self._vacuum

    def note(self, dead: bool, trimmed: Mapping[int, int]) -> None:
        """Take note that streams were marked as dead, or that the `low` of some has moved.

        Args:
            dead: Some were marked as dead.
            trimmed: The new `low` by generation.
        """
        self._dead = self._dead or dead
        self._trimmed.update(trimmed)

    def slice(self) -> None:
        """Delete a little; the caller holds the lock, and has begun a transaction."""
        self._find_left()
        # Both in the same slice: a busy store always has something of each.
        if self._trimmed or self._dead:
            self._vacuum = True
            self._delete_trimmed()
            self._delete_dead()
        else:
            self._give_back()

    def _find_left(self) -> None:
        if self._left_after is None or self._trimmed:
            return
        bounds = (self._left_after, limits.STORE_SLICE_ROWS)
        found = self._connection.execute(_LEFT, bounds).fetchall()
        self._trimmed = {int(str(row[0])): int(str(row[1])) for row in found}
        self._left_after = max(self._trimmed, default=None)

    def _delete_trimmed(self) -> None:
        some = list(islice(self._trimmed.items(), limits.STORE_CHORE_STREAMS))
        if some and not self._delete_chunks(_TRIMMED_CHUNKS, json.dumps(some)):
            for generation, _ in some:
                del self._trimmed[generation]

    def _delete_dead(self) -> None:
        if not self._dead:
            return
        rows = limits.STORE_SLICE_ROWS
        left = rows - self._delete_chunks(_DEAD_CHUNKS)
        for sql in (_DEAD_PRODUCERS, _DEAD_STREAMS):
            if left > 0:
                self._connection.execute(sql, (rows, left))
                left -= self._connection.changes()
        self._dead = left < rows

    def _delete_chunks(self, sql: str, *bindings: str) -> int:
        bounds = (limits.STORE_SLICE_ROWS, limits.STORE_SLICE_BYTES)
        self._connection.execute(sql, (*bounds, *bindings))
        return self._connection.changes()

    def _give_back(self) -> None:
        free = int(self._connection.pragma("freelist_count"))
        pages = int(self._connection.pragma("page_count"))
        if free < _FREE_PAGES or free * _FREE_SHARE < pages:
            self._vacuum = False
            return
        until = time.monotonic() + _VACUUM_SECONDS
        freeing = self._connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        try:
            # It frees a page each time it is stepped.
            for _ in freeing:
                if time.monotonic() >= until:
                    break
        finally:
            freeing.close(True)
