"""The decisions that are the same in every store, as pure functions: no clock, no file, no loop.

A store keeps a `State` for each stream. Before it changes something it calls these functions, and
then it writes what they return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tailrace import limits
from tailrace.errors import (
    ContentTypeMismatch,
    ForkRefused,
    InvalidOffset,
    InvalidProducer,
    OffsetGone,
    ProducerFenced,
    ProducerGap,
    SequenceConflict,
    StreamClosed,
    StreamDamaged,
    StreamExists,
    StreamGone,
    StreamNotFound,
    TooLarge,
)
from tailrace.store.json_mode import is_json, message_ends
from tailrace.store.values import (
    Append,
    Appended,
    Fork,
    Mark,
    NewStream,
    Offset,
    Producer,
    Retention,
    StreamInfo,
    Where,
)

__all__ = [
    "AFTER_INTERNAL",
    "DEFAULT_CONTENT_TYPE",
    "INTERNAL",
    "Level",
    "State",
    "Trim",
    "apply_append",
    "border_in",
    "check_border",
    "check_size",
    "essence",
    "first_of",
    "fork_point",
    "fork_reach",
    "info_of",
    "is_expired",
    "judge_append",
    "locate",
    "match_create",
    "new_state",
    "next_generation",
    "offset_at",
    "read_until",
    "require",
    "trim_due",
]

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
INTERNAL: Final = "__ds/"
"""Paths that Tailrace itself uses begin so; a list shows them only if its prefix begins so too."""
AFTER_INTERNAL: Final = "__ds0"
"""The first path that is greater than all that begin with `INTERNAL`: `0` follows `/`."""


@dataclass(frozen=True, slots=True)
class Level:
    """A stream that a fork inherits from.

    Args:
        path: Its path.
        generation: Which of the streams that have had this path.
        until: The fork inherits the bytes before this position.
    """

    path: str
    generation: int
    until: int


@dataclass(slots=True, kw_only=True)
class State:
    """What a store knows of a stream; only that store and `apply_append` change it.

    Args:
        path: Its path.
        generation: When it was created, in microseconds since the epoch; unique for the path.
        content_type: As it was given on creation.
        lineage: The streams that it inherits from, oldest first.
        base: The position where it was forked, before its first own byte; 0 if it is not a fork.
        tail: The position after its last byte.
        low: The earliest position that its own retention has kept.
        records: How many of its own appends are retained.
        closed: Whether it is closed for writing.
        closer: Identity, epoch and sequence of the append that closed it, if that named a producer.
        seq: The last `Stream-Seq`.
        ttl: Whole seconds without a use after which it expires.
        expires_at: When it expires, in milliseconds since the epoch.
        touched: When it was last used, in milliseconds since the epoch.
        retention: How much of it is kept.
        fork: As it was asked for, with the source's tail as `offset` if that was None.
        created_at: Milliseconds since the epoch.
        gone: Whether it was deleted or has expired while forks still read it.
    """

    path: str
    generation: int
    content_type: str
    lineage: tuple[Level, ...] = ()
    base: int = 0
    tail: int = 0
    low: int = 0
    records: int = 0
    closed: bool = False
    closer: Producer | None = None
    seq: str | None = None
    ttl: int | None = None
    expires_at: int | None = None
    touched: int = 0
    retention: Retention
    fork: Fork | None = None
    created_at: int = 0
    gone: bool = False


# Positions ---------------------------------------------------------------------------------------


def next_generation(now_ms: int, last: int) -> int:
    """The generation of a stream that is created now.

    Args:
        now_ms: Milliseconds since the epoch.
        last: The greatest that the store has given; if the clock goes back, none is given twice.
    """
    return max(now_ms * 1000, last + 1)


def offset_at(state: State, position: int) -> Offset:
    """The offset of a position; its generation is that of the stream that owns the byte before."""
    if position == 0:
        return Offset(0, 0)
    for level in state.lineage:
        if position <= level.until:
            return Offset(level.generation, position)
    return Offset(state.generation, position)


def first_of(state: State, lows: tuple[int, ...]) -> int:
    """The earliest position that can be read.

    Args:
        state: The stream.
        lows: The `low` of each stream of its lineage, in the same order.
    """
    inherited = (min(low, level.until) for low, level in zip(lows, state.lineage, strict=True))
    return max(state.low, *inherited, 0) if lows else state.low


def locate(state: State, first: int, where: Where) -> int:
    """The position that an offset or a mark stands for.

    It may lie within a message (see `border_in`). One byte beyond the tail is taken for the tail:
    the protocol's Yjs layer adds one to the tail at which it made a snapshot, and reads on from
    there. A client with an offset further beyond has seen bytes that this stream never had, so it
    gets an error.

    Args:
        state: The stream.
        first: What `first_of` gives for it.
        where: An offset or a mark.

    Raises:
        InvalidOffset: `where` is two bytes or more beyond the tail, or was never given out (400).
        OffsetGone: `where` is before `first`, or is an offset of an earlier stream: one that had
            this path before, or a fork's source after the fork (410).
    """
    if isinstance(where, Mark):
        return first if where is Mark.BEGINNING else state.tail
    position, tail = where.position, offset_at(state, state.tail)
    if position == state.tail + 1 and where.generation in (tail.generation, state.generation):
        return state.tail
    if where != offset_at(state, position):
        if where.generation == 0 or where.generation > state.generation:
            raise InvalidOffset(str(where))
        raise OffsetGone(str(where), str(offset_at(state, first)))
    if position > state.tail:
        raise InvalidOffset(str(where))
    if position < first:
        raise OffsetGone(str(where), str(offset_at(state, first)))
    return position


def border_in(content_type: str, start: int, data: bytes, position: int) -> int:
    """Where the message that contains a position begins; the position, if it is between two.

    In a JSON stream a message is one JSON value, in any other stream one append. Reads begin and
    end between two messages, so no reader gets a part of one.

    Args:
        content_type: The stream's.
        start: Where the append that contains the position begins.
        data: That append.
        position: A position within the append, greater than `start`.
    """
    if not is_json(content_type):
        return start
    border = start
    try:
        for end in message_ends(data):
            if start + end > position:
                break
            border = start + end
    except StreamDamaged:  # an append that is not JSON counts as one message
        return start
    return border


def read_until(start: int, max_bytes: int) -> int:
    """A read ends with the append that reaches this position, the next multiple of `max_bytes`."""
    return (start // max_bytes + 1) * max_bytes


def info_of(state: State, first: int) -> StreamInfo:
    """What a store's callers get to know of a stream; `first` is what `first_of` gives."""
    return StreamInfo(
        path=state.path,
        content_type=state.content_type,
        first=offset_at(state, first),
        tail=offset_at(state, state.tail),
        closed=state.closed,
        ttl=state.ttl,
        expires_at=state.expires_at,
        retention=state.retention,
        forked_from=None if state.fork is None else state.fork.source,
        created_at=state.created_at,
        generation=state.generation,
    )


