"""What can be done with subscriptions: each change is one compare-and-set of a state.

A decision is a pure function (`transitions`) of the state that was just read and of the tails of
the streams that it needs. Its result is written, unless another process has changed the state
meanwhile: then the state is read and the decision made again. The process that wrote the state does
what follows from it (`Effect`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import SystemRandom
from typing import Final

from tailrace.errors import SubscriptionRefused
from tailrace.protocol import Right
from tailrace.store import Store
from tailrace.subscriptions import transitions
from tailrace.subscriptions.repository import (
    StoredState,
    SubscriptionRepository,
    matching_tails,
    not_found,
    tails_of,
)
from tailrace.subscriptions.state import Config, StreamTail, SubscriptionState
from tailrace.subscriptions.transitions import (
    AckRequest,
    Context,
    Effect,
    TokenClaims,
    Transition,
    Wake,
)
from tailrace.subscriptions.views import Todo, Views

__all__ = ["SubscriptionService"]

Decide = Callable[[SubscriptionState, Context], Transition]
"""Decides on a change; raises `SubscriptionRefused` if it is not allowed."""

Look = Callable[[SubscriptionState], Iterable[str]]
"""The streams whose tails a decision needs."""

Perform = Callable[[Effect, SubscriptionState], None]
"""Does what follows, once the state is written."""

_chance: Final = SystemRandom()


class SubscriptionService:
    """Changes the subscriptions of a store.

    Args:
        store: Where the streams are.
        repository: Where the subscriptions are.
        views: Given each state that was written.
        clock: Milliseconds since the epoch.
        perform: Called with what follows from a state; must neither block nor raise.
    """

    def __init__(
        self,
        store: Store,
        repository: SubscriptionRepository,
        views: Views,
        clock: Callable[[], int],
        perform: Perform,
    ) -> None:
        self._store = store
        self._repository = repository
        self._views = views
        self._clock = clock
        self._perform = perform

    # What clients ask for

    async def create(
        self, name: str, config: Config, base_url: str
    ) -> tuple[SubscriptionState, bool]:
        """Create a subscription, or find the one that exists with the same configuration.

        Returns:
            The subscription, and whether it is new.

        Raises:
            SubscriptionRefused: It exists with another configuration (409); there are too many
                subscriptions (429); it would have too many streams (413).

        Source: Durable Streams 6.2.
        """
        while True:
            existing = await self._existing(name)
            if existing is not None:
                if existing.config.hash != config.hash:
                    raise SubscriptionRefused(
                        "SUBSCRIPTION_ALREADY_EXISTS",
                        409,
                        f"the subscription {name!a} exists with another configuration",
                    )
                return existing, False
            found = await matching_tails(self._store, config)
            tails = {**found, **await tails_of(self._store, config.streams)}
            context = self._context(tails)
            empty = SubscriptionState(
                id=name,
                nonce=secrets.token_hex(16),
                version=0,
                config=config,
                base_url=base_url,
                created_at=context.now,
            )
            stored = await self._repository.add(transitions.created(empty, context, found))
            if stored is not None:
                self._views.put(stored)
                return stored.state, True

    async def get(self, name: str) -> SubscriptionState:
        """A subscription.

        Raises:
            SubscriptionRefused: It does not exist (404).
        """
        return (await self._find(name)).state

    async def delete(self, state: SubscriptionState) -> None:
        """Delete a subscription. Does nothing if it is gone, even if another one has its id now.

        Source: Durable Streams 6.3.
        """
        done = await self._change_if_same(state, lambda now, _: transitions.deleted(now))
        if done is not None and done.state.nonce == state.nonce:
            await self._repository.remove(state.id, state.nonce)
            self._views.drop(state.id)

    async def link(self, state: SubscriptionState, paths: tuple[str, ...]) -> None:
        """Add explicit streams.

        Raises:
            SubscriptionRefused: The subscription is gone, even if another one has its id now (404);
                it would have too many streams (413), or would wake itself (400).

        Source: Durable Streams 6.4.
        """
        nonce = state.nonce

        def decide(state: SubscriptionState, context: Context) -> Transition:
            if state.nonce != nonce:
                raise not_found(state.id)
            if state.config.wake_stream in paths:
                raise SubscriptionRefused(
                    "INVALID_REQUEST", 400, "a subscription cannot have its own wake_stream"
                )
            return transitions.linked(state, context, paths)

        await self._change(state.id, decide, lambda _: paths)
        # There may have been an append after the tails were read, in a process that did not know of
        # the link.
        self._views.ask(state.id, Todo(tails=True))

    async def unlink(self, state: SubscriptionState, path: str) -> None:
        """Remove an explicit stream. Does nothing if the subscription does not have it, or is gone,
        even if another one has its id now.

        Source: Durable Streams 6.4.
        """
        await self._change_if_same(state, lambda now, _: transitions.unlinked(now, path))

    async def claim(self, name: str, worker: str, rights: tuple[Right, ...]) -> SubscriptionState:
        """Give the wake to a worker that has some rights.

        Returns:
            The subscription with the worker's lease; or, if it needs other rights than these, the
            subscription without a change.

        Raises:
            SubscriptionRefused: As `transitions.claimed`, or there is no such subscription (404).
        """

        def decide(state: SubscriptionState, context: Context) -> Transition:
            if state.rights != rights:
                return Transition(state)
            return transitions.claimed(state, context, worker)

        try:
            return (await self._change(name, decide, _links)).state
        except SubscriptionRefused as error:
            if error.wire_code != "NO_PENDING_WORK":
                raise
        # A stream that was created a moment ago, perhaps by another process, may not be linked yet.
        everything = Todo(everything=True)
        while not await self._advance(await self._find(name), everything):
            continue
        return (await self._change(name, decide, _links)).state

    async def acknowledge(
        self, name: str, token: TokenClaims, request: AckRequest, *, by_webhook: bool
    ) -> bool:
        """Apply a worker's callback or ack; returns whether it has begun the next wake.

        Raises:
            SubscriptionRefused: As `transitions.acked`, or there is no such subscription (404).
        """

        def decide(state: SubscriptionState, context: Context) -> Transition:
            return transitions.acked(state, context, token, request, by_webhook=by_webhook)

        def look(state: SubscriptionState) -> Iterable[str]:
            return state.links if request.done else {ack.path for ack in request.acks}

        return (await self._change(name, decide, look)).woke

    async def release(self, name: str, token: TokenClaims, wake: Wake) -> None:
        """Take a wake back from a worker that has processed nothing.

        Raises:
            SubscriptionRefused: As `transitions.released`, or there is no such subscription (404).
        """

        def decide(state: SubscriptionState, context: Context) -> Transition:
            return transitions.released(state, context, token, wake)

        await self._change(name, decide, _links)

    # What becomes of a delivery

    async def delivered(self, state: SubscriptionState, wake: Wake, *, done: bool) -> None:
        """Record that a receiver accepted its webhook; `done`: it has processed everything."""

        def decide(now: SubscriptionState, context: Context) -> Transition:
            return transitions.delivered(now, context, wake, done=done)

        await self._change_if_same(state, decide, _links if done else None)

    async def failed(self, state: SubscriptionState, wake: Wake) -> None:
        """Record that a wake could not be delivered."""

        def decide(now: SubscriptionState, context: Context) -> Transition:
            return transitions.delivery_failed(now, context, wake)

        await self._change_if_same(state, decide)

    async def announced(self, state: SubscriptionState, wake: Wake) -> None:
        """Record that the event of a wake is written."""
        await self._change_if_same(state, lambda now, _: transitions.announced(now, wake))

    # What is due

    async def advance(self, name: str, todo: Todo) -> None:
        """Do what is due in a subscription, and look at the streams that `todo` names."""
        view = self._views.get(name)
        while view is not None:
            known = view.stored
            stored = await self._repository.load(name, known.state.nonce, known)
            if stored is None or stored.state.deleted:
                await self._repository.remove(name, view.stored.state.nonce)
                self._views.drop(name)
                return
            self._views.put(stored)
            if await self._advance(stored, todo):
                return
            view = self._views.get(name)

    async def _advance(self, stored: StoredState, todo: Todo) -> bool:
        """As `advance`, on a state that was just read; False if it has changed since."""
        state, now = stored.state, self._clock()
        is_due = state.due is not None and state.due <= now
        if todo.is_only_due and not is_due:
            return True
        found = await matching_tails(self._store, state.config) if todo.everything else {}
        appeared = {path for path in todo.paths if state.config.matches(path)} | found.keys()
        appeared -= state.links.keys()
        idle = state.wake_id is None or (state.lease_until is not None and state.lease_until <= now)
        if not idle and not todo.is_only_due:
            # The view did not show this wake. The process that ends it may have read the tails
            # before the append, so look again when the wake is over.
            self._views.missed(state.id)
        tails = None
        if idle or appeared:
            tails = await tails_of(self._store, (state.links.keys() | appeared) - found.keys())
            tails.update(found)
        transition = transitions.advanced(state, self._context(tails, now), appeared)
        try:
            return await self._write(stored, transition) is not None
        except SubscriptionRefused:  # deleted since it was read: the next look finds that out
            return False

    # The compare-and-set

    async def _change(self, name: str, decide: Decide, look: Look | None = None) -> Transition:
        """Make a decision on a subscription, write it, and do what follows.

        Args:
            name: Of the subscription.
            decide: Called again for each state that was read, until one could be written.
            look: The streams whose tails it needs; None: it needs none.

        Returns:
            What was done, with the state as it is now.

        Raises:
            SubscriptionRefused: There is no such subscription (404), or what `decide` raises.
        """
        while True:
            stored = await self._find(name)
            tails = None if look is None else await tails_of(self._store, look(stored.state))
            done = await self._write(stored, decide(stored.state, self._context(tails)))
            if done is not None:
                return done

    async def _change_if_same(
        self, state: SubscriptionState, decide: Decide, look: Look | None = None
    ) -> Transition | None:
        """As `_change`; None if the subscription is gone, no change if another one has its id."""

        def unless_another(now: SubscriptionState, context: Context) -> Transition:
            return decide(now, context) if now.nonce == state.nonce else Transition(now)

        try:
            return await self._change(state.id, unless_another, look)
        except SubscriptionRefused:
            return None

    async def _write(self, stored: StoredState, transition: Transition) -> Transition | None:
        """Write a new state and do what follows; None if the stored state has changed since."""
        if transition.state is stored.state:
            return transition
        saved = await self._repository.save(transition.state)
        if saved is None:
            return None
        if not saved.state.deleted:
            self._views.put(saved)
        if transition.effect is not None:
            self._perform(transition.effect, saved.state)
        return replace(transition, state=saved.state)

    async def _find(self, name: str) -> StoredState:
        view = self._views.get(name)
        return await self._repository.find(name, None if view is None else view.stored)

    async def _existing(self, name: str) -> SubscriptionState | None:
        try:
            return await self.get(name)
        except SubscriptionRefused:
            return None

    def _context(self, tails: dict[str, StreamTail] | None, now: int | None = None) -> Context:
        return Context(
            now=self._clock() if now is None else now,
            wake_id=f"w_{secrets.token_hex(16)}",
            tails=tails,
            chance=_chance.uniform(-1.0, 1.0),
        )


def _links(state: SubscriptionState) -> Iterable[str]:
    return state.links
