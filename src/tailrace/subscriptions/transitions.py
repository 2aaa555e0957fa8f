"""What may become of a subscription: pure functions of the record, an event and the moment.

A record is in one of four states:

* idle: no `wake_id`. Nothing is due.
* waking: a `wake_id`, and `retry_at`: the wake is to be delivered then. Of a pull-wake that is its
  event in the wake stream, which whoever made the wake writes at once; `retry_at` is when another
  process does it, should that one have died.
* offered (pull-wake only): the event is written, and anybody may claim the wake. Nothing is due.
* leased: `lease_until`. A webhook is being delivered, or its receiver works; a worker has claimed.

Whatever leads back to idle looks for pending work first and wakes again if there is some. Time is
judged here and not by timers: a lease is over at its end, even if nobody has noticed yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from tailrace import limits
from tailrace.errors import InvalidOffset, SubscriptionRefused
from tailrace.store import START, Offset
from tailrace.subscriptions.record import Link, Record, Tail

__all__ = [
    "Ack",
    "Claimed",
    "Effect",
    "Moment",
    "Step",
    "Wake",
    "acked",
    "advanced",
    "announced",
    "claimed",
    "created",
    "deleted",
    "delivered",
    "delivery_failed",
    "is_pending",
    "linked",
    "released",
    "unlinked",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is true of the world when something is decided.

    Args:
        now: Milliseconds since the epoch.
        wake_id: A new one, should a wake begin.
        tails: Where streams end: of every link of the record and every other path that the event
            names, unless they do not exist. None: it was not looked at, and nothing wakes.
        chance: -1.0 to 1.0, drawn evenly: the jitter of a retry.
    """

    now: int
    wake_id: str
    tails: Mapping[str, Tail] | None = None
    chance: float = 0.0


class Effect(Enum):
    """What whoever wrote the new record must do now."""

    DELIVER = "deliver"
    """Send the webhook."""
    ANNOUNCE = "announce"
    """Write the event into the wake stream."""


@dataclass(frozen=True, slots=True)
class Step:
    """A decision.

    Args:
        record: As it is to be; the very same object if nothing changes.
        effect: What follows.
        woke: A wake began.
    """

    record: Record
    effect: Effect | None = None
    woke: bool = False


@dataclass(frozen=True, slots=True)
class Wake:
    """Which wake a request means.

    Args:
        wake_id: As the client gave it.
        generation: As the client gave it.
    """

    wake_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Ack:
    """What a worker has processed: everything before `offset`."""

    path: str
    offset: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A token's own words, once its signature is known to be good."""

    nonce: str
    generation: int


def is_pending(link: Link, tail: Tail | None) -> bool:
    """Whether a stream has more than was processed."""
    return tail is not None and tail.offset > link.acked


def created(record: Record, moment: Moment, found: Iterable[str]) -> Record:
    """A new subscription with its first links, each at the tail: history wakes nobody.

    Args:
        record: Without links.
        moment: With the tails of the config's streams and of `found`.
        found: Existing streams that the pattern means.

    Raises:
        SubscriptionRefused: Too many streams (413).

    Source: Durable Streams 6.2.
    """
    record = _with_explicit(record, moment, record.config.streams)
    record = _with_found(record, moment, found, at_tail=True)
    if record.full:
        raise _too_many()
    return record


def linked(record: Record, moment: Moment, paths: Iterable[str]) -> Step:
    """Explicit streams are added at their tails. A cursor that is there stays where it is.

    Raises:
        SubscriptionRefused: Too many streams (413).

    Source: Durable Streams 6.4.
    """
    return Step(_with_explicit(record, moment, paths))


def unlinked(record: Record, path: str) -> Step:
    """An explicit stream is taken out, unless the pattern means it too.

    Source: Durable Streams 6.1, 6.4.
    """
    link = record.links.get(path)
    if link is None or not link.explicit:
        return Step(record)
    kept = replace(link, explicit=False) if record.config.finds(path) else None
    return Step(record.with_links({path: kept}))


def deleted(record: Record) -> Step:
    """A tombstone: whatever was in flight finds no wake any more.

    Source: Durable Streams 6.3.
    """
    return Step(replace(_idle(record), links={}, deleted=True))


