"""How a subscription changes: pure functions of its state, an event and the context.

A subscription is in one of four states:

| state | its fields | meaning |
|---|---|---|
| idle | no `wake_id` | nothing is due |
| waking | `wake_id`, `retry_at` | the wake is to be delivered at `retry_at` |
| offered | `wake_id` | pull-wake only: the event is written, any worker may claim the wake |
| leased | `wake_id`, `lease_until` | a webhook is sent, or its worker works |

The event of a pull-wake is written at once by the process that began the wake. If that process has
died, another one writes the event at `retry_at`.

When a wake ends, pending work is looked for first, and the next wake begins if there is some. These
functions compare times with `Context.now` and rely on no timer: a lease is over at its end, even if
no process has noticed yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from tailrace import limits
from tailrace.errors import InvalidOffset, SubscriptionRefused
from tailrace.store import START, Offset
from tailrace.subscriptions.state import Link, StreamTail, SubscriptionState

__all__ = [
    "Ack",
    "AckRequest",
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
    """What else a decision depends on.

    Args:
        now: Milliseconds since the epoch.
        wake_id: A new one, for a wake that may begin.
        tails: Where streams end, by path: those of every link and of every other path that the
            event names; a stream that does not exist is left out. None: they were not looked up,
            and no wake begins.
        chance: -1.0 to 1.0, drawn evenly: the jitter of a retry.
    """

    now: int
    wake_id: str
    tails: Mapping[str, StreamTail] | None = None
    chance: float = 0.0

    def tail(self, path: str) -> StreamTail | None:
        return None if self.tails is None else self.tails.get(path)


class Effect(Enum):
    """What the process that wrote the new state must do next."""

    DELIVER = "deliver"
    """Send the webhook."""
    ANNOUNCE = "announce"
    """Write the event into the wake stream."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A decision.

    Args:
        state: The new state; the very same object if nothing changes.
        effect: What follows; None: nothing.
        woke: Whether a wake began.
    """

    state: SubscriptionState
    effect: Effect | None = None
    woke: bool = False


@dataclass(frozen=True, slots=True)
class Wake:
    """Which wake a request is about, as the client names it."""

    wake_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Ack:
    """A worker has processed everything before an offset, in one stream."""

    path: str
    offset: str


@dataclass(frozen=True, slots=True)
class AckRequest:
    """A callback or an ack of a worker.

    Args:
        wake: The wake that it answers for.
        acks: What it has processed.
        done: Whether it has finished: this ends the wake.
    """

    wake: Wake
    acks: tuple[Ack, ...] = ()
    done: bool = False


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token with a good signature says."""

    nonce: str
    generation: int


def is_pending(link: Link, tail: StreamTail | None) -> bool:
    """Whether a stream has more than was processed."""
    return tail is not None and tail.offset > link.acked


def created(state: SubscriptionState, context: Context, found: Iterable[str]) -> SubscriptionState:
    """A new subscription with its first links, each at the tail: old data begins no wake.

    Args:
        state: Without links.
        context: With the tails of the config's streams and of `found`.
        found: Existing streams that match the pattern.

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
    """Add explicit streams at their tails. A cursor that exists stays where it is.

    Raises:
        SubscriptionRefused: Too many streams (413).

    Source: Durable Streams 6.4.
    """
    return Transition(_with_explicit(state, context, paths))


def unlinked(state: SubscriptionState, path: str) -> Transition:
    """Remove an explicit stream; if the pattern matches it too, it stays as a matching stream.

    Source: Durable Streams 6.1, 6.4.
    """
    link = state.links.get(path)
    if link is None or not link.explicit:
        return Transition(state)
    kept = replace(link, explicit=False) if state.config.matches(path) else None
    return Transition(state.with_links({path: kept}))


def deleted(state: SubscriptionState) -> Transition:
    """Make a tombstone: an answer for the wake that was in flight is refused.

    Source: Durable Streams 6.3.
    """
    return Transition(replace(_idle(state), links={}, deleted=True))


def advanced(
    state: SubscriptionState, context: Context, appeared: Iterable[str] = ()
) -> Transition:
    """Do what is due: link new streams, end a lease that is over, deliver a wake again, or begin a
    wake if work is pending.

    Args:
        state: As it is.
        context: Without tails: streams are not looked at.
        appeared: Streams that got data; those that match the pattern are linked, at their start.

    Source: Durable Streams 6.2, 7, 7.3.
    """
    if state.deleted:
        return Transition(state)
    if context.tails is not None:
        # Without tails, a lease that is over stays as it is. To end it without looking for pending
        # work could leave work that no worker ever learns of.
        state = _expired(_with_found(state, context, appeared, at_tail=False), context)
    if state.retry_at is not None and state.retry_at <= context.now:
        return _attempted(state, context)
    return _woken(state, context)


def claimed(state: SubscriptionState, context: Context, worker: str) -> Transition:
    """Give the wake to a worker; if none is in flight and work is pending, begin one.

    Raises:
        SubscriptionRefused: Another worker has it, there is nothing to do (409), or the
            subscription is not a pull-wake (400).

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
    state = _reconciled(state, context)
    if not _has_pending(state, context):
        raise SubscriptionRefused(
            "NO_PENDING_WORK", 409, "no stream has new data: claim again after an append"
        )
    # The worker gets the tails of now, also for a wake that was announced long ago.
    state = _begun(state, context) if state.wake_id is None else _with_snapshot(state, context)
    until = context.now + state.config.lease_ms
    return Transition(
        replace(state, holder=worker, lease_until=until, retry_at=None, attempts=0), None
    )


