"""The values that go through a store: places in a stream, what is asked, what is answered.

An offset is a position in a stream, as a token that clients keep and give back: a generation and a
byte position, each of 16 digits. Tokens of one stream sort as its bytes do. The generation is the
microsecond in which the stream (or the fork that owns the byte) was created, so a token is never
good for other bytes than those it was given for: of a stream that was deleted and created again, an
old token is refused instead of pointing somewhere into new data. The position before all bytes is
the same for every stream.
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
    """A position in a stream.

    Args:
        generation: Microseconds since the epoch at which the owner of the byte before was created;
            0 before all bytes.
        position: Bytes before it.
    """

    generation: int
    position: int

    def __str__(self) -> str:
        return f"{self.generation:016d}_{self.position:016d}"

    @classmethod
    def parse(cls, token: str) -> Offset:
        """The offset that a `token` stands for.

        Raises:
            InvalidOffset: It was never given out by a server of ours.

        Source: Durable Streams 8.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InvalidOffset(token)
        return cls(int(match[1]), int(match[2]))


START: Final = Offset(0, 0)
"""Before all bytes of any stream."""


class Mark(Enum):
    """A place in a stream that has a name instead of a position."""

    BEGINNING = "-1"
    """The earliest byte that is retained."""
    TAIL = "now"
    """After the last byte."""


Where = Offset | Mark
"""A place in a stream from which it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of a stream is kept; what is older is gone. None: without that bound.

    A store may keep up to a quarter more than that, never less, so that it need not check after
    each append. After very many appends at once, removing may take a moment. What is removed from a
    stream is gone for its forks too.

    Args:
        max_bytes: Wire bytes, at least 1.
        max_records: Appends, at least 1.
        max_age: Whole seconds, at least 1.

    Raises:
        InvalidOption: A bound out of its range.
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
        source: The other's path.
        offset: The position in it; None is its tail.
        sub_offset: How much further: messages of a JSON stream, bytes of any other.

    Source: Durable Streams 4.2.
    """

    source: str
    offset: Offset | None = None
    sub_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStream:
    """What a stream is created with.

    Args:
        content_type: None is `application/octet-stream`, or a fork's source's.
        data: The first wire bytes; may be empty.
        closed: It begins closed.
        ttl: Whole seconds after the last read or write at which it expires; at least 0.
        expires_at: Milliseconds since the epoch at which it expires. Not together with `ttl`.
        retention: How much of it is kept.
        fork: Where it branches off another.
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
    """The writer of an append and its number, so that an append that is sent twice counts once.

    Args:
        id: Not empty; the same over restarts of the writer.
        epoch: 0 to 2^53-1; a writer that restarts takes a higher one, which fences the old.
        seq: 0 to 2^53-1; counts the appends of the epoch from 0.

    Source: Durable Streams 5.2.1.
    """

    id: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """What is asked of an append.

    Args:
        data: Wire bytes (`json_mode` makes those of a JSON stream); empty only with `close`.
        content_type: Must be the stream's; None is not compared.
        producer: None accepts every call as a new one.
        seq: `Stream-Seq`: greater, byte by byte, than the one before on this stream.
        close: The stream is closed after it.
    """

    data: bytes = b""
    content_type: str | None = None
    producer: Producer | None = None
    seq: str | None = None
    close: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append.

    Args:
        tail: The stream's tail after it.
        closed: The stream is closed.
        duplicate: It had been done before; nothing was written now.
        producer: The producer's id, epoch and highest accepted sequence; None without one.
    """

    tail: Offset
    closed: bool = False
    duplicate: bool = False
    producer: Producer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """What is known of a stream without reading it.

    Args:
        path: Its name.
        content_type: As it was given on creation.
        first: The earliest position that is retained.
        tail: After its last byte.
        closed: Nothing more will come.
        ttl: Seconds, sliding; None does not expire so.
        expires_at: Milliseconds since the epoch; None does not expire so.
        retention: How much of it is kept.
        forked_from: The path of its source, for a fork.
        created_at: Milliseconds since the epoch.
        generation: Of the offsets after its own bytes; no other stream of this path has had it. 0:
            it is not there yet.
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
    """What became of a creation.

    Args:
        info: The stream.
        is_new: It did not exist before; False: it existed with the same configuration.
    """

    info: StreamInfo
    is_new: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that were appended together, or the rest of them.

    Args:
        data: Wire bytes, at least one.
        end: The position after them.
    """

    data: bytes
    end: Offset


class Cut(Sequence[Chunk]):
    """Chunks that were read in one piece, each cut off when it is asked for.

    Most readers want the bytes of all and the end. To make five thousand chunks of 200 bytes takes
    three times as long as all else of an answer over HTTP.

    Args:
        data: Their bytes.
        ends: The position after each.
        at: The offset of a position.
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
    """A part of a stream.

    Its end is the same for all that read from its start with the same `max_bytes`, unless it is
    the tail.

    Args:
        info: The stream at the moment of reading.
        start: Where it begins.
        chunks: What was appended, in order; none at the tail. They may be a `Cut`.
    """

    info: StreamInfo
    start: Offset
    chunks: Sequence[Chunk]

    @property
    def end(self) -> Offset:
        """Where the next one begins."""
        return self.chunks[-1].end if self.chunks else self.start

    @property
    def up_to_date(self) -> bool:
        """It reaches the tail."""
        return self.end.position == self.info.tail.position

    @property
    def closed(self) -> bool:
        """It reaches the tail, and nothing more will come."""
        return self.info.closed and self.up_to_date

    @property
    def data(self) -> bytes:
        """All its wire bytes."""
        if isinstance(self.chunks, Cut):
            return self.chunks.data
        if len(self.chunks) == 1:
            return self.chunks[0].data
        return b"".join(chunk.data for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one stream: a hint.

    Args:
        path: The stream.
        generation: Which stream of that path (`StreamInfo.generation`).
        tail: The stream's tail now.
        chunks: All that was appended since `start`, if it is at hand; None: read it.
        start: Where `chunks` begin; the tail if there are none.
        closed: The stream is closed now.
        deleted: The stream is gone (deleted, soft-deleted or expired).
    """

    path: str
    generation: int
    tail: Offset
    start: Offset
    chunks: tuple[Chunk, ...] | None = None
    closed: bool = False
    deleted: bool = False
