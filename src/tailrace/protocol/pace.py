"""How fast a body comes: when its client is given up, and who makes room when there is none.

Only time counts in which we waited for the client. What it sent meanwhile, while the store was busy
or others had their turn, is there at once and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

from tailrace import limits

__all__ = ["Pace", "who_makes_room"]


class Pace:
    """The pace of one body.

    Its patience is a number of seconds. Waiting uses it up, and bytes give it back, at
    `limits.BODY_MIN_RATE` and never to more than it was. So silence ends a body when the patience
    is over, and so does less than that rate, a little later.

    Args:
        patience: Seconds.
    """

    __slots__ = ("came", "left", "patience", "waited")

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.left = patience
        """Seconds for which the next byte is waited for."""
        self.came = 0
        """Bytes that came."""
        self.waited = 0.0
        """Seconds that were waited for them."""

    def add(self, count: int) -> None:
        """So many bytes came."""
        self.came += count
        self.left = min(self.patience, self.left + count / limits.BODY_MIN_RATE)

    def wait(self, seconds: float) -> None:
        """So long was waited."""
        self.waited += seconds
        self.left = max(0.0, self.left - seconds)

    def rate(self, waiting: float = 0.0) -> float:
        """Bytes per second that was waited; without end for what came almost at once.

        Args:
            waiting: Seconds of a wait that is not over.
        """
        waited = self.waited + waiting
        return math.inf if waited <= limits.BODY_SURE else self.came / waited


class Holder(Protocol):
    """Who holds bytes of the common room."""

    held: int


AnyHolder = TypeVar("AnyHolder", bound=Holder)


def who_makes_room(
    need: int, rate: float, holders: Iterable[tuple[float, AnyHolder]]
) -> list[AnyHolder]:
    """Those that are cut off for a body that needs room, the slowest first.

    Nobody, if all that are slower than the body would not be enough: then it is refused itself.

    Args:
        need: Bytes that are missing.
        rate: Of the body.
        holders: Those that are still coming, and their rates.
    """
    slower = sorted((each for each in holders if each[0] < rate), key=lambda each: each[0])
    chosen: list[AnyHolder] = []
    for _, holder in slower:
        chosen.append(holder)
        need -= holder.held
        if need <= 0:
            return chosen
    return []
