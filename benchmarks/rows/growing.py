"""How the cost of work grows with idle things in the store: with 1, 4 and 16 times as many."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from benchmarks.measure import scaled
from benchmarks.report import Finding
from benchmarks.server import ROOT

__all__ = ["CASES", "run"]

AT_MOST: Final = 1.2


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of idle things, and the work that is measured beside them.

    Args:
        kind: Its name in `benchmarks.beside`.
        what: The work, in words.
        sizes: How many idle things there are; each size is measured.
        rounds: How many turns each size has.
        cpu_bound: Seconds of CPU that a unit may take. None: the ratio counts, or `wait_bound`.
        wait_bound: Seconds of the clock that the longest unit may take. None: it does not count.
    """

    kind: str
    what: str
    sizes: tuple[int, ...]
    rounds: int = 7
    cpu_bound: float | None = None
    wait_bound: float | None = None


CASES: Final = (
    Case("watched", "an append beside followed streams that expire", (0, 1000, 4000, 16_000)),
    Case("retained", "500 appends to a stream that keeps its last", (10_000, 40_000, 160_000)),
    Case("forked", "an append to a stream with forks", (0, 125, 500, 2000)),
    Case("gone", "an append to a deleted stream with forks", (1, 125, 500, 2000)),
    Case("deleted", "the end of each of deleted streams, beside appends", (500, 2000, 8000), 5),
    Case("started", "the start of a run beside idle ones", (250, 1000, 4000), 5),
    # A sweep looks at a bounded number of runs, and the smallest size is below that bound. So the
    # ratio says nothing here.
    Case("idle", "a second of idle runs", (250, 1000, 4000), 2, cpu_bound=0.02),
    Case(
        "trimmed",
        "the longest append while records go",
        (250_000, 1_000_000, 4_000_000),
        1,
        wait_bound=0.1,
    ),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds for one unit of work, of the clock and of CPU; and of the clock for the longest."""

    wall: float
    cpu: float
    longest: float


class Beside:
    """A process of `benchmarks.beside`, with `count` idle things."""

    def __init__(self, kind: str, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        file = f"{self._folder.name}/streams.db"
        command = [sys.executable, "-m", "benchmarks.beside", kind, str(count), file]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        if self._line() != "ready\n":
            raise RuntimeError("a store's process did not become ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not ended properly: that would wait for its runs, and nothing of it is needed any more.
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def turn(self) -> Turn:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Turn(*json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def run(scale: float) -> list[Finding]:
    return [_measure(case, scale) for case in CASES]


def _measure(case: Case, scale: float) -> Finding:
    with ExitStack() as stack:
        sizes = [scaled(size, scale) if size else 0 for size in case.sizes]
        sides = [stack.enter_context(Beside(case.kind, size)) for size in sizes]
        turns: list[list[Turn]] = [[] for _ in sides]
        for _ in range(case.rounds):
            for side, found in zip(sides, turns, strict=True):
                found.append(side.turn())
    return finding(case, sizes, turns)


def finding(case: Case, sizes: Sequence[int], turns: Sequence[Sequence[Turn]]) -> Finding:
    unit = " CPU" if case.wait_bound is None else ""
    costs = [_cost(case, found) for found in turns]
    ratio = costs[-1] / min(costs)
    bound = case.cpu_bound or case.wait_bound
    return Finding(
        what=f"{case.what}: {sizes[0]:,} and {sizes[-1]:,}",
        peer=f"ours, {sizes[0]:,}",
        theirs=f"{costs[0] * 1e3:,.3f} ms{unit}",
        ours=f"{costs[-1] * 1e3:,.3f} ms{unit}",
        ratio=f"{ratio:.2f}x",
        target=f"at most {bound * 1e3:g} ms{unit}" if bound else f"at most {AT_MOST:g}x (cpu)",
        holds=costs[-1] <= bound if bound else ratio <= AT_MOST,
        rounds=tuple(
            f"{size:,}: {', '.join(_each(turn) for turn in found)}"
            for size, found in zip(sizes, turns, strict=True)
        ),
    )


def _cost(case: Case, turns: Sequence[Turn]) -> float:
    if case.wait_bound is not None:
        return max(turn.longest for turn in turns)
    return statistics.median(turn.cpu for turn in turns)


def _each(turn: Turn) -> str:
    wall, cpu, longest = (each * 1e3 for each in (turn.wall, turn.cpu, turn.longest))
    return f"{wall:,.3f} ms ({cpu:,.3f} ms CPU, {longest:,.1f} ms at most)"
