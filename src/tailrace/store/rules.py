"""What every store decides in the same way: pure, without a clock, a file or a loop.

A store keeps a `State` for each stream. It asks these functions first, and writes what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tailrace import limits
from tailrace.errors import (
    ContentTypeMismatch,
    ForkRefused,
    InvalidBody,
    InvalidOffset,
    InvalidProducer,
    OffsetGone,
    ProducerFenced,
    ProducerGap,
    SequenceConflict,
    StreamClosed,
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
"""Paths that are ours begin so; a list shows them only when asked for."""
AFTER_INTERNAL: Final = "__ds0"
"""The first path that is greater than all of these: `0` follows `/`."""


@dataclass(frozen=True, slots=True)
class Level:
    """A stream that a fork inherits from.

    Args:
        path: Its path.
        generation: Which stream of that path.
        until: The position up to which what it holds is inherited.
    """

    path: str
    generation: int
    until: int


@dataclass(slots=True, kw_only=True)
class State:
    """All that decides about a stream; its store's own, changed only by `apply_append` and it.

    Args:
        path: Its name.
        generation: Microseconds since the epoch of its creation; unique for the path.
        content_type: As given.
        lineage: The streams that it inherits from, oldest first.
        base: The position of its first own byte: where it was forked.
        tail: The position after its last byte.
        low: The earliest position that its own retention has kept.
        records: Own appends that are retained.
        closed: Nothing more may be appended.
        closer: The producer's append that closed it.
        seq: The last `Stream-Seq`.
        ttl: Seconds, sliding.
        expires_at: Milliseconds since the epoch.
        touched: Milliseconds since the epoch of the last use.
        retention: How much is kept.
        fork: As it was asked for; its offset resolved.
        created_at: Milliseconds since the epoch.
        gone: It was deleted or has expired, and forks still read it.
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
        last: The greatest that the store has given; a clock that goes back must not give one twice.
    """
    return max(now_ms * 1000, last + 1)


def offset_at(state: State, position: int) -> Offset:
    """The token of a position: it names the stream that owns the byte before."""
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
        lows: The `low` of each level of its lineage.
    """
    inherited = (min(low, level.until) for low, level in zip(lows, state.lineage, strict=True))
    return max(state.low, *inherited, 0) if lows else state.low


def locate(state: State, first: int, where: Where) -> int:
    """The position of a place, which may be within an append (`border_in`).

    One byte beyond the tail is taken for the tail: the protocol's Yjs layer adds one to the tail at
    which it made a snapshot, and reads on from there. Further beyond, a client has seen bytes that
    this stream never had, and must be told.

    Args:
        state: The stream.
        first: `first_of` it.
        where: An offset or a mark.

    Raises:
        InvalidOffset: Beyond the tail, or never given out.
        OffsetGone: Before `first`, or of another stream that had this path.
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
    """Where the message begins that a position is within; the position, if it is between two.

    A message is one of JSON, or else an append. What is read and what is forked begins and ends
    between two, so no reader gets a part of one.

    Args:
        content_type: The stream's.
        start: Where the append begins that the position is within.
        data: That append.
        position: More than `start`.
    """
    if not is_json(content_type):
        return start
    border = start
    try:
        for end in message_ends(data):
            if start + end > position:
                break
            border = start + end
    except InvalidBody:  # no messages, then, but one
        return start
    return border


def read_until(start: int, max_bytes: int) -> int:
    """The position that a read goes on to: it ends with the append that reaches it."""
    return (start // max_bytes + 1) * max_bytes


def info_of(state: State, first: int) -> StreamInfo:
    """What others may know of a stream."""
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
    """Whether a stream's time is over; one that is watched is in use."""
    if state.expires_at is not None:
        return now_ms >= state.expires_at
    return state.ttl is not None and not watched and now_ms >= state.touched + state.ttl * 1000


def require(path: str, state: State | None) -> State:
    """The stream, if it is there.

    Raises:
        StreamNotFound: It is not; or StreamGone, while forks read it.
    """
    if state is None:
        raise StreamNotFound(path)
    if state.gone:
        raise StreamGone(path)
    return state


