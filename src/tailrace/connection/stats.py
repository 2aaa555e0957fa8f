"""What the streams of this process have done: plain counters, read as one frozen snapshot."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from enum import Enum

from tailrace.runtime import source_threads

__all__ = ["Counters", "Ending", "Stats", "counters", "log", "stats"]

log = logging.getLogger("tailrace")


class Ending(Enum):
    """How a stream ended."""

    COMPLETE = "complete"
    LEFT = "left"
    """The client closed the connection."""
    FAILED = "failed"
    """The source raised."""
    STALLED = "stalled"
    """Cut off: the client took nothing for `send_timeout`."""
    TOO_SLOW = "too_slow"
    """Cut off: the client took less than `min_rate`."""
    DRAINED = "drained"
    """Ended by `drain()`, with the format's farewell."""
    SHUT_DOWN = "shut_down"
    """Cut off at the end of `drain()`'s time."""
    REFUSED = "refused"
    """Never begun: no thread was free for its sync source, and the client got 503."""
    CANCELLED = "cancelled"
    """The server, or something around the response, cancelled its task."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The streams of this process since it started.

    Args:
        open: Streams that are being sent now.
        bytes_sent: Body bytes given to the server, before chunked framing.
        source_threads: Threads in which a sync source runs now; at most
            `limits.SYNC_SOURCE_THREADS`.
        source_line: Sync sources that wait for a thread.
        complete, left, failed, stalled, too_slow, drained, shut_down, refused, cancelled: Streams
            that ended in that way; see `Ending`.
    """

    open: int
    bytes_sent: int
    source_threads: int
    source_line: int
    complete: int
    left: int
    failed: int
    stalled: int
    too_slow: int
    drained: int
    shut_down: int
    refused: int
    cancelled: int


class Counters:
    """The counters behind `stats()`; one loop's streams write them, so they need no lock."""

    def __init__(self) -> None:
        self.open = 0
        self.bytes_sent = 0
        self.ended = dict.fromkeys(Ending, 0)

    def snapshot(self) -> Stats:
        ended = {ending.value: count for ending, count in self.ended.items()}
        return Stats(
            open=self.open,
            bytes_sent=self.bytes_sent,
            source_threads=source_threads.busy,
            source_line=len(source_threads.queue),
            **ended,
        )


counters = Counters()

assert {ending.value for ending in Ending} < {field.name for field in fields(Stats)}


def stats() -> Stats:
    """What the streams of this process have done so far."""
    return counters.snapshot()