def advanced(record: Record, moment: Moment, appeared: Iterable[str] = ()) -> Step:
    """Whatever is due is done: new streams are linked, a lease that is over is taken back, a wake
    is delivered again, pending work begins one.

    Args:
        record: As it is.
        moment: Without tails: streams are not looked at.
        appeared: Streams that got data; those that the pattern means are linked, at their start.

    Source: Durable Streams 6.2, 7, 7.3.
    """
    if record.deleted:
        return Step(record)
    if moment.tails is not None:
        # Without tails a lease that is over is left for whoever looks: to take it back and not
        # wake again would leave pending work that nobody is ever told of.
        record = _expired(_with_found(record, moment, appeared, at_tail=False), moment)
    if record.retry_at is not None and record.retry_at <= moment.now:
        return _attempt(record, moment)
    return _woken(record, moment)


def claimed(record: Record, moment: Moment, worker: str) -> Step:
    """A worker takes the wake, or begins one if there is work.

    Raises:
        SubscriptionRefused: Somebody else has it, there is nothing to do (409), it is no pull-wake
            (400).

    Source: Durable Streams 7.2.
    """
    _require_kind(record, is_webhook=False)
    record = _expired(record, moment)
    if record.holder is not None:
        raise SubscriptionRefused(
            "ALREADY_CLAIMED",
            409,
            "another worker holds the lease",
            current_holder=record.holder,
            generation=record.generation,
        )
    record = _seen(record, moment)
    if not any(is_pending(link, _tail(moment, path)) for path, link in record.links.items()):
        raise SubscriptionRefused("NO_PENDING_WORK", 409, "no stream has more than was acked")
    # The worker gets the tails of now, of a wake that was announced long ago too.
    record = _begun(record, moment) if record.wake_id is None else _told(record, moment)
    until = moment.now + record.config.lease_ms
    return Step(replace(record, holder=worker, lease_until=until, retry_at=None, attempts=0), None)


def acked(
    record: Record,
    moment: Moment,
    token: Claimed,
    wake: Wake,
    acks: Sequence[Ack],
    *,
    done: bool,
    by_webhook: bool,
) -> Step:
    """A worker is heard of: cursors move on, and the lease is extended or given back.

    All or nothing: one ack that cannot be leaves every cursor and the lease as they were.

    Raises:
        SubscriptionRefused: Not its wake any more, or an offset that cannot be (409); the other
            kind of subscription (400).

    Source: Durable Streams 7.1 to 7.3.
    """
    _require_kind(record, is_webhook=by_webhook)
    record = _fenced(record, moment, token, wake)
    changed: dict[str, Link | None] = {}
    for ack in acks:
        link = changed.get(ack.path) or record.links.get(ack.path)
        if link is None:
            raise _bad_offset(f"{ack.path!a} is no stream of the subscription")
        offset = _offset_of(ack)
        if offset < link.acked:
            raise _bad_offset(f"{offset} was passed: {link.acked} is acked")
        if offset > _most(link, _tail(moment, ack.path)):
            raise _bad_offset(f"{offset} is beyond the tail of {ack.path!a}")
        changed[ack.path] = replace(link, acked=offset)
    if changed:
        record = record.with_links(changed)
    if done:
        return _woken(_idle(record), moment)
    until = moment.now + record.config.lease_ms
    return Step(replace(record, lease_until=until, retry_at=None, attempts=0, heard=True))


def released(record: Record, moment: Moment, token: Claimed, wake: Wake) -> Step:
    """A worker gives its wake back without having processed anything.

    Raises:
        SubscriptionRefused: Not its wake any more (409), or a webhook's (400).

    Source: Durable Streams 7.2.
    """
    _require_kind(record, is_webhook=False)
    return _woken(_idle(_fenced(record, moment, token, wake)), moment)


