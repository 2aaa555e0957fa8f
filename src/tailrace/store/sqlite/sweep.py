"""Deletes what nobody can reach any more, in slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import apsw

from tailrace import limits

__all__ = ["Sweep"]

_END: Final = """
SELECT max(tail) FROM (
  SELECT tail FROM chunk WHERE sid = ?1 AND tail <= ?2 ORDER BY tail LIMIT ?3
) WHERE tail <= (SELECT min(tail) FROM chunk WHERE sid = ?1) + ?4
"""
"""Where a slice ends: after so many rows, or bytes, but after one row at least."""

_PRODUCERS: Final = """
DELETE FROM producer WHERE sid = ?1 AND pid IN (
  SELECT pid FROM producer WHERE sid = ?1 LIMIT ?2
)
"""

_EVERYTHING: Final = 2**63 - 1

_FREE_SHARE: Final = 4
_FREE_PAGES: Final = 2560
"""Free pages are given back to the system if they are a quarter of the file and over 10 MiB; until
then new appends use them."""

_VACUUM_PAGES: Final = 500


class Sweep:
    """What is to be deleted from one file; belongs to the writer thread.

    Args:
        connection: The writer's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # What a process that was killed has left: dead streams, and chunks before the `low`.
        self._dead = True
        self._trimmed: dict[int, int] = {
            int(row[0]): int(row[1])
            for row in connection.execute("SELECT id, low FROM stream WHERE low > 0")
        }
        self._vacuum = False

    @property
    def pending(self) -> bool:
        """Whether `slice` has something to do."""
        return self._dead or bool(self._trimmed) or self._vacuum

    def note(self, dead: bool, trimmed: Mapping[int, int]) -> None:
        """Streams have died, or the `low` of some has moved.

        Args:
            dead: Some have died.
            trimmed: The new `low` by generation.
        """
        self._dead = self._dead or dead
        self._trimmed.update(trimmed)

    def slice(self) -> None:
        """Delete a little; the caller holds the lock."""
        if self._trimmed:
            generation, low = next(iter(self._trimmed.items()))
            if not self._delete_chunks(generation, low):
                del self._trimmed[generation]
        elif self._dead:
            self._delete_stream()
        else:
            self._give_back()

    def _delete_stream(self) -> None:
        generation = self._connection.execute(
            "SELECT id FROM stream WHERE path IS NULL LIMIT 1"
        ).get
        if generation is None:
            self._dead = False
            self._vacuum = True
            return
        if self._delete_chunks(generation, _EVERYTHING):
            return
        connection = self._connection
        connection.execute(_PRODUCERS, (generation, limits.STORE_SLICE_ROWS))
        if connection.changes() < limits.STORE_SLICE_ROWS:
            connection.execute("DELETE FROM stream WHERE id = ? AND path IS NULL", (generation,))

    def _delete_chunks(self, generation: int, upto: int) -> bool:
        """Delete a stream's chunks from its first; whether there were any."""
        connection = self._connection
        bounds = (generation, upto, limits.STORE_SLICE_ROWS, limits.STORE_SLICE_BYTES)
        end = connection.execute(_END, bounds).get
        if end is None:
            return False
        connection.execute("DELETE FROM chunk WHERE sid = ? AND tail <= ?", (generation, end))
        return True

    def _give_back(self) -> None:
        free = int(self._connection.pragma("freelist_count"))
        pages = int(self._connection.pragma("page_count"))
        if free < _FREE_PAGES or free * _FREE_SHARE < pages:
            self._vacuum = False
            return
        # It frees a page each time it is stepped.
        for _ in self._connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})"):
            pass
