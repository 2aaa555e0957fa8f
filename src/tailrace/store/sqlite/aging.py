"""When to look which streams keep appends that are too old, though nobody appends or reads.

In rounds, a few streams at a time, while there are streams that keep by age at all. A round takes
longer the more there are, so that the work of a second is always the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from typing import Final

import apsw

from tailrace import limits
from tailrace.store.sqlite.operation import Operation, Trim

__all__ = ["Aging"]

_ROUND: Final = 60.0
"""Seconds between two rounds. Nobody can read what is too old; it only takes room until then."""

_PACE: Final = 0.25
"""Seconds between two looks of a round, of 2 ms each."""

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
        self._unfinished: dict[str, None] = {}
        """Streams of which more is to go, whatever they keep by."""

    def next_in(self) -> float | None:
        """Seconds until there is something to look at; None: nothing is kept by age."""
        if self._unfinished:
            return 0.0
        return None if self._next is None else max(0.0, self._next - time.monotonic())

    def note(self, ages: bool, unfinished: Sequence[str]) -> None:
        """A batch was committed.

        Args:
            ages: A stream was created that keeps by age.
            unfinished: Streams of which more is to go.
        """
        if ages and self._next is None:
            self._next = time.monotonic() + _ROUND
        self._unfinished.update(dict.fromkeys(unfinished))

    def requests(self, now: int) -> list[Operation]:
        """What is to be done with the next commit.

        Args:
            now: Milliseconds since the epoch.
        """
        paths = list(islice(self._unfinished, limits.STORE_CHORE_STREAMS))
        for path in paths:
            del self._unfinished[path]
        if self._next is not None and self._next <= time.monotonic():
            paths += self._page(now)
        return [Trim(paths)] if paths else []

    def _page(self, now: int) -> list[str]:
        """Those of the next few streams of the round that keep what is too old."""
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
