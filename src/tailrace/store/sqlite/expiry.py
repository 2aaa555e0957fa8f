"""When to look which streams have expired, and which watched ones to keep alive.

What is due goes through the writer like any request. So what the writer knows stays right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import apsw

from tailrace.store.sqlite.batch import Batch
from tailrace.store.sqlite.operation import Expire, Keep, Operation
from tailrace.store.sqlite.uses import Uses, lag_ms

__all__ = ["Expiry"]

_AT: Final = "ifnull(expires_at, touched + ttl * 1000 + min(max(1000, ttl * 100), ttl * 250))"
"""When to look, as the index `stream_due` has it. With a `ttl` it is later than the expiry by
`lag_ms`: as much as another process may know of a later use."""

_OURS: Final = "FROM stream WHERE gone = 0 AND (ttl IS NOT NULL OR expires_at IS NOT NULL)"
_FIRST: Final = f"SELECT min({_AT}) {_OURS}"
_DUE: Final = f"SELECT path {_OURS} AND {_AT} <= ? ORDER BY {_AT} LIMIT 200"

_OTHERS: Final = 60.0
"""Seconds between two looks at what other processes have created, while anything expires at all:
their own process does it, if it lives."""


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
        self._keep_at: int | None = None
        self._look()

    def next_in(self) -> float | None:
        """Seconds until something is due; None: nothing expires."""
        waits = [
            (at - self._clock()) / 1000 for at in (self._next, self._keep_at) if at is not None
        ]
        if self._next is not None:
            waits.append(self._looked_at + _OTHERS - time.monotonic())
        return max(0.0, min(waits)) if waits else None

    def requests(self) -> list[Operation]:
        """What is to be done with the next commit."""
        now = self._clock()
        found: list[Operation] = []
        if self._next is not None and time.monotonic() >= self._looked_at + _OTHERS:
            self._look()
        if self._next is not None and now >= self._next:
            found.append(Expire([str(row[0]) for row in self._connection.execute(_DUE, (now,))]))
        if self._keep_at is not None and now >= self._keep_at:
            found.append(Keep(list(self._uses.kept)))
        return found

    def note(self, batch: Batch) -> None:
        """A batch was committed."""
        if batch.expires:
            self._look()
        if batch.kept:
            self._keep_at = None
            self._uses.prune(self._clock())
        lags = [lag_ms(ttl) for _, ttl in list(self._uses.kept.values())]
        if lags:
            at = self._clock() + min(lags)
            self._keep_at = at if self._keep_at is None else min(self._keep_at, at)
        else:
            self._keep_at = None

    def _look(self) -> None:
        self._next = self._connection.execute(_FIRST).get
        self._looked_at = time.monotonic()
