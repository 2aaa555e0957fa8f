"""The values of a store's interface: places in a stream, requests, and answers.

An offset is a position in a stream. Clients keep it as a token and send it back: a generation and a
byte position, each of 16 digits. The tokens of one stream sort in the order of its bytes.

The generation is the microsecond in which the stream was created; in a fork, that of the stream to
which the byte before the position was appended. So a token never stands for other bytes than those
for which it was given out: if a stream is deleted and created again, its old tokens are refused and
do not point into the new data. Only the position before all bytes has the same token in every
stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, overload

from tailrace.errors import InvalidOffset, InvalidOption

__all__ = [
    "START",
    "Append",
    "Appended",
    "Change",
    "Chunk",
    "Created",
    "Cut",
    "Fork",
    "Mark",
    "NewStream",
    "Offset",
    "Producer",
    "Retention",
    "Slice",
    "StreamInfo",
    "Where",
]

_TOKEN: Final = re.compile(r"([0-9]{16})_([0-9]{16})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Offset:
    """A position in a stream; `str` gives its token.

    Args:
        generation: When the stream that owns the byte before the position was created, in
            microseconds since the epoch; 0 before all bytes.
        position: How many bytes of the stream are before it.
    """

    generation: int
    position: int

    def __str__(self) -> str:
        return f"{self.generation:016d}_{self.position:016d}"

    @classmethod
    def parse(cls, token: str) -> Offset:
        """The offset that a `token` stands for.

        Raises:
            InvalidOffset: `token` does not have the form that Tailrace gives out (400).

        Source: Durable Streams 8.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InvalidOffset(token)
        return cls(int(match[1]), int(match[2]))


START: Final = Offset(0, 0)
"""The offset before all bytes of any stream."""


class Mark(Enum):
    """A place in a stream that has a name; the value is the protocol's `offset`."""

    BEGINNING = "-1"
    """Before the earliest byte that is retained."""
    TAIL = "now"
    """After the last byte."""


