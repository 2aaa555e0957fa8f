"""What may become of a subscription: pure functions of the state, an event and the context.

A state is in one of four states:

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
from tailrace.subscriptions.state import Link, SubscriptionState, Tail

__all__ = [
    "Ack",
    "Context",
    "Effect",
    "TokenClaims",
    "Transition",
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
class Context:
    """What is true of the world when something is decided.

    Args:
        now: Milliseconds since the epoch.
        wake_id: A new one, should a wake begin.
        tails: Where streams end: of every link of the state and every other path that the event
            names, unless they do not exist. None: it was not looked at, and nothing wakes.
        chance: -1.0 to 1.0, drawn evenly: the jitter of a retry.
    """

    now: int
    wake_id: str
    tails: Mapping[str, Tail] | None = None
    chance: float = 0.0


class Effect(Enum):
    """What whoever wrote the new state must do now."""

    DELIVER = "deliver"
    """Send the webhook."""
    ANNOUNCE = "announce"
    """Write the event into the wake stream."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A decision.

    Args:
        state: As it is to be; the very same object if nothing changes.
        effect: What follows.
        woke: A wake began.
    """

    state: SubscriptionState
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
class TokenClaims:
    """A token's own words, once its signature is known to be good."""

    nonce: str
    generation: int


def is_pending(link: Link, tail: Tail | None) -> bool:
    """Whether a stream has more than was processed."""
    return tail is not None and tail.offset > link.acked


def created(state: SubscriptionState, context: Context, found: Iterable[str]) -> SubscriptionState:
    """A new subscription with its first links, each at the tail: history wakes nobody.

    Args:
        state: Without links.
        context: With the tails of the config's streams and of `found`.
        found: Existing streams that the pattern means.

    Raises:
        SubscriptionRefused: Too many streams (413).

    Source: Durable Streams 6.2.
    """
    state = _with_explicit(state, context, state.config.streams)
    state = _with_found(state, context, found, at_tail=True)
    if state.full:
        raise _too_many()
    return state


def linked(state: SubscriptionState, context: Context, paths: Iterable[str]) -> Transition:
    """Explicit streams are added at their tails. A cursor that is there stays where it is.

    Raises:
        SubscriptionRefused: Too many streams (413).

    Source: Durable Streams 6.4.
    """
    return Transition(_with_explicit(state, context, paths))


def unlinked(state: SubscriptionState, path: str) -> Transition:
    """An explicit stream is taken out, unless the pattern means it too.

    Source: Durable Streams 6.1, 6.4.
    """
    link = state.links.get(path)
    if link is None or not link.explicit:
        return Transition(state)
    kept = replace(link, explicit=False) if state.config.matches(path) else None
    return Transition(state.with_links({path: kept}))


def deleted(state: SubscriptionState) -> Transition:
    """A tombstone: whatever was in flight finds no wake any more.

    Source: Durable Streams 6.3.
    """
    return Transition(replace(_idle(state), links={}, deleted=True))


def advanced(
    state: SubscriptionState, context: Context, appeared: Iterable[str] = ()
) -> Transition:
    """Whatever is due is done: new streams are linked, a lease that is over is taken back, a wake
    is delivered again, pending work begins one.

    Args:
        state: As it is.
        context: Without tails: streams are not looked at.
        appeared: Streams that got data; those that the pattern means are linked, at their start.

    Source: Durable Streams 6.2, 7, 7.3.
    """
    if state.deleted:
        return Transition(state)
    if context.tails is not None:
        # Without tails a lease that is over is left for whoever looks: to take it back and not
        # wake again would leave pending work that nobody is ever told of.
        state = _expired(_with_found(state, context, appeared, at_tail=False), context)
    if state.retry_at is not None and state.retry_at <= context.now:
        return _attempt(state, context)
    return _woken(state, context)


def claimed(state: SubscriptionState, context: Context, worker: str) -> Transition:
    """A worker takes the wake, or begins one if there is work.

    Raises:
        SubscriptionRefused: Somebody else has it, there is nothing to do (409), it is no pull-wake
            (400).

    Source: Durable Streams 7.2.
    """
    _require_kind(state, is_webhook=False)
    state = _expired(state, context)
    if state.holder is not None:
        raise SubscriptionRefused(
            "ALREADY_CLAIMED",
            409,
            "another worker holds the lease",
            current_holder=state.holder,
            generation=state.generation,
        )
    state = _seen(state, context)
    if not any(is_pending(link, _tail(context, path)) for path, link in state.links.items()):
        raise SubscriptionRefused("NO_PENDING_WORK", 409, "no stream has more than was acked")
    # The worker gets the tails of now, of a wake that was announced long ago too.
    state = _begun(state, context) if state.wake_id is None else _with_snapshot(state, context)
    until = context.now + state.config.lease_ms
    return Transition(
        replace(state, holder=worker, lease_until=until, retry_at=None, attempts=0), None
    )


