"""What may become of a subscription."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.store import START, Offset
from tailrace.subscriptions import transitions as t
from tailrace.subscriptions.state import Config, Link, StreamTail, SubscriptionState
from tailrace.subscriptions.transitions import Ack, AckRequest, Context, Effect, TokenClaims, Wake

LEASE = 30_000


def at(position: int, created_at: int = 1) -> StreamTail:
    return StreamTail(Offset(created_at * 1000, position), created_at)


def config(kind: str = "webhook", **more: Any) -> Config:
    fields: dict[str, Any] = {
        "type": kind,
        "pattern": "e/*",
        "streams": (),
        "webhook_url": "https://example.com/" if kind == "webhook" else None,
        "wake_stream": "wake" if kind == "pull-wake" else None,
        "lease_ms": LEASE,
        "description": None,
    }
    return Config(**{**fields, **more})


def subscription(kind: str = "webhook", **more: Any) -> SubscriptionState:
    links = more.pop("links", {"e/a": Link(False, Offset(1000, 5), 1)})
    fields = {"id": "s", "nonce": "n", "version": 1, "base_url": "http://h", "created_at": 0}
    return SubscriptionState(**{**fields, "config": config(kind), "links": links, **more})


def context(now: int = 0, chance: float = 0.0, **tails: StreamTail) -> Context:
    ends = {f"e/{name}": tail for name, tail in tails.items()}
    return Context(now=now, wake_id=f"w{now}", tails=ends, chance=chance)


def unseen(now: int) -> Context:
    return Context(now=now, wake_id=f"w{now}")


def woken(kind: str = "webhook", now: int = 0) -> SubscriptionState:
    return t.advanced(subscription(kind), context(now, a=at(9))).state


def taken(now: int = 0) -> SubscriptionState:
    return t.claimed(woken("pull-wake", now), context(now, a=at(9)), "w").state


def wake_of(state: SubscriptionState) -> Wake:
    assert state.wake_id is not None
    return Wake(state.wake_id, state.generation)


def token_of(state: SubscriptionState) -> TokenClaims:
    return TokenClaims(state.nonce, state.generation)


def answer(
    state: SubscriptionState, when: Context, *acks: Ack, done: bool = False, **more: Any
) -> t.Transition:
    return t.acked(
        state,
        when,
        more.get("token", token_of(state)),
        AckRequest(more.get("wake", wake_of(state)), acks, done),
        by_webhook=state.is_webhook,
    )


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(SubscriptionRefused) as caught:
        call()
    return caught.value.wire_code


# Waking


def test_pending_work_begins_a_wake_and_a_webhook_is_leased_at_once() -> None:
    transition = t.advanced(subscription(), context(7, a=at(9)))
    assert (transition.effect, transition.woke) == (Effect.DELIVER, True)
    assert (transition.state.generation, transition.state.wake_id) == (1, "w7")
    assert transition.state.lease_until == 7 + LEASE
    assert transition.state.links["e/a"].snapshot == Offset(1000, 9)


def test_a_pull_wake_is_announced_and_has_no_lease() -> None:
    transition = t.advanced(subscription("pull-wake"), context(7, a=at(9)))
    assert transition.effect is Effect.ANNOUNCE
    assert transition.state.lease_until is None
    assert transition.state.due == 7 + limits.ANNOUNCE_GRACE * 1000
    assert t.announced(transition.state, wake_of(transition.state)).state.due is None


def test_nothing_pending_changes_nothing() -> None:
    state = subscription()
    transition = t.advanced(state, context(a=at(5)))
    assert transition.state is state
    assert transition.effect is None


def test_a_wake_in_flight_is_not_followed_by_another() -> None:
    state = woken()
    transition = t.advanced(state, context(1, a=at(99)))
    assert transition.state is state


def test_without_tails_nothing_wakes_and_no_lease_is_taken_back() -> None:
    assert t.advanced(subscription(), unseen(5)).state.wake_id is None
    state = taken()
    assert t.advanced(state, unseen(LEASE)).state is state


def test_a_tombstone_stays_one() -> None:
    state = t.deleted(woken()).state
    assert state.deleted
    assert state.wake_id is None
    assert state.due is None
    assert t.advanced(state, context(a=at(9)), ["e/b"]).state is state


# Links


def test_a_new_stream_is_linked_at_its_start() -> None:
    transition = t.advanced(subscription(links={}), context(a=at(9)), ["e/a", "x/a"])
    assert transition.state.links["e/a"].acked == START
    assert transition.woke


def test_a_new_empty_stream_is_linked_and_wakes_nobody() -> None:
    transition = t.advanced(subscription(links={}), context(a=StreamTail(START, 1)), ["e/a"])
    assert transition.state.links["e/a"].acked == START
    assert not transition.woke


def test_a_creation_links_at_the_tails() -> None:
    empty = subscription(links={}, config=config(streams=("e/a", "x/no")))
    state = t.created(empty, context(a=at(4), b=at(6)), ["e/a", "e/b"])
    assert state.links == {
        "e/a": Link(True, Offset(1000, 4), 1),
        "x/no": Link(True),
        "e/b": Link(False, Offset(1000, 6), 1),
    }


def test_an_explicit_stream_that_is_there_already_keeps_its_cursor() -> None:
    state = t.linked(subscription(), context(a=at(9)), ["e/a"]).state
    assert state.links["e/a"] == Link(True, Offset(1000, 5), 1)
    assert t.linked(state, context(a=at(9)), ["e/a"]).state is state


def test_an_explicit_stream_that_the_pattern_means_stays_linked_when_it_is_taken_out() -> None:
    links = {"e/a": Link(True, START, 1), "x/a": Link(True, START, 1)}
    state = subscription(links=links)
    assert t.unlinked(state, "e/a").state.links["e/a"] == Link(False, START, 1)
    assert "x/a" not in t.unlinked(state, "x/a").state.links


def test_to_take_out_what_is_not_explicit_changes_nothing() -> None:
    state = subscription()
    assert t.unlinked(state, "e/a").state is state
    assert t.unlinked(state, "x/zz").state is state


def test_a_stream_that_is_gone_is_left_out_unless_it_is_explicit() -> None:
    links = {"e/a": Link(False, START, 1), "e/b": Link(True, START, 1), "e/c": Link(False)}
    transition = t.advanced(subscription(links=links), context(c=at(1)))
    assert set(transition.state.links) == {"e/b", "e/c"}


def test_a_stream_that_was_made_again_begins_at_its_start() -> None:
    links = {"e/a": Link(True, Offset(1000, 50), 1)}
    transition = t.advanced(subscription(links=links), context(a=at(3, created_at=2)))
    assert transition.state.links["e/a"].acked == START
    assert transition.woke


@pytest.mark.parametrize("bytes_each", [1, 100])
def test_a_subscription_has_so_many_streams_at_most(
    monkeypatch: pytest.MonkeyPatch, bytes_each: int
) -> None:
    if bytes_each == 1:
        monkeypatch.setattr(limits, "MAX_SUBSCRIPTION_STREAMS", 3)
    else:
        monkeypatch.setattr(limits, "MAX_SUBSCRIPTION_PATH_BYTES", 300)
    paths = [f"e/{number}{'x' * bytes_each}"[:bytes_each] for number in range(4)]
    paths = [path if path.startswith("e/") else f"e{number}" for number, path in enumerate(paths)]
    if bytes_each == 1:
        assert len(t.linked(subscription(links={}), context(), paths[:3]).state.links) == 3
    else:
        assert len(t.linked(subscription(links={}), context(), paths[:3]).state.links) == 3
    assert refused(lambda: t.linked(subscription(links={}), context(), paths)) == "TOO_MANY_STREAMS"


def test_streams_that_do_not_fit_are_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_SUBSCRIPTION_STREAMS", 2)
    tails: dict[str, Any] = {name: StreamTail(START, 1) for name in "abc"}
    names = ["e/a", "e/b", "e/c"]
    state = t.advanced(subscription(links={}), context(**tails), names[:2]).state
    assert not state.full
    state = t.advanced(state, context(**tails), names[2:]).state
    assert state.full
    assert set(state.links) == {"e/a", "e/b"}
    assert (
        refused(lambda: t.created(subscription(links={}), context(**tails), names))
        == "TOO_MANY_STREAMS"
    )


# Leases


def test_a_lease_lasts_until_its_end_and_not_a_millisecond_more() -> None:
    state = taken()
    assert t.advanced(state, context(LEASE - 1, a=at(9))).state is state
    assert answer(state, context(LEASE - 1, a=at(9))).state.lease_until == 2 * LEASE - 1
    transition = t.advanced(state, context(LEASE, a=at(9)))
    assert (transition.state.generation, transition.state.holder) == (2, None)
    assert refused(lambda: answer(state, context(LEASE, a=at(9)))) == "FENCED"


def test_a_lease_that_is_over_without_pending_work_leaves_nothing_due() -> None:
    transition = t.advanced(taken(), context(LEASE, a=at(5)))
    assert transition.state.wake_id is None
    assert transition.state.due is None


def test_a_claim_after_a_lease_takes_the_next_generation() -> None:
    state = t.claimed(taken(), context(LEASE, a=at(9)), "w2").state
    assert (state.generation, state.holder) == (2, "w2")


def test_a_claim_of_a_webhook_is_refused() -> None:
    assert refused(lambda: t.claimed(subscription(), context(a=at(9)), "w")) == "INVALID_REQUEST"


@pytest.mark.parametrize("kind", ["webhook", "pull-wake"])
def test_the_other_kinds_answers_are_refused(kind: str) -> None:
    state = woken(kind)
    args = (state, context(a=at(9)), token_of(state))
    request = AckRequest(wake_of(state), done=True)
    wrong = kind != "webhook"
    assert refused(lambda: t.acked(*args, request, by_webhook=wrong)) == "INVALID_REQUEST"
    if kind == "webhook":
        assert refused(lambda: t.released(*args, request.wake)) == "INVALID_REQUEST"


# Fencing


@pytest.mark.parametrize(
    "change",
    [
        {"wake": Wake("other", 1)},
        {"wake": Wake("w0", 2)},
        {"wake": Wake("w0", 0)},
        {"token": TokenClaims("n", 2)},
        {"token": TokenClaims("n", 0)},
        {"token": TokenClaims("other", 1)},
    ],
)
@pytest.mark.parametrize("make", [woken, taken])
def test_all_of_token_generation_and_wake_id_must_be_right(
    make: Callable[[], SubscriptionState], change: dict[str, Any]
) -> None:
    state = make()
    assert answer(state, context(a=at(5)), done=True).state.wake_id is None
    assert refused(lambda: answer(state, context(a=at(9)), done=True, **change)) == "FENCED"


def test_a_wake_that_nobody_claimed_cannot_be_acked() -> None:
    assert refused(lambda: answer(woken("pull-wake"), context(a=at(9)), done=True)) == "FENCED"


# Acks


def test_acks_are_all_or_nothing() -> None:
    links = {"e/a": Link(False, START, 1), "e/b": Link(False, START, 1)}
    state = t.advanced(subscription(links=links), context(a=at(9), b=at(9))).state
    acks = [Ack("e/a", str(Offset(1000, 9))), Ack("e/b", str(Offset(1000, 10)))]
    when = context(a=at(9), b=at(9))
    assert refused(lambda: answer(state, when, *acks)) == "INVALID_OFFSET"


def test_two_acks_of_one_stream_go_forward_too() -> None:
    state = woken()
    low, high = (Ack("e/a", str(Offset(1000, position))) for position in (6, 9))
    when = context(a=at(9))
    assert answer(state, when, low, high).state.links["e/a"].acked.position == 9
    assert refused(lambda: answer(state, when, high, low)) == "INVALID_OFFSET"


def test_a_stream_that_is_gone_can_be_acked_as_far_as_was_told() -> None:
    state = woken()
    told = Ack("e/a", str(Offset(1000, 9)))
    beyond = Ack("e/a", str(Offset(1000, 10)))
    assert answer(state, context(), told, done=True).state.wake_id is None
    assert refused(lambda: answer(state, context(), beyond)) == "INVALID_OFFSET"


def test_done_with_more_to_do_begins_the_next_wake() -> None:
    state = woken()
    transition = answer(state, context(5, a=at(12)), Ack("e/a", str(Offset(1000, 9))), done=True)
    assert transition.woke
    assert transition.effect is Effect.DELIVER
    assert (transition.state.generation, transition.state.wake_id) == (2, "w5")


# Deliveries


def test_done_in_the_answer_acks_what_was_promised_and_not_what_came_later() -> None:
    state = woken()
    transition = t.delivered(state, context(5, a=at(12)), wake_of(state), done=True)
    assert transition.state.links["e/a"].acked == Offset(1000, 9)
    assert transition.state.generation == 2


def test_done_does_not_take_back_what_a_callback_has_acked() -> None:
    state = answer(woken(), context(a=at(12)), Ack("e/a", str(Offset(1000, 12)))).state
    transition = t.delivered(state, context(5, a=at(12)), wake_of(state), done=True)
    assert transition.state.links["e/a"].acked == Offset(1000, 12)
    assert transition.state.wake_id is None


def test_an_answer_that_comes_after_its_lease_changes_nothing() -> None:
    state = woken()
    for when in (context(LEASE, a=at(9)), context(LEASE + 1, a=at(9))):
        assert t.delivered(state, when, wake_of(state), done=True).state is state
        assert t.delivery_failed(state, when, wake_of(state)).state is state


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (5000, 60)]
)
@pytest.mark.parametrize("chance", [-1.0, 0.0, 1.0])
def test_a_failure_is_repeated_after_a_pause_that_doubles(
    failures: int, seconds: int, chance: float
) -> None:
    state = replace(woken(), attempts=failures - 1)
    transition = t.delivery_failed(state, context(100, chance, a=at(9)), wake_of(state))
    assert transition.state.retry_at == 100 + round(seconds * 1000 * (1 + 0.2 * chance))
    assert transition.state.lease_until is None
    assert transition.state.status == "failed"
    assert transition.state.wake_id == state.wake_id


def test_a_repetition_is_of_the_same_wake_with_a_new_lease() -> None:
    state = woken()
    state = t.delivery_failed(state, context(100), wake_of(state)).state
    assert t.advanced(state, unseen(1099)).state is state
    transition = t.advanced(state, unseen(1100))
    assert transition.effect is Effect.DELIVER
    assert transition.state.wake_id == state.wake_id
    assert transition.state.lease_until == 1100 + LEASE


def test_a_failure_after_a_callback_is_no_failure() -> None:
    state = answer(woken(), context(a=at(9))).state
    assert t.delivery_failed(state, context(1), wake_of(state)).state is state


def test_a_failure_to_announce_what_was_claimed_meanwhile_is_none() -> None:
    state = taken()
    assert t.delivery_failed(state, context(1), wake_of(state)).state is state


def test_a_wake_is_announced_again_by_another_when_its_maker_died() -> None:
    state = woken("pull-wake")
    grace = round(limits.ANNOUNCE_GRACE * 1000)
    assert t.advanced(state, unseen(grace - 1)).effect is None
    transition = t.advanced(state, unseen(grace))
    assert transition.effect is Effect.ANNOUNCE
    assert transition.state.wake_id == state.wake_id


def test_streams_that_were_told_of_longest_ago_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAKE_STREAMS", 2)
    links = {f"e/{name}": Link(False, START, 1) for name in "abc"}
    when = context(a=at(9), b=at(9), c=at(9))
    first = t.advanced(subscription(links=links), when).state
    told = {path for path, link in first.links.items() if link.snapshot is not None}
    assert told == {"e/a", "e/b"}
    second = t.advanced(first, replace(when, now=LEASE, wake_id="x")).state
    told = {path for path, link in second.links.items() if link.snapshot is not None}
    assert "e/c" in told
    assert len(told) == 2
