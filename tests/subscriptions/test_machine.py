"""Random histories of a subscription: what must hold in every state, however it came about.

The streams, the clock and the workers are those of a model; the record goes through `encode` and
`decode` at each step, as it goes through a store.
"""

from __future__ import annotations

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
from tailrace.subscriptions.record import Config, Link, Record, Tail
from tailrace.subscriptions.transitions import Ack, Claimed, Effect, Moment, Step, Wake

LEASE = 1000
PATHS = st.sampled_from(["e/a", "e/b", "x/a", "x/b"])


def tried(decide: Callable[[], Step]) -> Step | str:
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
        self.streams: dict[str, Tail] = {}
        self.born = 0
        self.untold: set[str] = set()  # streams that got data and were not looked at
        self.seen: list[tuple[Claimed, Wake, dict[str, str]]] = []
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
        empty = Record(
            id="s", nonce="n", version=1, config=config, base_url="http://h", created_at=0
        )
        self.record = t.created(empty, self.moment(), self.streams)

    def moment(self, chance: float = 0.0) -> Moment:
        self.wakes += 1
        return Moment(
            now=self.now, wake_id=f"w{self.wakes}", tails=dict(self.streams), chance=chance
        )

    def take(self, step: Step) -> None:
        """Believe a step, after checking what no step may do."""
        before, after = self.record, Record.decode(step.record.encode())
        assert after == step.record
        assert after.generation in (before.generation, before.generation + 1)
        if after.generation > before.generation:
            assert after.wake_id is not None
            assert after.wake_id not in self.wake_ids
            self.wake_ids.add(after.wake_id)
        else:
            assert after.wake_id in (before.wake_id, None)
        for path, link in after.links.items():
            old = before.links.get(path)
            if old is not None and link.born == old.born:
                assert link.acked >= old.acked
            tail = self.streams.get(path)
            if tail is not None and link.born == tail.born:
                assert link.acked <= tail.offset
        if step.effect is Effect.DELIVER:
            assert after.is_webhook
            assert after.lease_until == self.now + LEASE
            self.delivering = Wake(str(after.wake_id), after.generation)
        if step.effect is Effect.ANNOUNCE:
            assert not after.is_webhook
            self.delivering = Wake(str(after.wake_id), after.generation)
        self.record = after

    def told(self) -> dict[str, str]:
        return {
            path: str(link.promised)
            for path, link in self.record.links.items()
            if link.promised is not None
        }

    def remember(self) -> None:
        wake = Wake(str(self.record.wake_id), self.record.generation)
        self.seen.append((Claimed("n", self.record.generation), wake, self.told()))

    # The world

    @rule(path=PATHS, size=st.integers(1, 5))
    def append(self, path: str, size: int) -> None:
        tail = self.streams.get(path)
        if tail is None:
            self.born += 1
            tail = Tail(START, self.born)
        generation = self.born if tail.offset.position == 0 else tail.offset.generation
        self.streams[path] = Tail(Offset(generation, tail.offset.position + size), tail.born)
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
        self.take(t.advanced(self.record, self.moment(), untold))
        if self.record.wake_id is not None and self.record.is_webhook:
            self.remember()
        assert self.record.due is None or self.record.due > self.now
        if self.record.wake_id is None:
            pending = [
                path
                for path, link in self.record.links.items()
                if t.is_pending(link, self.streams.get(path))
            ]
            assert not pending

    @precondition(lambda self: self.delivering is not None)
    @rule(outcome=st.sampled_from(["done", "taken", "failed"]), chance=st.floats(-1, 1))
    def outcome(self, outcome: str, chance: float) -> None:
        assert self.delivering is not None
        wake, self.delivering = self.delivering, None
        if outcome == "failed":
            self.take(t.delivery_failed(self.record, self.moment(chance), wake))
        elif self.record.is_webhook:
            done = outcome == "done"
            self.take(t.delivered(self.record, self.moment(), wake, done=done))
        else:
            self.take(t.announced(self.record, wake))

    @precondition(lambda self: self.delivering is not None)
    @rule()
    def deliverer_dies(self) -> None:
        self.delivering = None

    # Clients

    @rule(path=PATHS)
    def link(self, path: str) -> None:
        self.take(t.linked(self.record, self.moment(), [path]))
        assert self.record.links[path].explicit

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        before = self.record.links.get(path)
        self.take(t.unlinked(self.record, path))
        kept = self.record.links.get(path)
        assert kept is None or not kept.explicit
        if before is not None and path.startswith("e/"):
            assert kept == replace(before, explicit=False)

    @rule()
    def claim(self) -> None:
        held = self.record.holder is not None and (self.record.lease_until or 0) > self.now
        step = tried(lambda: t.claimed(self.record, self.moment(), "w"))
        if isinstance(step, str):
            wanted = "INVALID_REQUEST" if self.record.is_webhook else "NO_PENDING_WORK"
            assert step == ("ALREADY_CLAIMED" if held else wanted)
            return
        assert not held
        assert any(
            t.is_pending(link, self.streams.get(path)) for path, link in step.record.links.items()
        )
        self.take(step)
        self.remember()

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), done=st.booleans(), release=st.booleans())
    def answer(self, data: st.DataObject, done: bool, release: bool) -> None:
        token, wake, told = data.draw(st.sampled_from(self.seen))
        acks = [Ack(path, offset) for path, offset in told.items() if data.draw(st.booleans())]
        leased = self.record.lease_until is not None and self.record.lease_until > self.now
        waits = self.record.is_webhook and self.record.retry_at is not None
        current = (
            wake.generation == self.record.generation
            and wake.wake_id == self.record.wake_id
            and (leased or waits)
        )
        webhook = self.record.is_webhook
        now = self.moment()
        if release and not webhook:
            step = tried(lambda: t.released(self.record, now, token, wake))
        else:
            more = {"done": done, "by_webhook": webhook}
            step = tried(lambda: t.acked(self.record, now, token, wake, acks, **more))
        if isinstance(step, str):
            assert step == ("INVALID_OFFSET" if current else "FENCED")
            return
        assert current
        self.take(step)

    # What always holds

    @invariant()
    def a_wake_is_never_stuck(self) -> None:
        record = self.record
        if record.wake_id is None:
            assert (record.holder, record.lease_until, record.retry_at) == (None, None, None)
            assert all(link.promised is None for link in record.links.values())
        elif record.is_webhook:
            assert record.due is not None
        else:
            assert (record.holder is None) == (record.lease_until is None)
        assert record.retry_at is None or record.lease_until is None
        if record.due is not None:
            assert record.due - self.now <= 1.2 * limits.MAX_WEBHOOK_RETRY * 1000

    @invariant()
    def explicit_streams_stay_and_others_are_of_the_pattern(self) -> None:
        for path, link in self.record.links.items():
            assert isinstance(link, Link)
            assert link.explicit or self.record.config.finds(path)


Subscription.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestSubscription = Subscription.TestCase
