"""A client that has ended its side: who waits for an answer gets it, who has left is let go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace import limits
from tailrace.server.peer import HalfClosed, Progress, Verdict

GRACE = limits.HALF_CLOSE_GRACE
SILENT = Progress(started=True, endless=True, acknowledged=100)
NOT_STARTED = Progress(started=False, endless=True, acknowledged=100)
SIZED = Progress(started=True, endless=False, acknowledged=100)
READ_ON = Progress(started=True, endless=True, acknowledged=101)

AT_ONCE = HalfClosed.seen(10.0, 10.0, SILENT)
LATE = HalfClosed.seen(10.0, 10.0 - GRACE, SILENT)
PROBED = replace(LATE, probed=True)


@pytest.mark.parametrize(
    ("client", "after", "progress", "verdict"),
    [
        (AT_ONCE, 0.0, SILENT, Verdict.UNKNOWN),
        (AT_ONCE, GRACE, SILENT, Verdict.LEFT),
        (AT_ONCE, GRACE, READ_ON, Verdict.STAYS),
        (AT_ONCE, GRACE, SIZED, Verdict.STAYS),
        (AT_ONCE, 0.0, NOT_STARTED, Verdict.UNKNOWN),
        (AT_ONCE, GRACE, NOT_STARTED, Verdict.PROBE),
        (AT_ONCE, GRACE, replace(NOT_STARTED, may_probe=False), Verdict.LEFT),
        (LATE, 0.0, SILENT, Verdict.LEFT),
        (LATE, 0.0, READ_ON, Verdict.STAYS),
        (LATE, 9.0, SIZED, Verdict.STAYS),
        (LATE, 0.0, NOT_STARTED, Verdict.PROBE),
        (PROBED, 99.0, NOT_STARTED, Verdict.STAYS),
        (PROBED, 99.0, SILENT, Verdict.STAYS),
    ],
)
def test_who_waits_is_told_from_who_has_left(
    client: HalfClosed, after: float, progress: Progress, verdict: Verdict
) -> None:
    """Kind of fault: the end of what a client sends is taken for the end of the client."""
    assert client.verdict(10.0 + after, progress) is verdict