Where = Offset | Mark
"""Where a read of a stream begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of a stream is kept; older appends are removed.

    A store keeps at least as much as the bounds say, and up to a quarter more, so that it need not
    remove something after each append. After very many appends at once it keeps more for a moment.
    What is removed from a stream is also gone for its forks.

    Args:
        max_bytes: Wire bytes, at least 1; None sets no bound.
        max_records: Appends, at least 1; None sets no bound.
        max_age: Whole seconds, at least 1; None sets no bound.

    Raises:
        InvalidOption: A bound is out of its range.
    """

    max_bytes: int | None = None
    max_records: int | None = None
    max_age: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_records", "max_age"):
            bound = getattr(self, name)
            if bound is not None and (type(bound) is not int or bound < 1):
                raise InvalidOption(name, bound, "a whole number, 1 or more, or None")


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a new stream branches off another.

    Args:
        source: The path of the stream that is forked.
        offset: Where the fork begins in it; None is its tail.
        sub_offset: How far after `offset` the fork begins: in messages of a JSON stream, in bytes
            of any other.

    Source: Durable Streams 4.2.
    """

    source: str
    offset: Offset | None = None
    sub_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStream:
    """What a stream is created with.

    A fork with neither `ttl` nor `expires_at` gets those of its source.

    Args:
        content_type: None is the source's for a fork, else `application/octet-stream`.
        data: The first wire bytes; may be empty.
        closed: Whether the stream is closed from the start.
        ttl: Whole seconds without a read or write after which it expires; at least 0.
        expires_at: When it expires, in milliseconds since the epoch. Not together with `ttl`.
        retention: How much of it is kept.
        fork: Where it branches off another; None for a stream that is not a fork.
    """

    content_type: str | None = None
    data: bytes = b""
    closed: bool = False
    ttl: int | None = None
    expires_at: int | None = None
    retention: Retention = field(default_factory=Retention)
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class Producer:
    """The producer of an append and the append's number, so that a repeated append counts once.

    Args:
        id: Not empty; stays the same when the producer restarts.
        epoch: 0 to 2^53-1. A producer that restarts takes a higher one; appends with a lower one
            are refused from then on.
        seq: 0 to 2^53-1; numbers the appends of the epoch from 0.

    Source: Durable Streams 5.2.1.
    """

    id: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """A request to append to a stream, to close it, or both.

    Args:
        data: Wire bytes (for a JSON stream those that `wire_of` makes); empty only with `close`.
        content_type: If there is `data`, must be the stream's; None is not compared.
        producer: Tells duplicates apart; with None every call counts as a new append.
        seq: `Stream-Seq`; must be greater than the last one of the stream, compared byte by byte.
        close: Whether to close the stream after the append.
    """

    data: bytes = b""
    content_type: str | None = None
    producer: Producer | None = None
    seq: str | None = None
    close: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of an append.

    Args:
        tail: The stream's tail now.
        closed: Whether the stream is closed now.
        duplicate: The append had been done before, so nothing was written.
        producer: The producer's id, epoch and highest accepted sequence; None if the append named
            no producer.
    """

    tail: Offset
    closed: bool = False
    duplicate: bool = False
    producer: Producer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """What is known of a stream without reading it.

    Args:
        path: Its path.
        content_type: As it was given on creation.
        first: The offset before the earliest byte that is retained.
        tail: The offset after its last byte.
        closed: Whether it is closed: nothing more will come.
        ttl: Whole seconds without a read or write after which it expires, or None.
        expires_at: When it expires, in milliseconds since the epoch, or None.
        retention: How much of it is kept.
        forked_from: The path of its source, for a fork; else None.
        created_at: Milliseconds since the epoch.
        generation: That of the offsets after its own bytes. No other stream of this path has had
            it. 0 if the stream does not exist yet.
    """

    path: str
    content_type: str
    first: Offset
    tail: Offset
    closed: bool
    ttl: int | None
    expires_at: int | None
    retention: Retention
    forked_from: str | None
    created_at: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Created:
    """The result of a creation.

    Args:
        info: The stream.
        is_new: Whether it was created now; False if it existed with the same configuration.
    """

    info: StreamInfo
    is_new: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of one append, or a part of them.

    Args:
        data: Wire bytes, at least one.
        end: The position after them.
    """

    data: bytes
    end: Offset


class Cut(Sequence[Chunk]):
    """Chunks that were read as one piece of bytes; each `Chunk` is made when it is asked for.

    Most readers need only all the bytes and the end. To make five thousand chunks of 200 bytes
    takes three times as long as the rest of an answer over HTTP.

    Args:
        data: The bytes of all chunks.
        ends: The position after each chunk; at least one.
        at: Gives the `Offset` of a position.
    """

    __slots__ = ("_at", "_ends", "_start", "data")

    def __init__(self, data: bytes, ends: Sequence[int], at: Callable[[int], Offset]) -> None:
        self.data = data
        self._ends = ends
        self._start = ends[-1] - len(data)
        self._at = at

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Chunk: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Chunk, ...]: ...

    def __getitem__(self, index: int | slice) -> Chunk | tuple[Chunk, ...]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(len(self._ends))))
        end = self._ends[index]
        before = range(len(self._ends))[index] - 1
        begin = self._start if before < 0 else self._ends[before]
        return Chunk(self.data[begin - self._start : end - self._start], self._at(end))

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, Cut) else other)

    def __hash__(self) -> int:
        return hash(tuple(self))


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a stream that was read.

    Reads from the same start with the same `max_bytes` have the same end, unless it is the tail.

    Args:
        info: The stream at the moment of reading.
        start: Where the slice begins.
        chunks: What was appended after `start`, in order; empty at the tail. May be a `Cut`.
    """

    info: StreamInfo
    start: Offset
    chunks: Sequence[Chunk]

    @property
    def end(self) -> Offset:
        """The offset after the last chunk, where the next slice begins."""
        return self.chunks[-1].end if self.chunks else self.start

    @property
    def up_to_date(self) -> bool:
        """Whether the slice reaches the tail."""
        return self.end.position == self.info.tail.position

    @property
    def closed(self) -> bool:
        """Whether the slice reaches the tail of a closed stream: nothing more will come."""
        return self.info.closed and self.up_to_date

    @property
    def data(self) -> bytes:
        """The wire bytes of all chunks."""
        if isinstance(self.chunks, Cut):
            return self.chunks.data
        if len(self.chunks) == 1:
            return self.chunks[0].data
        return b"".join(chunk.data for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Change:
    """A hint that a stream has changed.

    Args:
        path: The stream.
        generation: Which of the streams that have had this path (`StreamInfo.generation`).
        tail: The stream's tail now.
        start: Where `chunks` begin; the tail if there are none.
        chunks: All that was appended from `start` to `tail`; None if the watcher has to read the
            stream to find out.
        closed: Whether the stream is closed now.
        deleted: Whether the stream was deleted or has expired.
    """

    path: str
    generation: int
    tail: Offset
    start: Offset
    chunks: tuple[Chunk, ...] | None = None
    closed: bool = False
    deleted: bool = False
