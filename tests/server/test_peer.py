"""A client that has ended its side: who waits for an answer gets it, who has left is let go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace import limits
from tailrace.server.peer import HalfClosed, PeerVerdict, ResponseProgress

GRACE = limits.HALF_CLOSE_GRACE
SILENT = ResponseProgress(started=True, endless=True, acknowledged=100)
NOT_STARTED = ResponseProgress(started=False, endless=True, acknowledged=100)
SIZED = ResponseProgress(started=True, endless=False, acknowledged=100)
READ_ON = ResponseProgress(started=True, endless=True, acknowledged=101)

AT_ONCE = HalfClosed.seen(10.0, 10.0, SILENT)
LATE = HalfClosed.seen(10.0, 10.0 - GRACE, SILENT)
PROBED = replace(LATE, probed=True)


@pytest.mark.parametrize(
    ("client", "after", "progress", "verdict"),
    [
        (AT_ONCE, 0.0, SILENT, PeerVerdict.UNKNOWN),
        (AT_ONCE, GRACE, SILENT, PeerVerdict.LEFT),
        (AT_ONCE, GRACE, READ_ON, PeerVerdict.STAYS),
        (AT_ONCE, GRACE, SIZED, PeerVerdict.STAYS),
        (AT_ONCE, 0.0, NOT_STARTED, PeerVerdict.UNKNOWN),
        (AT_ONCE, GRACE, NOT_STARTED, PeerVerdict.PROBE),
        (AT_ONCE, GRACE, replace(NOT_STARTED, may_probe=False), PeerVerdict.LEFT),
        (LATE, 0.0, SILENT, PeerVerdict.LEFT),
        (LATE, 0.0, READ_ON, PeerVerdict.STAYS),
        (LATE, 9.0, SIZED, PeerVerdict.STAYS),
        (LATE, 0.0, NOT_STARTED, PeerVerdict.PROBE),
        (PROBED, 99.0, NOT_STARTED, PeerVerdict.STAYS),
        (PROBED, 99.0, SILENT, PeerVerdict.STAYS),
    ],
)
def test_who_waits_is_told_from_who_has_left(
    client: HalfClosed, after: float, progress: ResponseProgress, verdict: PeerVerdict
) -> None:
    """Kind of fault: the end of what a client sends is taken for the end of the client."""
    assert client.verdict(10.0 + after, progress) is verdict
