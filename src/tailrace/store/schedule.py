"""When to look at each of many things, without a walk through all of them.

A thing has one entry, however often it is used. When its time has come it is taken out, and its
owner looks whether that still holds; if not, the owner puts it back for later. So a use costs
nothing here.
"""

from __future__ import annotations

import heapq
from typing import Final, Generic, TypeVar

__all__ = ["Schedule"]

K = TypeVar("K", int, str)

_SLACK: Final = 64
"""Entries that do not hold any more are removed once there are this many more of them than of those
that hold."""


class Schedule(Generic[K]):
    """Things by the time of their next look; each step costs at most the logarithm of their number.

    Times are whole numbers on one clock. It has no lock of its own.
    """

    def __init__(self) -> None:
        self._at: dict[K, int] = {}
        self._order: list[tuple[int, K]] = []

    def __len__(self) -> int:
        return len(self._at)

    @property
    def next(self) -> int | None:
        """The time of the first look; None: there is nothing to look at."""
        order = self._order
        while order and self._at.get(order[0][1]) != order[0][0]:
            heapq.heappop(order)
        return order[0][0] if order else None

    def set(self, key: K, at: int) -> None:
        """Look at a thing at a time, unless it is looked at before that."""
        known = self._at.get(key)
        if known is None or at < known:
            self._at[key] = at
            heapq.heappush(self._order, (at, key))
            self._tidy()

    def take_back(self, key: K) -> None:
        """Look at a thing no more."""
        if self._at.pop(key, None) is not None:
            self._tidy()

    def due(self, now: int, most: int) -> list[K]:
        """Take out those whose time has come, the earliest first; `most` of them at most."""
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