def acked(
    state: SubscriptionState,
    context: Context,
    token: TokenClaims,
    request: AckRequest,
    *,
    by_webhook: bool,
) -> Transition:
    """A worker answers: move cursors on, and extend the lease, or end the wake if it is done.

    All or nothing: if one ack is wrong, every cursor and the lease stay as they were.

    Raises:
        SubscriptionRefused: The wake is not in flight any more, or an offset is out of its range
            (409); the subscription is of the other kind (400).

    Source: Durable Streams 7.1 to 7.3.
    """
    _require_kind(state, is_webhook=by_webhook)
    state = _fenced(state, context, token, request.wake)
    changed: dict[str, Link | None] = {}
    for ack in request.acks:
        link = changed.get(ack.path) or state.links.get(ack.path)
        if link is None:
            raise _bad_offset(f"{ack.path!a} is not a stream of the subscription")
        offset = _offset_of(ack)
        if offset < link.acked:
            raise _bad_offset(f"{offset} is before {link.acked}, which was acknowledged already")
        if offset > _furthest(link, context.tail(ack.path)):
            raise _bad_offset(f"{offset} is beyond the tail of {ack.path!a}")
        changed[ack.path] = replace(link, acked=offset)
    if changed:
        state = state.with_links(changed)
    if request.done:
        return _woken(_idle(state), context)
    until = context.now + state.config.lease_ms
    return Transition(
        replace(state, lease_until=until, retry_at=None, attempts=0, acknowledged=True)
    )


def released(
    state: SubscriptionState, context: Context, token: TokenClaims, wake: Wake
) -> Transition:
    """A worker gives its wake back unprocessed.

    Raises:
        SubscriptionRefused: The wake is not in flight any more (409), or is a webhook's (400).

    Source: Durable Streams 7.2.
    """
    _require_kind(state, is_webhook=False)
    return _woken(_idle(_fenced(state, context, token, wake)), context)


