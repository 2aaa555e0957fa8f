"""When to check each of many keys, found without a walk through all of them.

For example: when to check whether a stream has expired. A key has one entry, however often its
stream is used. When the time of the entry has come, the entry is taken out and the owner of the
schedule checks the stream; if it was used meanwhile, the owner sets a later time. So a use of a
stream does not touch the schedule.
"""

from __future__ import annotations

import heapq
from typing import Final, Generic, TypeVar

__all__ = ["Schedule"]

K = TypeVar("K", int, str)

_SLACK: Final = 64
"""Outdated entries stay in the heap until there are this many more of them than of valid ones."""


class Schedule(Generic[K]):
    """Keys by the time of their next check.

    A step costs, on average, the logarithm of the number of keys. Times are whole numbers of one
    clock. A schedule has no lock of its own.
    """

    def __init__(self) -> None:
        self._at: dict[K, int] = {}
        self._order: list[tuple[int, K]] = []

    def __len__(self) -> int:
        return len(self._at)

    @property
    def next(self) -> int | None:
        """The earliest time of any key; None if there are no keys."""
        order = self._order
        while order and self._at.get(order[0][1]) != order[0][0]:
            heapq.heappop(order)
        return order[0][0] if order else None

    def set(self, key: K, at: int) -> None:
        """Set the time of `key` to `at`, unless it has an earlier one."""
        known = self._at.get(key)
        if known is None or at < known:
            self._at[key] = at
            heapq.heappush(self._order, (at, key))
            self._tidy()

    def take_back(self, key: K) -> None:
        """Remove `key`, if it is there."""
        if self._at.pop(key, None) is not None:
            self._tidy()

    def due(self, now: int, most: int) -> list[K]:
        """Take out at most `most` keys whose time is `now` or earlier, the earliest first."""
        found: list[K] = []
        while len(found) < most and (at := self.next) is not None and at <= now:
            _, key = heapq.heappop(self._order)
            del self._at[key]
            found.append(key)
        return found

    def _tidy(self) -> None:
        if len(self._order) > 2 * len(self._at) + _SLACK:
            self._order = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._order)
