"""Random histories of a subscription: what must hold in every state, however it came about.

The streams, the clock and the workers are those of a model; the state goes through `encode` and
`decode` at each transition, as it goes through a store.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.store import START, Offset
from tailrace.subscriptions import transitions as t
from tailrace.subscriptions.state import Config, Link, StreamTail, SubscriptionState
from tailrace.subscriptions.transitions import (
    Ack,
    AckRequest,
    Context,
    Effect,
    TokenClaims,
    Transition,
    Wake,
)

LEASE = 1000
PATHS = st.sampled_from(["e/a", "e/b", "x/a", "x/b"])


def tried(decide: Callable[[], Transition]) -> Transition | str:
    """A decision, or the protocol's name for why there is none."""
    try:
        return decide()
    except SubscriptionRefused as error:
        return error.wire_code


class Subscription(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000
        self.wakes = 0
        self.streams: dict[str, StreamTail] = {}
        self.creations = 0
        self.untold: set[str] = set()  # streams that got data and were not looked at
        self.seen: list[tuple[TokenClaims, Wake, dict[str, str]]] = []
        self.wake_ids: set[str] = set()
        self.delivering: Wake | None = None

    @initialize(webhook=st.booleans(), explicit=st.sets(PATHS, max_size=2))
    def create(self, webhook: bool, explicit: set[str]) -> None:
        config = Config(
            type="webhook" if webhook else "pull-wake",
            pattern="e/*",
            streams=tuple(sorted(explicit)),
            webhook_url="https://example.com/" if webhook else None,
            wake_stream=None if webhook else "wake",
            lease_ms=LEASE,
            description=None,
        )
        empty = SubscriptionState(
            id="s", nonce="n", version=1, config=config, base_url="http://h", created_at=0
        )
        self.state = t.created(empty, self.context(), self.streams)

    def context(self, chance: float = 0.0) -> Context:
        self.wakes += 1
        return Context(
            now=self.now, wake_id=f"w{self.wakes}", tails=dict(self.streams), chance=chance
        )

    def take(self, transition: Transition) -> None:
        """Believe a transition, after checking what no transition may do."""
        stored = json.loads(json.dumps(transition.state.encode()))
        before, after = self.state, SubscriptionState.decode(stored)
        assert after == transition.state
        assert after.generation in (before.generation, before.generation + 1)
        if after.generation > before.generation:
            assert after.wake_id is not None
            assert after.wake_id not in self.wake_ids
            self.wake_ids.add(after.wake_id)
        else:
            assert after.wake_id in (before.wake_id, None)
        for path, link in after.links.items():
            old = before.links.get(path)
            if old is not None and link.created_at == old.created_at:
                assert link.acked >= old.acked
            tail = self.streams.get(path)
            if tail is not None and link.created_at == tail.created_at:
                assert link.acked <= tail.offset
        if transition.effect is Effect.DELIVER:
            assert after.is_webhook
            assert after.lease_until == self.now + LEASE
            self.delivering = Wake(str(after.wake_id), after.generation)
        if transition.effect is Effect.ANNOUNCE:
            assert not after.is_webhook
            self.delivering = Wake(str(after.wake_id), after.generation)
        self.state = after

    def told(self) -> dict[str, str]:
        return {
            path: str(link.snapshot)
            for path, link in self.state.links.items()
            if link.snapshot is not None
        }

    def remember(self) -> None:
        wake = Wake(str(self.state.wake_id), self.state.generation)
        self.seen.append((TokenClaims("n", self.state.generation), wake, self.told()))

    # The world

    @rule(path=PATHS, size=st.integers(1, 5))
    def append(self, path: str, size: int) -> None:
        tail = self.streams.get(path)
        if tail is None:
            self.creations += 1
            tail = StreamTail(START, self.creations)
        generation = self.creations if tail.offset.position == 0 else tail.offset.generation
        self.streams[path] = StreamTail(
            Offset(generation, tail.offset.position + size), tail.created_at
        )
        self.untold.add(path)

    @rule(path=PATHS)
    def delete_stream(self, path: str) -> None:
        self.streams.pop(path, None)

    @rule(milliseconds=st.sampled_from([1, 100, LEASE - 1, LEASE, 2 * LEASE, 61_000]))
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds

    # The service

    @rule()
    def look(self) -> None:
        untold, self.untold = self.untold, set()
        self.take(t.advanced(self.state, self.context(), untold))
        if self.state.wake_id is not None and self.state.is_webhook:
            self.remember()
        assert self.state.due is None or self.state.due > self.now
        if self.state.wake_id is None:
            pending = [
                path
                for path, link in self.state.links.items()
                if t.is_pending(link, self.streams.get(path))
            ]
            assert not pending

    @precondition(lambda self: self.delivering is not None)
    @rule(outcome=st.sampled_from(["done", "taken", "failed"]), chance=st.floats(-1, 1))
    def outcome(self, outcome: str, chance: float) -> None:
        assert self.delivering is not None
        wake, self.delivering = self.delivering, None
        if outcome == "failed":
            self.take(t.delivery_failed(self.state, self.context(chance), wake))
        elif self.state.is_webhook:
            done = outcome == "done"
            self.take(t.delivered(self.state, self.context(), wake, done=done))
        else:
            self.take(t.announced(self.state, wake))

    @precondition(lambda self: self.delivering is not None)
    @rule()
    def deliverer_dies(self) -> None:
        self.delivering = None

    # Clients

    @rule(path=PATHS)
    def link(self, path: str) -> None:
        self.take(t.linked(self.state, self.context(), [path]))
        assert self.state.links[path].explicit

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        before = self.state.links.get(path)
        self.take(t.unlinked(self.state, path))
        kept = self.state.links.get(path)
        assert kept is None or not kept.explicit
        if before is not None and path.startswith("e/"):
            assert kept == replace(before, explicit=False)

    @rule()
    def claim(self) -> None:
        held = self.state.holder is not None and (self.state.lease_until or 0) > self.now
        transition = tried(lambda: t.claimed(self.state, self.context(), "w"))
        if isinstance(transition, str):
            wanted = "INVALID_REQUEST" if self.state.is_webhook else "NO_PENDING_WORK"
            assert transition == ("ALREADY_CLAIMED" if held else wanted)
            return
        assert not held
        assert any(
            t.is_pending(link, self.streams.get(path))
            for path, link in transition.state.links.items()
        )
        self.take(transition)
        self.remember()

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), done=st.booleans(), release=st.booleans())
    def answer(self, data: st.DataObject, done: bool, release: bool) -> None:
        token, wake, told = data.draw(st.sampled_from(self.seen))
        acks = [Ack(path, offset) for path, offset in told.items() if data.draw(st.booleans())]
        leased = self.state.lease_until is not None and self.state.lease_until > self.now
        waits = self.state.is_webhook and self.state.retry_at is not None
        current = (
            wake.generation == self.state.generation
            and wake.wake_id == self.state.wake_id
            and (leased or waits)
        )
        webhook = self.state.is_webhook
        now = self.context()
        if release and not webhook:
            transition = tried(lambda: t.released(self.state, now, token, wake))
        else:
            request = AckRequest(wake, tuple(acks), done)
            transition = tried(lambda: t.acked(self.state, now, token, request, by_webhook=webhook))
        if isinstance(transition, str):
            assert transition == ("INVALID_OFFSET" if current else "FENCED")
            return
        assert current
        self.take(transition)

    # What always holds

    @invariant()
    def a_wake_is_never_stuck(self) -> None:
        state = self.state
        if state.wake_id is None:
            assert (state.holder, state.lease_until, state.retry_at) == (None, None, None)
            assert all(link.snapshot is None for link in state.links.values())
        elif state.is_webhook:
            assert state.due is not None
        else:
            assert (state.holder is None) == (state.lease_until is None)
        assert state.retry_at is None or state.lease_until is None
        if state.due is not None:
            assert state.due - self.now <= 1.2 * limits.MAX_WEBHOOK_RETRY * 1000

    @invariant()
    def explicit_streams_stay_and_others_are_of_the_pattern(self) -> None:
        for path, link in self.state.links.items():
            assert isinstance(link, Link)
            assert link.explicit or self.state.config.matches(path)


Subscription.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestSubscription = Subscription.TestCase