def delivered(record: Record, moment: Moment, wake: Wake, *, done: bool) -> Step:
    """A webhook was taken; `done`: with all that it told of.

    Source: Durable Streams 7.1.
    """
    if not _is_current(_expired(record, moment), wake):
        return Step(record)
    if not done:
        return Step(replace(record, attempts=0)) if record.attempts else Step(record)
    processed = {
        path: replace(link, acked=max(link.acked, link.promised))
        for path, link in record.links.items()
        if link.promised is not None
    }
    return _woken(_idle(record.with_links(processed)), moment)


def delivery_failed(record: Record, moment: Moment, wake: Wake) -> Step:
    """A wake could not be delivered: again after a while, the same wake.

    Source: Durable Streams 7.1.
    """
    # A receiver that called back and then failed to answer has the wake all the same; so has a
    # worker that claimed it while its event could not be written.
    taken = record.heard or record.holder is not None
    if taken or not _is_current(_expired(record, moment), wake):
        return Step(record)
    attempts = record.attempts + 1
    return Step(
        replace(
            record,
            attempts=attempts,
            lease_until=None,
            retry_at=moment.now + _backoff_ms(attempts, moment.chance),
        )
    )


def announced(record: Record, wake: Wake) -> Step:
    """The event is in the wake stream: from now on somebody will claim."""
    if not _is_current(record, wake) or record.retry_at is None:
        return Step(record)
    return Step(replace(record, retry_at=None, attempts=0))


# What these are made of


def _expired(record: Record, moment: Moment) -> Record:
    if record.lease_until is None or record.lease_until > moment.now:
        return record
    return _idle(record)


def _idle(record: Record) -> Record:
    links = {
        path: replace(link, promised=None) if link.promised is not None else link
        for path, link in record.links.items()
    }
    return replace(
        record,
        links=links,
        wake_id=None,
        holder=None,
        lease_until=None,
        retry_at=None,
        attempts=0,
        heard=False,
    )


def _woken(record: Record, moment: Moment) -> Step:
    """Begin a wake if there is pending work and none is in flight."""
    if moment.tails is None or record.wake_id is not None:
        return Step(record)
    record = _seen(record, moment)
    if not any(is_pending(link, _tail(moment, path)) for path, link in record.links.items()):
        return Step(record)
    return replace(_attempt(_begun(record, moment), moment), woke=True)


def _begun(record: Record, moment: Moment) -> Record:
    record = replace(
        record,
        generation=record.generation + 1,
        wake_id=moment.wake_id,
        heard=False,
        attempts=0,
    )
    return _told(record, moment)


def _told(record: Record, moment: Moment) -> Record:
    """With the tails of now as what the wake promises, and nothing that it promised before."""
    told: dict[str, Link | None] = {
        path: replace(link, promised=None)
        for path, link in record.links.items()
        if link.promised is not None
    }
    for path in _chosen(record, moment):
        link, tail = record.links[path], _tail(moment, path)
        promised = link.acked if tail is None else max(link.acked, tail.offset)
        told[path] = replace(link, promised=promised, woken=record.generation)
    return record.with_links(told)


def _chosen(record: Record, moment: Moment) -> list[str]:
    """What a wake tells of: what is pending and was told of longest ago comes first, so that none
    waits for ever behind streams that are always busy."""

    def order(path: str) -> tuple[bool, int, str]:
        link = record.links[path]
        return not is_pending(link, _tail(moment, path)), link.woken, path

    return sorted(record.links, key=order)[: limits.MAX_WAKE_STREAMS]


def _attempt(record: Record, moment: Moment) -> Step:
    if record.is_webhook:
        until = moment.now + record.config.lease_ms
        return Step(replace(record, lease_until=until, retry_at=None), Effect.DELIVER)
    again = moment.now + round(limits.ANNOUNCE_GRACE * 1000)
    return Step(replace(record, retry_at=again), Effect.ANNOUNCE)


def _seen(record: Record, moment: Moment) -> Record:
    """Cursors of streams that are gone, or that are not the streams they were."""
    assert moment.tails is not None
    changed: dict[str, Link | None] = {}
    for path, link in record.links.items():
        tail = moment.tails.get(path)
        if tail is None:
            if not link.explicit:
                changed[path] = None
        elif link.born is None:
            changed[path] = replace(link, born=tail.born)
        elif link.born != tail.born:
            changed[path] = Link(link.explicit, START, tail.born)
    return record.with_links(changed) if changed else record


