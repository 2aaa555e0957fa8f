"""When to look which streams have expired, and which watched ones to keep alive.

What is due goes through the writer like any request. So what the writer knows stays right. What is
next is found in an index of the file and in the schedules of `uses.py`: a commit walks through
nothing that only waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import apsw

from tailrace import limits
from tailrace.store.sqlite.batch import Batch
from tailrace.store.sqlite.operation import Expire, Keep, Operation, Touch
from tailrace.store.sqlite.uses import Uses

__all__ = ["Expiry"]

_AT: Final = "ifnull(expires_at, touched + ttl * 1000 + min(max(1000, ttl * 100), ttl * 250))"
"""When to look, as the index `stream_due` has it. With a `ttl` it is later than the expiry by
`lag_ms`: as much as another process may know of a later use."""

_OURS: Final = "FROM stream WHERE gone = 0 AND (ttl IS NOT NULL OR expires_at IS NOT NULL)"
_FIRST: Final = f"SELECT min({_AT}) {_OURS}"
_DUE: Final = f"SELECT path {_OURS} AND {_AT} <= ? ORDER BY {_AT} LIMIT ?"

_OTHERS: Final = 60.0
"""Seconds between two looks at what other processes have created, while anything expires at all:
their own process does it, if it lives. And at uses that keep nothing alive any more, if nothing is
written meanwhile."""


class Expiry:
    """The schedule of one file in one process; belongs to the writer thread.

    Args:
        connection: The writer's.
        uses: When streams were used.
        clock: Milliseconds since the epoch.
    """

    def __init__(self, connection: apsw.Connection, uses: Uses, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._uses = uses
        self._clock = clock
        self._next: int | None = None
        self._looked_at = 0.0
        self._look()

    def next_in(self) -> float | None:
        """Seconds until something is due; None: nothing expires."""
        uses = self._uses
        if uses.are_due:
            return 0.0
        now = self._clock()
        waits = [(at - now) / 1000 for at in (self._next, uses.keep_at()) if at is not None]
        if self._next is not None or len(uses):
            waits.append(self._looked_at + _OTHERS - time.monotonic())
        return max(0.0, min(waits)) if waits else None

    def requests(self) -> list[Operation]:
        """What is to be done with the next commit."""
        now = self._clock()
        found: list[Operation] = []
        if time.monotonic() >= self._looked_at + _OTHERS:
            self._look()
            self._uses.let_go(now)
        if self._next is not None and now >= self._next:
            bounds = (now, limits.STORE_CHORE_STREAMS)
            found.append(Expire([str(row[0]) for row in self._connection.execute(_DUE, bounds)]))
        kept = self._uses.to_keep(now)
        if kept:
            found.append(Keep(kept))
        if self._uses.are_due:
            found.append(Touch())
        return found

    def note(self, batch: Batch) -> None:
        """A batch was committed."""
        self._uses.let_go(self._clock())
        if batch.expires:
            self._look()

    def _look(self) -> None:
        self._next = self._connection.execute(_FIRST).get
        self._looked_at = time.monotonic()
