"""Cursors: what keeps a cache from answering a waiting client with its own old answer for ever.

A client sends back the cursor of the last answer, so that its next request is another one to a
cache. Clients that wait for the same data should send the same request, so that a cache asks only
once for them: a cursor is the number of the 20 seconds it is given out in. A client that brings
that number, or a later one, gets a greater one. It is not drawn for each client but follows from
the number and from a salt that the process draws once: clients that send the same get the same.

Source: Durable Streams 10.1.
"""

from __future__ import annotations

import re
from typing import Final
from zlib import crc32

from tailrace.limits import CURSOR_INTERVAL, CURSOR_JITTER

__all__ = ["EPOCH", "interval_of", "next_cursor", "parse_cursor"]

EPOCH: Final = 1_728_432_000
"""Seconds since the Unix epoch at which cursors begin: 9 October 2024, 00:00 UTC."""

_STEPS: Final = int(CURSOR_JITTER // CURSOR_INTERVAL)
_CURSOR: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


def interval_of(now: float) -> int:
    """The cursor of a time, in seconds since the epoch."""
    return max(0, int((now - EPOCH) // CURSOR_INTERVAL))


def parse_cursor(text: str) -> int | None:
    """The cursor that a client gives back; None if it is none of ours, which does no harm."""
    return int(text) if _CURSOR.fullmatch(text) else None


def next_cursor(given: int | None, now: float, salt: int) -> int:
    """The cursor of an answer: of now, or else greater than the client's.

    Args:
        given: The client's.
        now: Seconds since the epoch.
        salt: Any number of 32 bits, the same while the process lives.
    """
    current = interval_of(now)
    if given is None or given < current:
        return current
    return given + 1 + crc32(b"%d" % given, salt) % _STEPS
