"""One run of the fuzz: it plays conversations until there are enough, and reports."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.fuzz.conversation import Conversation
from tests.fuzz.drive import Played, play
from tests.fuzz.generate import conversation
from tests.fuzz.health import Health, watched
from tests.fuzz.oracle import judge
from tests.fuzz.target import Target

__all__ = ["MOST_FAILURES", "Failure", "Report", "conversations", "fuzz", "replay"]

MOST_FAILURES = 200
"""The run ends after so many failures: by then it is known what is wrong."""

SHOWN = 3
"""How many failures of each kind a report shows."""

_NUMBER = re.compile(r"(?<!\d)\d{1,2}(?!\d)|mk[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Failure:
    """A conversation that went wrong, and what was wrong."""

    conversation: Conversation
    faults: list[str]

    def __str__(self) -> str:
        name = f"{self.conversation.seed}:{self.conversation.number}"
        return f"{name} ({self.conversation.kinds}): " + "; ".join(self.faults)


@dataclass(slots=True)
class Report:
    """What was done, and what was wrong.

    Attributes:
        left: What the server still held at the end, what it served that was never sent, and what it
            logged.
    """

    seed: int
    seconds: float = 0
    connections: int = 0
    requests: int = 0
    answers: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    health: Health = field(default_factory=Health)
    growth_bytes: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.failures or self.left)

    def __str__(self) -> str:
        statuses = ", ".join(f"{status} x{n}" for status, n in sorted(self.statuses.items()))
        health = self.health
        done = (
            f"seed {self.seed}, {self.seconds:.1f} s: {self.requests:,} requests on "
            f"{self.connections:,} connections"
        )
        asked = (
            f"/healthz asked {health.asked} times, {len(health.failed)} failed: p50 "
            f"{health.p50_ms:.1f} ms, p99 {health.p99_ms:.1f} ms, worst {health.worst_ms:.1f} ms"
        )
        lines = [
            done,
            f"{self.answers:,} answers: {statuses}",
            f"{asked} (the load is made on the same cores)",
            f"the server grew by {self.growth_bytes / 1024**2:.1f} MiB",
            f"{len(self.failures)} conversations went wrong",
            *self._by_kind(),
            *self.left,
        ]
        return "\n".join(lines)

    def _by_kind(self) -> Iterator[str]:
        """Some failures of each kind. A kind is the beginning of the fault's text, without
        numbers."""
        kinds: defaultdict[str, list[Failure]] = defaultdict(list)
        for failure in self.failures:
            kinds[_NUMBER.sub("N", failure.faults[0])[:40]].append(failure)
        for _, failures in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
            yield f"{len(failures)} like this:"
            yield from (f"  {failure}" for failure in failures[:SHOWN])


def conversations(
    seed: int, requests: int | None, deadline: float | None, left_out: Iterable[str] = ()
) -> Iterator[Conversation]:
    """The conversations of a seed, until they have so many requests, or the deadline is over."""
    number = made = 0
    left_out = frozenset(left_out)
    while (requests is None or made < requests) and (
        deadline is None or time.monotonic() < deadline
    ):
        yield (each := conversation(seed, number, left_out))
        made += len(each.requests)
        number += 1


def fuzz(
    target: Target,
    seed: int,
    *,
    requests: int | None = None,
    seconds: float | None = None,
    at_once: int = 64,
    left_out: Iterable[str] = (),
    most_failures: int = MOST_FAILURES,
) -> Report:
    """Play until `requests` are sent or `seconds` have passed, and check what the server holds."""
    report = Report(seed)
    began = time.monotonic()
    deadline = None if seconds is None else began + seconds
    with watched(*target.address, "/healthz") as report.health:
        coming = conversations(seed, requests, deadline, left_out)
        coming = _until_enough(coming, report, most_failures)
        for played in play(coming, target.address, at_once):
            _note(report, played)
    report.seconds = time.monotonic() - began
    report.left = target.faults()
    if report.health.failed:
        report.left.append(f"/healthz failed: {report.health.failed[:3]}")
    report.growth_bytes = target.growth_bytes()
    return report


def _until_enough(
    coming: Iterable[Conversation], report: Report, most_failures: int
) -> Iterator[Conversation]:
    for each in coming:
        if len(report.failures) >= most_failures:
            return
        yield each


def _note(report: Report, played: Played) -> None:
    report.connections += 1
    report.requests += len(played.conversation.requests)
    report.answers += len(played.answers.found)
    report.statuses.update(answer.head.status for answer in played.answers.found)
    faults = judge(played.conversation, played.answers, played.sent_bytes)
    if faults:
        report.failures.append(Failure(played.conversation, faults))


def replay(target: Target, which: Iterable[Conversation], at_once: int = 1) -> list[Failure]:
    """Play these conversations. Returns those that went wrong."""
    report = Report(0)
    for played in play(which, target.address, at_once):
        _note(report, played)
    return report.failures