def delivered(state: SubscriptionState, context: Context, wake: Wake, *, done: bool) -> Transition:
    """A receiver accepted its webhook; `done`: it has processed all that the webhook named.

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
    """A wake could not be delivered: try the same wake again after a while.

    Source: Durable Streams 7.1.
    """
    # A receiver that called back has the wake, even if it then failed to answer the webhook; so has
    # a worker that claimed the wake while its event could not be written.
    taken = state.acknowledged or state.holder is not None
    if taken or not _is_current(_expired(state, context), wake):
        return Transition(state)
    attempts = state.attempts + 1
    retry_at = context.now + _backoff_ms(attempts, context.chance)
    return Transition(replace(state, attempts=attempts, lease_until=None, retry_at=retry_at))


def announced(state: SubscriptionState, wake: Wake) -> Transition:
    """The event is in the wake stream: from now on a worker can claim the wake."""
    if not _is_current(state, wake) or state.retry_at is None:
        return Transition(state)
    return Transition(replace(state, retry_at=None, attempts=0))


# The lease and the wake


def _expired(state: SubscriptionState, context: Context) -> SubscriptionState:
    if state.lease_until is None or state.lease_until > context.now:
        return state
    return _idle(state)


def _idle(state: SubscriptionState) -> SubscriptionState:
    return replace(
        _without_snapshot(state),
        wake_id=None,
        holder=None,
        lease_until=None,
        retry_at=None,
        attempts=0,
        acknowledged=False,
    )


def _woken(state: SubscriptionState, context: Context) -> Transition:
    """Begin a wake if work is pending and no wake is in flight."""
    if context.tails is None or state.wake_id is not None:
        return Transition(state)
    state = _reconciled(state, context)
    if not _has_pending(state, context):
        return Transition(state)
    return replace(_attempted(_begun(state, context), context), woke=True)


def _begun(state: SubscriptionState, context: Context) -> SubscriptionState:
    state = replace(
        state,
        generation=state.generation + 1,
        wake_id=context.wake_id,
        acknowledged=False,
        attempts=0,
    )
    return _with_snapshot(state, context)


def _attempted(state: SubscriptionState, context: Context) -> Transition:
    if state.is_webhook:
        until = context.now + state.config.lease_ms
        return Transition(replace(state, lease_until=until, retry_at=None), Effect.DELIVER)
    again = context.now + round(limits.ANNOUNCE_GRACE * 1000)
    return Transition(replace(state, retry_at=again), Effect.ANNOUNCE)


def _fenced(
    state: SubscriptionState, context: Context, token: TokenClaims, wake: Wake
) -> SubscriptionState:
    """The state, if a request is about the wake that is in flight; otherwise refuse it."""
    state = _expired(state, context)
    # A receiver may also call back while its webhook waits for the next attempt: then it got the
    # webhook, and only its answer was lost.
    good = (
        _is_current(state, wake)
        and token.nonce == state.nonce
        and token.generation == state.generation
        and (state.is_webhook or state.holder is not None)
    )
    if not good:
        raise SubscriptionRefused(
            "FENCED", 409, "this wake has ended, or another worker has it: wait for the next wake"
        )
    return state


def _is_current(state: SubscriptionState, wake: Wake) -> bool:
    return (
        state.wake_id is not None
        and state.wake_id == wake.wake_id
        and state.generation == wake.generation
    )


def _require_kind(state: SubscriptionState, *, is_webhook: bool) -> None:
    if state.is_webhook is not is_webhook:
        reason = (
            f"the subscription is of type {state.config.type}, which does not have this request"
        )
        raise SubscriptionRefused("INVALID_REQUEST", 400, reason)


def _backoff_ms(attempts: int, chance: float) -> int:
    doubled = limits.MIN_WEBHOOK_RETRY * 2.0 ** min(attempts - 1, 16)
    seconds = min(doubled, limits.MAX_WEBHOOK_RETRY)
    return round(1000 * seconds * (1 + limits.WEBHOOK_RETRY_JITTER * chance))


# The links


def _has_pending(state: SubscriptionState, context: Context) -> bool:
    return any(is_pending(link, context.tail(path)) for path, link in state.links.items())


def _with_snapshot(state: SubscriptionState, context: Context) -> SubscriptionState:
    """Let the wake name streams with their tails of now, and nothing that it named before."""
    state = _without_snapshot(state)
    named: dict[str, Link | None] = {}
    for path in _chosen(state, context):
        link, tail = state.links[path], context.tail(path)
        snapshot = link.acked if tail is None else max(link.acked, tail.offset)
        named[path] = replace(link, snapshot=snapshot, woken=state.generation)
    return state.with_links(named)


def _without_snapshot(state: SubscriptionState) -> SubscriptionState:
    links = {
        path: replace(link, snapshot=None) if link.snapshot is not None else link
        for path, link in state.links.items()
    }
    return replace(state, links=links)


def _chosen(state: SubscriptionState, context: Context) -> list[str]:
    """The streams that a wake names: pending streams first, and among these the one that was named
    longest ago. So no stream waits for ever behind streams that are always busy."""

    def order(path: str) -> tuple[bool, int, str]:
        link = state.links[path]
        return not is_pending(link, context.tail(path)), link.woken, path

    return sorted(state.links, key=order)[: limits.MAX_WAKE_STREAMS]


def _reconciled(state: SubscriptionState, context: Context) -> SubscriptionState:
    """Move the cursor of a stream that was replaced to the start; drop that of a matching stream
    that is gone."""
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
            tail = context.tail(path)
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
        if not _fits(count + len(found) + 1, size):
            full = True
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


def _furthest(link: Link, tail: StreamTail | None) -> Offset:
    """The furthest offset that can be acknowledged: the tail, or, if the stream is gone, what the
    wake named."""
    if tail is not None:
        return tail.offset
    return link.acked if link.snapshot is None else link.snapshot


def _offset_of(ack: Ack) -> Offset:
    try:
        return Offset.parse(ack.offset)
    except InvalidOffset as error:
        raise _bad_offset(str(error)) from None


def _bad_offset(reason: str) -> SubscriptionRefused:
    return SubscriptionRefused("INVALID_OFFSET", 409, reason)


def _too_many() -> SubscriptionRefused:
    return SubscriptionRefused(
        "TOO_MANY_STREAMS",
        413,
        f"a subscription may have {limits.MAX_SUBSCRIPTION_STREAMS:,} streams, with "
        f"{limits.MAX_SUBSCRIPTION_PATH_BYTES:,} bytes of paths",
    )