# Life --------------------------------------------------------------------------------------------


def is_expired(state: State, now_ms: int, *, watched: bool) -> bool:
    """Whether a stream has expired; its `ttl` does not count while it is `watched`."""
    if state.expires_at is not None:
        return now_ms >= state.expires_at
    return state.ttl is not None and not watched and now_ms >= state.touched + state.ttl * 1000


def require(path: str, state: State | None) -> State:
    """Give `state` back if the stream exists.

    Raises:
        StreamNotFound: It was never created, was deleted, or has expired (404).
        StreamGone: It was deleted or has expired, but forks still read it (410).
    """
    if state is None:
        raise StreamNotFound(path)
    if state.gone:
        raise StreamGone(path)
    return state


def essence(content_type: str) -> str:
    """A content type without its parameters, in lower case, to compare two (RFC 9110 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def check_size(data: bytes) -> None:
    """Refuse data that is too large for one append.

    Raises:
        TooLarge: `data` over `limits.MAX_APPEND_BYTES` (413).
    """
    if len(data) > limits.MAX_APPEND_BYTES:
        raise TooLarge(limits.MAX_APPEND_BYTES)


# Creation ----------------------------------------------------------------------------------------


def match_create(state: State, new: NewStream, source: State | None = None) -> None:
    """Refuse to create a stream that exists, unless it is configured as `new` asks.

    Args:
        state: The stream that exists.
        new: What was asked for.
        source: The stream that it is a fork of; it may be gone.

    Raises:
        StreamExists: It is configured differently; the message says how (409).

    Source: Durable Streams 5.1; 4.2, "Idempotent fork creation".
    """
    if state.gone:
        raise StreamExists(state.path, "was deleted or has expired, and forks still read it")
    ttl, expires_at = _lifetime(new, source)
    wanted = new.content_type
    if wanted is None:
        wanted = state.content_type if new.fork else DEFAULT_CONTENT_TYPE
    same = (
        (essence(wanted) == essence(state.content_type), "has another content type"),
        (ttl == state.ttl, "has another TTL"),
        (expires_at == state.expires_at, "expires at another time"),
        (new.closed == state.closed, "is closed" if state.closed else "is not closed"),
        (new.retention == state.retention, "has another retention"),
        (_same_fork(state.fork, new.fork), "was not forked in that way"),
    )
    for holds, reason in same:
        if not holds:
            raise StreamExists(state.path, reason)


def _lifetime(new: NewStream, source: State | None) -> tuple[int | None, int | None]:
    """The `ttl` and `expires_at` that a new stream gets; a fork takes them from its source."""
    if new.fork is None or source is None or new.ttl is not None or new.expires_at is not None:
        return new.ttl, new.expires_at
    return source.ttl, source.expires_at


def _same_fork(existing: Fork | None, wanted: Fork | None) -> bool:
    if existing is None or wanted is None:
        return existing is wanted
    # A fork without an offset began at its source's tail of that moment, whatever that was.
    at = existing.offset if wanted.offset is None else wanted.offset
    return (
        existing.source == wanted.source
        and existing.offset == at
        and existing.sub_offset == wanted.sub_offset
    )


def fork_point(fork: Fork, source: State | None, first: int, new: NewStream) -> int:
    """The position in its source at which a fork begins, without its sub-offset.

    Args:
        fork: What was asked for.
        source: Its source, if that exists.
        first: What `first_of` gives for the source.
        new: The whole creation.

    Raises:
        ForkRefused: The source does not exist (404), was deleted, has expired, or has another
            content type (409); the fork would be too deep, or its offset is not valid (400).

    Source: Durable Streams 4.2, "Fork creation errors".
    """
    if source is None:
        raise ForkRefused(fork.source, "it does not exist", 404)
    if source.gone:
        raise ForkRefused(fork.source, "it was deleted or has expired", 409)
    if new.content_type is not None and essence(new.content_type) != essence(source.content_type):
        raise ForkRefused(
            fork.source,
            f"its content type is {source.content_type!a}, and a fork has the same",
            409,
        )
    if len(source.lineage) + 1 > limits.MAX_FORK_DEPTH:
        raise ForkRefused(
            fork.source,
            f"it is a fork of a fork, {limits.MAX_FORK_DEPTH} deep, the most allowed",
            400,
        )
    if fork.offset is None:
        return source.tail
    try:
        position = locate(source, first, fork.offset)
    except (InvalidOffset, OffsetGone) as error:
        raise ForkRefused(fork.source, str(error), 400) from error
    check_border(fork, fork.offset.position, position)
    return position


def check_border(fork: Fork, position: int, border: int) -> None:
    """Refuse to fork at a `position` within a message, for which `border_in` gave another `border`.

    Raises:
        ForkRefused: `position` is not `border` (400).
    """
    if position != border:
        raise ForkRefused(fork.source, "the offset is not between two messages", 400)


def fork_reach(fork: Fork, content_type: str, following: bytes) -> int:
    """How many bytes after `fork_point` a fork begins, by its sub-offset.

    Args:
        fork: What was asked for.
        content_type: The source's.
        following: The bytes of the source from the fork's offset to the end of the append that
            contains it or begins there; empty at the tail.

    Raises:
        ForkRefused: The sub-offset goes beyond `following` (400).
    """
    wanted = fork.sub_offset
    if wanted == 0:
        return 0
    if not is_json(content_type):
        if wanted > len(following):
            raise ForkRefused(
                fork.source, f"sub-offset {wanted} reaches beyond the next append", 400
            )
        return wanted
    try:
        for count, end in enumerate(message_ends(following), 1):
            if count == wanted:
                return end
    except StreamDamaged:
        raise ForkRefused(fork.source, "what follows the offset is not JSON", 400) from None
    raise ForkRefused(fork.source, f"sub-offset {wanted} reaches beyond the next append", 400)


def new_state(
    path: str,
    new: NewStream,
    generation: int,
    now_ms: int,
    source: State | None = None,
    point: int = 0,
) -> State:
    """The state of a new stream, before `new.data` is appended and `new.closed` is applied.

    Args:
        path: Its path.
        new: What was asked for.
        generation: What `next_generation` gives.
        now_ms: Milliseconds since the epoch.
        source: The stream that it is a fork of.
        point: The sum of `fork_point` and `fork_reach`.
    """
    ttl, expires_at = _lifetime(new, source)
    content_type, fork = new.content_type or DEFAULT_CONTENT_TYPE, new.fork
    lineage: tuple[Level, ...] = ()
    if source is not None and fork is not None:
        content_type = new.content_type or source.content_type
        inherited = [level for level in source.lineage if level.until <= point]
        # If the fork begins within what its source inherited, it inherits no byte that the source
        # itself holds. The source stays its `fork.source` all the same: it is what was named.
        cut = source.lineage[len(inherited) : len(inherited) + 1]
        lineage = (
            *inherited,
            *(Level(level.path, level.generation, point) for level in cut),
            *(() if cut else (Level(source.path, source.generation, point),)),
        )
        if fork.offset is None:  # nothing follows its tail, so there is no sub-offset
            fork = Fork(fork.source, offset_at(source, point))
    return State(
        path=path,
        generation=generation,
        content_type=content_type,
        lineage=lineage,
        base=point,
        tail=point,
        low=0,
        closed=False,
        ttl=ttl,
        expires_at=expires_at,
        touched=now_ms,
        retention=new.retention,
        fork=fork,
        created_at=now_ms,
    )


# Appends -----------------------------------------------------------------------------------------


def judge_append(state: State, known: tuple[int, int] | None, append: Append) -> Appended | None:
    """Decide whether an append is written, answered without writing, or refused.

    Args:
        state: The stream.
        known: Epoch and last sequence of the append's producer; None if the producer is new.
        append: What is asked for.

    Returns:
        None if the append is to be written, with `apply_append`; else the answer to it.

    Raises:
        StreamError: The append is refused, for one of the reasons that `Store.append` lists.

    Source: Durable Streams 5.2, 5.2.1.
    """
    if state.closed:
        return _judge_closed(state, known, append)
    given = append.content_type if append.data else None
    if given is not None and essence(given) != essence(state.content_type):
        raise ContentTypeMismatch(given, state.content_type)
    check_size(append.data)
    if append.producer is not None and _is_duplicate(append.producer, known):
        assert known is not None
        done = Producer(append.producer.id, known[0], known[1])
        return Appended(offset_at(state, state.tail), state.closed, True, done)
    # The protocol compares them byte by byte.
    if (
        append.seq is not None
        and state.seq is not None
        and append.seq.encode() <= state.seq.encode()
    ):
        raise SequenceConflict(state.seq, append.seq)
    return None


def _judge_closed(state: State, known: tuple[int, int] | None, append: Append) -> Appended:
    tail = offset_at(state, state.tail)
    producer = append.producer
    if producer is not None and producer == state.closer:
        return Appended(tail, True, True, producer)
    if producer is None and append.close and not append.data:
        return Appended(tail, True, True)
    raise StreamClosed(state.path, str(tail))


def _is_duplicate(producer: Producer, known: tuple[int, int] | None) -> bool:
    if known is None:
        if producer.seq != 0:
            raise ProducerGap(0, producer.seq)
        return False
    epoch, last = known
    if producer.epoch < epoch:
        raise ProducerFenced(epoch)
    if producer.epoch > epoch:
        if producer.seq != 0:
            raise InvalidProducer(producer.epoch, producer.seq)
        return False
    if producer.seq > last + 1:
        raise ProducerGap(last + 1, producer.seq)
    return producer.seq <= last


def apply_append(state: State, append: Append, now_ms: int) -> Appended:
    """Change `state` by an append that `judge_append` allowed; the bytes are for the store."""
    if append.data:
        state.tail += len(append.data)
        state.records += 1
    if append.seq is not None:
        state.seq = append.seq
    if append.close:
        state.closed = True
        state.closer = append.producer
    state.touched = now_ms
    return Appended(offset_at(state, state.tail), state.closed, False, append.producer)


# Retention ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trim:
    """What may be removed from a stream: each own append to which one of the bounds applies.

    Args:
        before: Appends that end at this position or before it are removed; None: no such bound.
        records: Appends that stay, at most; the oldest are removed. None: no such bound.
        older_than: Appends made before it (milliseconds since the epoch) are removed; None: no
            such bound.
    """

    before: int | None
    records: int | None
    older_than: int | None


def trim_due(state: State, now_ms: int, oldest_ms: int | None) -> Trim | None:
    """What to remove from a stream that exceeds one bound of its retention by more than a quarter.

    Args:
        state: The stream.
        now_ms: Milliseconds since the epoch.
        oldest_ms: When the earliest own append that is retained was made; needed only for
            `max_age`.

    Returns:
        What to remove; None while no bound is exceeded by more than a quarter.
    """
    keep = state.retention
    too_many_bytes = keep.max_bytes is not None and (
        state.tail - max(state.low, state.base) > keep.max_bytes + keep.max_bytes // 4
    )
    too_many = keep.max_records is not None and (
        state.records > keep.max_records + keep.max_records // 4
    )
    too_old = (
        keep.max_age is not None
        and oldest_ms is not None
        and (now_ms - oldest_ms > keep.max_age * 1250)
    )
    if not (too_many_bytes or too_many or too_old):
        return None
    return Trim(
        before=state.tail - keep.max_bytes if keep.max_bytes is not None else None,
        records=keep.max_records,
        older_than=None if keep.max_age is None else now_ms - keep.max_age * 1000,
    )
