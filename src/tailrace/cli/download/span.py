"""Which bytes of a file are missing, and in what pieces they are asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tailrace import limits

__all__ = ["Span", "bytes_in", "joined", "pieces", "without"]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` up to, and not with, `stop`; None: to an end that is not known."""

    start: int
    stop: int | None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop < self.start):
            raise ValueError(f"no span of bytes: {self.start} to {self.stop}")

    @property
    def size(self) -> int | None:
        return None if self.stop is None else self.stop - self.start

    def range_header(self) -> str:
        """What a Range header says for it. Source: RFC 9110 section 14.2."""
        return f"bytes={self.start}-{'' if self.stop is None else self.stop - 1}"


def without(spans: Iterable[Span], start: int, stop: int) -> tuple[Span, ...]:
    """What is left of the spans once the bytes from `start` up to `stop` are there."""
    left: list[Span] = []
    for span in spans:
        if start == stop or stop <= span.start or (span.stop is not None and start >= span.stop):
            left.append(span)
            continue
        if span.start < start:
            left.append(Span(span.start, start))
        if span.stop is None or stop < span.stop:
            left.append(Span(stop, span.stop))
    return tuple(left)


def joined(spans: Iterable[Span], start: int, stop: int) -> tuple[Span, ...]:
    """The spans with the bytes from `start` up to `stop` added, in order."""
    added = [Span(start, stop)] if start < stop else []
    return tuple(sorted([*without(spans, start, stop), *added], key=lambda span: span.start))


def bytes_in(spans: Iterable[Span]) -> int | None:
    """How many bytes the spans hold together; None where an end is not known."""
    total = 0
    for span in spans:
        if span.stop is None:
            return None
        total += span.stop - span.start
    return total


def pieces(missing: Iterable[Span], jobs: int) -> Iterator[Span]:
    """The spans cut into what `jobs` connections ask for, one piece after the other.

    More pieces than connections, so that a slow one is left with little when the others are done;
    few enough that their round trips do not count.

    Args:
        missing: Spans with a known end.
        jobs: Connections, 1 or more.
    """
    spans = tuple(missing)
    total = bytes_in(spans)
    assert total is not None, "pieces need a known end"
    wanted = -(-total // (jobs * limits.PIECES_PER_JOB))
    size = max(limits.MIN_PIECE_BYTES, min(wanted, limits.MAX_PIECE_BYTES))
    for span in spans:
        assert span.stop is not None
        for start in range(span.start, span.stop, size):
            yield Span(start, min(start + size, span.stop))