def acked(
    state: SubscriptionState,
    context: Context,
    token: TokenClaims,
    wake: Wake,
    acks: Sequence[Ack],
    *,
    done: bool,
    by_webhook: bool,
) -> Transition:
    """A worker is acknowledged of: cursors move on, and the lease is extended or given back.

    All or nothing: one ack that cannot be leaves every cursor and the lease as they were.

    Raises:
        SubscriptionRefused: Not its wake any more, or an offset that cannot be (409); the other
            kind of subscription (400).

    Source: Durable Streams 7.1 to 7.3.
    """
    _require_kind(state, is_webhook=by_webhook)
    state = _fenced(state, context, token, wake)
    changed: dict[str, Link | None] = {}
    for ack in acks:
        link = changed.get(ack.path) or state.links.get(ack.path)
        if link is None:
            raise _bad_offset(f"{ack.path!a} is no stream of the subscription")
        offset = _offset_of(ack)
        if offset < link.acked:
            raise _bad_offset(f"{offset} was passed: {link.acked} is acked")
        if offset > _most(link, _tail(context, ack.path)):
            raise _bad_offset(f"{offset} is beyond the tail of {ack.path!a}")
        changed[ack.path] = replace(link, acked=offset)
    if changed:
        state = state.with_links(changed)
    if done:
        return _woken(_idle(state), context)
    until = context.now + state.config.lease_ms
    return Transition(
        replace(state, lease_until=until, retry_at=None, attempts=0, acknowledged=True)
    )


def released(
    state: SubscriptionState, context: Context, token: TokenClaims, wake: Wake
) -> Transition:
    """A worker gives its wake back without having processed anything.

    Raises:
        SubscriptionRefused: Not its wake any more (409), or a webhook's (400).

    Source: Durable Streams 7.2.
    """
    _require_kind(state, is_webhook=False)
    return _woken(_idle(_fenced(state, context, token, wake)), context)


def delivered(state: SubscriptionState, context: Context, wake: Wake, *, done: bool) -> Transition:
    """A webhook was taken; `done`: with all that it told of.

    Source: Durable Streams 7.1.
    """
    if not _is_current(_expired(state, context), wake):
        return Transition(state)
    if not done:
        return Transition(replace(state, attempts=0)) if state.attempts else Transition(state)
    processed = {
        path: replace(link, acked=max(link.acked, link.snapshot))
        for path, link in state.links.items()
        if link.snapshot is not None
    }
    return _woken(_idle(state.with_links(processed)), context)


def delivery_failed(state: SubscriptionState, context: Context, wake: Wake) -> Transition:
    """A wake could not be delivered: again after a while, the same wake.

    Source: Durable Streams 7.1.
    """
    # A receiver that called back and then failed to answer has the wake all the same; so has a
    # worker that claimed it while its event could not be written.
    taken = state.acknowledged or state.holder is not None
    if taken or not _is_current(_expired(state, context), wake):
        return Transition(state)
    attempts = state.attempts + 1
    return Transition(
        replace(
            state,
            attempts=attempts,
            lease_until=None,
            retry_at=context.now + _backoff_ms(attempts, context.chance),
        )
    )


def announced(state: SubscriptionState, wake: Wake) -> Transition:
    """The event is in the wake stream: from now on somebody will claim."""
    if not _is_current(state, wake) or state.retry_at is None:
        return Transition(state)
    return Transition(replace(state, retry_at=None, attempts=0))


# What these are made of


def _expired(state: SubscriptionState, context: Context) -> SubscriptionState:
    if state.lease_until is None or state.lease_until > context.now:
        return state
    return _idle(state)


def _idle(state: SubscriptionState) -> SubscriptionState:
    links = {
        path: replace(link, snapshot=None) if link.snapshot is not None else link
        for path, link in state.links.items()
    }
    return replace(
        state,
        links=links,
        wake_id=None,
        holder=None,
        lease_until=None,
        retry_at=None,
        attempts=0,
        acknowledged=False,
    )


def _woken(state: SubscriptionState, context: Context) -> Transition:
    """Begin a wake if there is pending work and none is in flight."""
    if context.tails is None or state.wake_id is not None:
        return Transition(state)
    state = _seen(state, context)
    if not any(is_pending(link, _tail(context, path)) for path, link in state.links.items()):
        return Transition(state)
    return replace(_attempt(_begun(state, context), context), woke=True)


def _begun(state: SubscriptionState, context: Context) -> SubscriptionState:
    state = replace(
        state,
        generation=state.generation + 1,
        wake_id=context.wake_id,
        acknowledged=False,
        attempts=0,
    )
    return _with_snapshot(state, context)


