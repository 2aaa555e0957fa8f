"""The interface of a store, and the values that go through it.

A store keeps append-only logs of bytes by path. It is asked for bytes and knows nothing of HTTP.
Three things about it carry all that is built above:

* an append is atomic and durable before it is acknowledged, and before any reader can see it;
* what a change tells watchers is a hint that may be lost or come twice; `read` is the truth;
* it belongs to the event loop in which it was opened, and is closed there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, overload

from tailrace import limits
from tailrace.errors import InvalidOption, StreamNotFound
from tailrace.runtime import current_loop
from tailrace.store.offset import Offset, Where

__all__ = [
    "Append",
    "Appended",
    "Change",
    "Chunk",
    "Created",
    "Cut",
    "Fork",
    "NewStream",
    "OnChange",
    "Producer",
    "Retention",
    "Slice",
    "Store",
    "StreamInfo",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of a stream is kept; what is older is gone. None: without that bound.

    A store may keep up to a quarter more than it was asked to, so that it need not look at each
    append; never less. Where very many appends go at once, it may take a moment. What is gone is
    gone for a stream's forks too.

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
    """Who appends, so that an append that is sent twice counts once.

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
    """A stretch of a stream.

    Its end is the same for everybody who reads from its start with the same `max_bytes`, unless
    it is the tail.

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


OnChange = Callable[[Change], None]
"""Called in the event loop of the store; must neither block nor raise."""


class Store(ABC):
    """Append-only logs by path.

    Paths are the caller's: 1 to `limits.MAX_STREAM_PATH_BYTES` bytes of UTF-8 without NUL; the
    store compares them byte by byte. Those that begin with `__ds/` are ours and are listed only by
    that prefix.

    Every verb may raise `StoreUnavailable` (or one of its kinds) if the store itself cannot work,
    and `StreamNotFound` (never created, deleted, expired) or `StreamGone` (deleted or expired,
    while a fork of it is there) where it needs the stream. Cancelled, a verb that writes is done or
    not done, never half.
    """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @abstractmethod
    async def open(self) -> None:
        """Make it ready, in this event loop. Nothing the second time."""

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what is under way and let go of everything. Nothing the second time."""

    @abstractmethod
    async def create(self, path: str, new: NewStream) -> Created:
        """Create a stream, or find that it exists with the same configuration.

        Raises:
            StreamExists: It exists with another configuration, or is soft-deleted (409).
            ForkRefused: The fork's source, offset or content type does not fit (400, 404 or 409).
            TooLarge: `data` over `limits.MAX_APPEND_BYTES` (413).

        Source: Durable Streams 5.1, 4.2.
        """

    @abstractmethod
    async def append(self, path: str, append: Append) -> Appended:
        """Append to a stream, close it, or both in one; durable when this returns.

        Raises:
            StreamClosed: Closed before (409).
            ContentTypeMismatch: Another content type than the stream's (409).
            ProducerFenced: A higher epoch of the producer was seen (403).
            ProducerGap: A sequence was left out (409).
            InvalidProducer: A new epoch that does not begin at 0 (400).
            SequenceConflict: `seq` is not greater than the last one (409).
            TooLarge: `data` over `limits.MAX_APPEND_BYTES` (413).

        Source: Durable Streams 5.2, 5.2.1, 5.3.
        """

    @abstractmethod
    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        """Read from a place on; counts as a use of the stream for its `ttl`.

        It ends with the first append that reaches a whole multiple of `max_bytes` (counted in
        positions of the stream, not from `start`), or at the tail. An append is never cut, so it
        may be longer than `max_bytes`.

        It begins between two messages (of JSON, or else appends): from an offset within one, with
        the whole of it. One byte beyond the tail is read as the tail is.

        Args:
            path: The stream.
            start: An offset, or a mark.
            max_bytes: At least 1.

        Raises:
            OffsetGone: Before what is retained, or of another stream that had this path (410).
            InvalidOffset: Further beyond the tail (400).
        """

    @abstractmethod
    async def head(self, path: str) -> StreamInfo:
        """What is known of a stream; does not count as a use of it."""

    @abstractmethod
    async def delete(self, path: str) -> None:
        """Delete a stream. While forks read it, its path answers `StreamGone` and its data stays;
        so it is with one that expires.

        Source: Durable Streams 5.4.
        """

    @abstractmethod
    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        """Streams by path in the order of its bytes, without those that are deleted or expired.

        Args:
            prefix: Of the paths.
            after: Only paths greater than this one: the last of the page before.
            limit: At most so many.
        """

    @abstractmethod
    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        """Be told of changes of a stream, whether it exists or not, in any process.

        Called once for each change or for several together, soon after they are durable. A stream
        that is watched is in use: it does not expire by its `ttl`.

        Returns:
            What ends it.
        """

    @abstractmethod
    async def check(self) -> None:
        """Find out whether the store can read and write now.

        Raises:
            StoreUnavailable: It cannot; says why.
        """

    async def wait(self, path: str, offset: Offset) -> None:
        """Return when a stream has more than `offset`, or is closed or gone: then read it.

        May return early. Cancelled, nothing is lost.
        """
        changed = current_loop().signal()
        stop = self.watch(path, lambda _change: changed.set())
        try:
            try:
                info = await self.head(path)
            except StreamNotFound:
                return
            if info.tail.position <= offset.position and not info.closed:
                await changed.wait()
        finally:
            stop()