def _with_explicit(record: Record, moment: Moment, paths: Iterable[str]) -> Record:
    changed: dict[str, Link | None] = {}
    for path in paths:
        link = record.links.get(path)
        if link is None:
            tail = _tail(moment, path)
            changed[path] = Link(True) if tail is None else Link(True, tail.offset, tail.born)
        elif not link.explicit:
            changed[path] = replace(link, explicit=True)
    if not changed:
        return record
    record = record.with_links(changed)
    if not _fits(len(record.links), _path_bytes(record.links)):
        raise _too_many()
    return record


def _with_found(record: Record, moment: Moment, paths: Iterable[str], *, at_tail: bool) -> Record:
    assert moment.tails is not None
    count = len(record.links)
    size = _path_bytes(record.links)
    full = False
    found: dict[str, Link | None] = {}
    for path in paths:
        tail = moment.tails.get(path)
        if tail is None or path in record.links or path in found or not record.config.finds(path):
            continue
        size += len(path.encode())
        full = full or not _fits(count + len(found) + 1, size)
        if full:
            break
        found[path] = Link(False, tail.offset if at_tail else START, tail.born)
    if found:
        record = record.with_links(found)
    return record if record.full == full or not (found or full) else replace(record, full=full)


def _path_bytes(paths: Iterable[str]) -> int:
    return sum(len(path.encode()) for path in paths)


def _fits(count: int, path_bytes: int) -> bool:
    most = limits.MAX_SUBSCRIPTION_STREAMS
    return count <= most and path_bytes <= limits.MAX_SUBSCRIPTION_PATH_BYTES


def _fenced(record: Record, moment: Moment, token: Claimed, wake: Wake) -> Record:
    """The record, if a request is of the wake that is in flight."""
    record = _expired(record, moment)
    # A webhook may be called back while it waits for its next attempt, too: then its receiver took
    # it, and only the answer was lost.
    good = (
        _is_current(record, wake)
        and token.nonce == record.nonce
        and token.generation == record.generation
        and (record.is_webhook or record.holder is not None)
    )
    if not good:
        raise SubscriptionRefused("FENCED", 409, "the wake is not in flight any more")
    return record


def _is_current(record: Record, wake: Wake) -> bool:
    return (
        record.wake_id is not None
        and record.wake_id == wake.wake_id
        and record.generation == wake.generation
    )


def _require_kind(record: Record, *, is_webhook: bool) -> None:
    if record.is_webhook is not is_webhook:
        reason = f"the subscription is a {record.config.type}"
        raise SubscriptionRefused("INVALID_REQUEST", 400, reason)


def _tail(moment: Moment, path: str) -> Tail | None:
    return None if moment.tails is None else moment.tails.get(path)


def _most(link: Link, tail: Tail | None) -> Offset:
    """The furthest that can have been processed; of a stream that is gone, what was told of it."""
    if tail is not None:
        return tail.offset
    return link.acked if link.promised is None else link.promised


def _offset_of(ack: Ack) -> Offset:
    try:
        return Offset.parse(ack.offset)
    except InvalidOffset as error:
        raise _bad_offset(str(error)) from None


def _backoff_ms(attempts: int, chance: float) -> int:
    doubled = limits.MIN_WEBHOOK_RETRY * 2.0 ** min(attempts - 1, 16)
    seconds = min(doubled, limits.MAX_WEBHOOK_RETRY)
    return round(1000 * seconds * (1 + limits.WEBHOOK_RETRY_JITTER * chance))


def _bad_offset(reason: str) -> SubscriptionRefused:
    return SubscriptionRefused("INVALID_OFFSET", 409, reason)


def _too_many() -> SubscriptionRefused:
    return SubscriptionRefused(
        "TOO_MANY_STREAMS",
        413,
        f"a subscription may have {limits.MAX_SUBSCRIPTION_STREAMS:,} streams, with "
        f"{limits.MAX_SUBSCRIPTION_PATH_BYTES:,} bytes of paths",
    )
