"""Sides that take turns, and the median of what their turns needed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.client import Client, Transfer
from benchmarks.server import Server

__all__ = ["Account", "Cost", "Side", "download", "in_turn", "middle", "percentile", "scaled"]

Account = Literal["wall", "cpu"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one turn needed: seconds on the clock, and seconds of the server's CPU."""

    wall: float
    cpu: float

    def of(self, account: Account) -> float:
        return self.wall if account == "wall" else self.cpu


@dataclass(frozen=True, slots=True)
class Side:
    """One of the sides of a row.

    Args:
        name: Its name in the tables.
        server: The server whose CPU is counted.
        turn: Does the work once. It returns the seconds that this took, and a function that checks
            the result; that is called when nothing is measured.
        rounds: How many turns it has.
    """

    name: str
    server: Server
    turn: Callable[[], tuple[float, Callable[[], None]]]
    rounds: int = 3


def in_turn(sides: Sequence[Side]) -> dict[str, list[Cost]]:
    """Let the sides work in turn, A B A B A B; each has its own number of rounds."""
    costs: dict[str, list[Cost]] = {side.name: [] for side in sides}
    for done in range(max(side.rounds for side in sides)):
        for side in sides:
            if done >= side.rounds:
                continue
            before = side.server.cpu()
            wall, check = side.turn()
            costs[side.name].append(Cost(wall, side.server.cpu() - before))
            check()
    return costs


def download(
    client: Client, server: Server, path: str, check: Callable[[Transfer], None]
) -> Callable[[], tuple[float, Callable[[], None]]]:
    """A turn that downloads `path` once and checks it afterwards."""

    def turn() -> tuple[float, Callable[[], None]]:
        transfer = client.transfer(server.port, path)
        return transfer.seconds, lambda: check(transfer)

    return turn


def middle(costs: Sequence[Cost], account: Account) -> float:
    return statistics.median(cost.of(account) for cost in costs)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def scaled(full: int, scale: float) -> int:
    return max(1, round(full * scale))