def _with_snapshot(state: SubscriptionState, context: Context) -> SubscriptionState:
    """With the tails of now as what the wake promises, and nothing that it snapshot before."""
    told: dict[str, Link | None] = {
        path: replace(link, snapshot=None)
        for path, link in state.links.items()
        if link.snapshot is not None
    }
    for path in _chosen(state, context):
        link, tail = state.links[path], _tail(context, path)
        snapshot = link.acked if tail is None else max(link.acked, tail.offset)
        told[path] = replace(link, snapshot=snapshot, woken=state.generation)
    return state.with_links(told)


def _chosen(state: SubscriptionState, context: Context) -> list[str]:
    """What a wake tells of: what is pending and was told of longest ago comes first, so that none
    waits for ever behind streams that are always busy."""

    def order(path: str) -> tuple[bool, int, str]:
        link = state.links[path]
        return not is_pending(link, _tail(context, path)), link.woken, path

    return sorted(state.links, key=order)[: limits.MAX_WAKE_STREAMS]


def _attempt(state: SubscriptionState, context: Context) -> Transition:
    if state.is_webhook:
        until = context.now + state.config.lease_ms
        return Transition(replace(state, lease_until=until, retry_at=None), Effect.DELIVER)
    again = context.now + round(limits.ANNOUNCE_GRACE * 1000)
    return Transition(replace(state, retry_at=again), Effect.ANNOUNCE)


def _seen(state: SubscriptionState, context: Context) -> SubscriptionState:
    """Cursors of streams that are gone, or that are not the streams they were."""
    assert context.tails is not None
    changed: dict[str, Link | None] = {}
    for path, link in state.links.items():
        tail = context.tails.get(path)
        if tail is None:
            if not link.explicit:
                changed[path] = None
        elif link.created_at is None:
            changed[path] = replace(link, created_at=tail.created_at)
        elif link.created_at != tail.created_at:
            changed[path] = Link(link.explicit, START, tail.created_at)
    return state.with_links(changed) if changed else state


def _with_explicit(
    state: SubscriptionState, context: Context, paths: Iterable[str]
) -> SubscriptionState:
    changed: dict[str, Link | None] = {}
    for path in paths:
        link = state.links.get(path)
        if link is None:
            tail = _tail(context, path)
            changed[path] = Link(True) if tail is None else Link(True, tail.offset, tail.created_at)
        elif not link.explicit:
            changed[path] = replace(link, explicit=True)
    if not changed:
        return state
    state = state.with_links(changed)
    if not _fits(len(state.links), _path_bytes(state.links)):
        raise _too_many()
    return state


def _with_found(
    state: SubscriptionState, context: Context, paths: Iterable[str], *, at_tail: bool
) -> SubscriptionState:
    assert context.tails is not None
    count = len(state.links)
    size = _path_bytes(state.links)
    full = False
    found: dict[str, Link | None] = {}
    for path in paths:
        tail = context.tails.get(path)
        if tail is None or path in state.links or path in found or not state.config.matches(path):
            continue
        size += len(path.encode())
        full = full or not _fits(count + len(found) + 1, size)
        if full:
            break
        found[path] = Link(False, tail.offset if at_tail else START, tail.created_at)
    if found:
        state = state.with_links(found)
    return state if state.full == full or not (found or full) else replace(state, full=full)


def _path_bytes(paths: Iterable[str]) -> int:
    return sum(len(path.encode()) for path in paths)


def _fits(count: int, path_bytes: int) -> bool:
    most = limits.MAX_SUBSCRIPTION_STREAMS
    return count <= most and path_bytes <= limits.MAX_SUBSCRIPTION_PATH_BYTES


def _fenced(
    state: SubscriptionState, context: Context, token: TokenClaims, wake: Wake
) -> SubscriptionState:
    """The state, if a request is of the wake that is in flight."""
    state = _expired(state, context)
    # A webhook may be called back while it waits for its next attempt, too: then its receiver took
    # it, and only the answer was lost.
    good = (
        _is_current(state, wake)
        and token.nonce == state.nonce
        and token.generation == state.generation
        and (state.is_webhook or state.holder is not None)
    )
    if not good:
        raise SubscriptionRefused("FENCED", 409, "the wake is not in flight any more")
    return state


def _is_current(state: SubscriptionState, wake: Wake) -> bool:
    return (
        state.wake_id is not None
        and state.wake_id == wake.wake_id
        and state.generation == wake.generation
    )


def _require_kind(state: SubscriptionState, *, is_webhook: bool) -> None:
    if state.is_webhook is not is_webhook:
        reason = f"the subscription is a {state.config.type}"
        raise SubscriptionRefused("INVALID_REQUEST", 400, reason)


def _tail(context: Context, path: str) -> Tail | None:
    return None if context.tails is None else context.tails.get(path)


def _most(link: Link, tail: Tail | None) -> Offset:
    """The furthest that can have been processed; of a stream that is gone, what was told of it."""
    if tail is not None:
        return tail.offset
    return link.acked if link.snapshot is None else link.snapshot


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
