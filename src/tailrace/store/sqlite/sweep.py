"""Deletes what nobody can reach any more, in slices.

A slice is bounded by what it deletes, not by whose it was: a thousand streams of one record go in
one transaction, as a thousand records of one stream do. Each of its statements is stepped once, for
the reason that `ledger.py` gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import islice
from typing import Final

import apsw

from tailrace import limits

__all__ = ["Sweep"]

_SOME: Final = """
DELETE FROM chunk WHERE id IN (
  SELECT id FROM (
    SELECT id, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS before
    FROM (SELECT c.id, length(c.data) AS size FROM {} LIMIT ?1)
  ) WHERE before < ?2
)
"""
"""Ends after so many rows, or bytes, but after one row at least."""

_DEAD: Final = "(SELECT id FROM stream WHERE path IS NULL LIMIT ?1) d"
"""The first of them: a slice that looked at all would cost more the longer the queue is."""

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
"""Bounds of one giving back. It is stepped for each page, and each step may wait for the
interpreter's lock."""


class Sweep:
    """What is to be deleted from one file; belongs to the writer thread.

    Args:
        connection: The writer's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # What a process that was killed has left: dead streams, and chunks before the `low`.
        self._dead = True
        self._trimmed: dict[int, int] = {}
        self._left_after: int | None = 0
        """Streams with a `low` have been looked at up to this one; None: all have."""
        self._vacuum = False

    @property
    def pending(self) -> bool:
        """Whether `slice` has something to do."""
        has_left = self._left_after is not None
        return self._dead or bool(self._trimmed) or has_left or self._vacuum

    def note(self, dead: bool, trimmed: Mapping[int, int]) -> None:
        """Streams have died, or the `low` of some has moved.

        Args:
            dead: Some have died.
            trimmed: The new `low` by generation.
        """
        self._dead = self._dead or dead
        self._trimmed.update(trimmed)

    def slice(self) -> None:
        """Delete a little; the caller holds the lock, and has begun a transaction."""
        self._find_left()
        # Neither waits for the other: a busy store has always something of both.
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
