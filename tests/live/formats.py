"""A format from whose bytes a test can read what a reader received."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from tailrace.live import End, Format, Gap
from tailrace.store import Slice

__all__ = ["Seen", "Traced", "seen_in"]


@dataclass(frozen=True, slots=True)
class Traced(Format):
    """Writes each part as `<start-end>`, its bytes and `;`; and gaps and the end in a similar way.

    Args:
        name: Makes formats of different readers differ.
        begins: Send something at once, so that the connection can be attached.
    """

    name: str = ""
    begins: bool = True

    heartbeat: ClassVar[bytes] = b"<beat>"
    says_farewell: ClassVar[bool] = True

    def begin(self, first: Slice, now: float) -> bytes:
        return b"<begin %d>" % first.start.position if self.begins else b""

    def frame(self, part: Slice, now: float) -> bytes:
        data, start, end = part.data, part.start.position, part.end.position
        marks = b"!" * part.closed + b"=" * part.up_to_date
        if not data and not self.begins and not part.closed:
            return b""
        return b"<%d-%d%b>%b;" % (start, end, marks, data)

    def gap(self, gap: Gap) -> bytes | None:
        assert gap.start is not None
        return b"<gap %d-%d>" % (gap.start.position, gap.end.position)

    def end(self, end: End) -> bytes:
        return b"<end %b %d>" % (end.reason.value.encode(), end.offset.position)


@dataclass(slots=True)
class Seen:
    """What a reader received.

    Args:
        start: The position at which it began; -1: nothing came yet.
        at: The position up to which it has received everything.
        data: All bytes.
        gaps: The gaps that it was told of, as (start, stop).
        end: The reason of the end; None: it goes on.
        closed, up_to_date: Whether the last part was marked so.
        beats: How many heartbeats came.
    """

    start: int = -1
    at: int = -1
    data: bytes = b""
    gaps: tuple[tuple[int, int], ...] = ()
    end: str | None = None
    closed: bool = False
    up_to_date: bool = False
    beats: int = 0


_BEGIN = re.compile(rb"<begin (\d+)>")
_PIECE = re.compile(rb"<(\d+)-(\d+)(!?)(=?)>")
_GAP = re.compile(rb"<gap (\d+)-(\d+)>")
_END = re.compile(rb"<end (\w+) (\d+)>")


def seen_in(body: bytes) -> Seen:
    """Read what `Traced` wrote.

    Raises:
        AssertionError: Something came twice, is missing or is out of order.
    """
    seen, at = Seen(), 0
    body = bytes(body)
    while at < len(body):
        assert seen.end is None, "something after the end"
        if match := _BEGIN.match(body, at):
            assert seen.start == -1
            seen.start = seen.at = int(match[1])
            at = match.end()
        elif match := _GAP.match(body, at):
            if seen.start == -1:
                seen.start = seen.at = int(match[1])
            assert int(match[1]) == seen.at
            seen.gaps += ((int(match[1]), int(match[2])),)
            seen.at = int(match[2])
            at = match.end()
        elif match := _END.match(body, at):
            seen.end = match[1].decode()
            if seen.start == -1:
                seen.start = seen.at = int(match[2])
            assert int(match[2]) == seen.at
            at = match.end()
        elif body.startswith(b"<beat>", at):
            seen.beats += 1
            at += len(b"<beat>")
        else:
            match = _PIECE.match(body, at)
            assert match is not None, body[at : at + 40]
            start, end = int(match[1]), int(match[2])
            if seen.start == -1:
                seen.start = seen.at = start
            assert start == seen.at, f"{start} follows {seen.at}"
            assert not seen.closed, "something after the closing part"
            seen.data += body[match.end() : match.end() + end - start]
            seen.at, seen.closed, seen.up_to_date = end, bool(match[3]), bool(match[4])
            at = match.end() + end - start
            assert body[at : at + 1] == b";"
            at += 1
    return seen