def essence(content_type: str) -> str:
    """A content type without its parameters, as types are compared (RFC 9110 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def check_size(data: bytes) -> None:
    """Refuse more than one append may have.

    Raises:
        TooLarge: It is.
    """
    if len(data) > limits.MAX_APPEND_BYTES:
        raise TooLarge(limits.MAX_APPEND_BYTES)


# Creation ----------------------------------------------------------------------------------------


def match_create(state: State, new: NewStream) -> None:
    """Refuse to create a stream that exists, unless it is as it was asked for.

    Raises:
        StreamExists: It differs; says in what.

    Source: Durable Streams 5.1.
    """
    if state.gone:
        raise StreamExists(state.path, "was deleted or has expired, and forks still read it")
    ttl, expires_at = new.ttl, new.expires_at
    if new.fork is not None and ttl is None and expires_at is None:
        ttl, expires_at = state.ttl, state.expires_at  # they were its source's
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


def _same_fork(existing: Fork | None, wanted: Fork | None) -> bool:
    if existing is None or wanted is None:
        return existing is wanted
    # A fork that names no offset is at its source's tail of that time: it matches what it became.
    at = existing.offset if wanted.offset is None else wanted.offset
    return (
        existing.source == wanted.source
        and existing.offset == at
        and existing.sub_offset == wanted.sub_offset
    )


def fork_point(fork: Fork, source: State | None, first: int, new: NewStream) -> int:
    """The position in its source at which a fork begins, before its sub-offset.

    Args:
        fork: What was asked for.
        source: Its source, if it exists.
        first: `first_of` the source.
        new: The whole creation.

    Raises:
        ForkRefused: It cannot be made.

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
    """Refuse to fork at a position that is not between two messages.

    Raises:
        ForkRefused: `border`, the nearest before it that is, is another (400).
    """
    if position != border:
        raise ForkRefused(fork.source, "the offset is not between two messages", 400)


def fork_reach(fork: Fork, content_type: str, following: bytes) -> int:
    """How many bytes beyond `fork_point` a fork begins, by its sub-offset.

    Args:
        fork: What was asked for.
        content_type: The source's.
        following: What was appended to the source at the fork's offset: the one append, or its
            rest; empty at the tail.

    Raises:
        ForkRefused: The sub-offset goes beyond it.
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
    except InvalidBody:
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
    """A stream as it is created, still without the bytes that its creation brings.

    Args:
        path: Its name.
        new: What was asked for.
        generation: `next_generation`.
        now_ms: Milliseconds since the epoch.
        source: The stream that it is a fork of.
        point: `fork_point` and `fork_reach` together.
    """
    ttl, expires_at = new.ttl, new.expires_at
    content_type, fork = new.content_type or DEFAULT_CONTENT_TYPE, new.fork
    lineage: tuple[Level, ...] = ()
    if source is not None and fork is not None:
        content_type = new.content_type or source.content_type
        if ttl is None and expires_at is None:
            ttl, expires_at = source.ttl, source.expires_at
        inherited = [level for level in source.lineage if level.until <= point]
        # A fork within what its source inherits has nothing of the source itself, and yet it keeps
        # it: the source is what was named.
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
    """Decide about an append.

    Args:
        state: The stream.
        known: Epoch and last sequence of the append's producer; None if it is new.
        append: What is asked.

    Returns:
        What to answer, if there is nothing to be written; None: do it, by `apply_append`.

    Raises:
        StreamError: It is refused.

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
    # Byte by byte, as the protocol says.
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
    """Do what `judge_append` has let through, to the state; the store writes the bytes."""
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
    """What a stream need not keep any more.

    Args:
        before: Positions up to here may go: the new `low` is the last end of an own append that is
            not after it.
        records: How many own appends stay at most; None: any number.
        older_than: Appends from before this time (milliseconds) go; None: age does not matter.
    """

    before: int | None
    records: int | None
    older_than: int | None


def trim_due(state: State, now_ms: int, oldest_ms: int | None) -> Trim | None:
    """Whether a stream has more than a quarter too much.

    Args:
        state: The stream.
        now_ms: Milliseconds since the epoch.
        oldest_ms: When the earliest own append that is retained was made, if that is known.

    Returns:
        What may go; None while there is little to gain.
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
