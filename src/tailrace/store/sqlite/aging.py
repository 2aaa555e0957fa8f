"""When to look which streams keep appends that are too old, though nobody appends or reads.

In rounds, a thousand streams at a time, while there are streams that keep by age at all.
"""

from __future__ import annotations

import time
from typing import Final

import apsw

from tailrace import limits
from tailrace.store.sqlite.operation import Operation, Trim

__all__ = ["Aging"]

_ROUND: Final = 60.0
"""Seconds between two rounds. Nobody can read what is too old; it only takes room until then."""

_PAGE: Final = """
SELECT s.id, s.path, ifnull((
  SELECT at FROM chunk WHERE sid = s.id AND tail > s.low ORDER BY tail LIMIT 1
) < ?1 - s.max_age * 1250, 0)
FROM stream s WHERE s.max_age IS NOT NULL AND s.gone = 0 AND s.id > ?2 ORDER BY s.id LIMIT ?3
"""


class Aging:
    """The rounds of one file in one process; belongs to the writer thread.

    Args:
        connection: The writer's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._last = 0
        self._next: float | None = time.monotonic()

    def next_in(self) -> float | None:
        """Seconds until there is something to look at; None: nothing is kept by age."""
        return None if self._next is None else max(0.0, self._next - time.monotonic())

    def note(self) -> None:
        """A stream was created that keeps by age."""
        if self._next is None:
            self._next = time.monotonic() + _ROUND

    def requests(self, now: int) -> list[Operation]:
        """What is to be done with the next commit.

        Args:
            now: Milliseconds since the epoch.
        """
        if self.next_in() != 0:
            return []
        bounds = (now, self._last, limits.STORE_SLICE_ROWS)
        rows = self._connection.execute(_PAGE, bounds).fetchall()
        is_whole = self._last == 0 and not rows
        self._last = 0
        if len(rows) == limits.STORE_SLICE_ROWS:
            self._last = int(str(rows[-1][0]))
        if self._last == 0:
            self._next = None if is_whole else time.monotonic() + _ROUND
        paths = [str(path) for _, path, is_old in rows if is_old]
        return [Trim(paths)] if paths else []
