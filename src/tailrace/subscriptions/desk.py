"""What can be done with subscriptions, each as one compare-and-set of a record.

A decision is a pure function (`transitions`). It is made on the record that was just read, with the
ends of the streams that it needs; written if nobody was faster, and made again otherwise. Whoever
has written does what follows.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from random import SystemRandom
from typing import Final

from tailrace.errors import SubscriptionRefused
from tailrace.store import Store
from tailrace.subscriptions import transitions
from tailrace.subscriptions.catalogue import Catalogue, Stored
from tailrace.subscriptions.record import Config, Record, Tail
from tailrace.subscriptions.request import Answered
from tailrace.subscriptions.tails import find, tails_of
from tailrace.subscriptions.transitions import Claimed, Effect, Moment, Step, Wake
from tailrace.subscriptions.views import Todo, Views

__all__ = ["Changed", "Desk"]

Decide = Callable[[Record, Moment], Step]
"""What becomes of a record; raises `SubscriptionRefused` where nothing may."""

Look = Callable[[Record], Iterable[str]]
"""The streams whose ends a decision needs."""

Perform = Callable[[Effect, Record], None]
"""Does what follows from a record that was written."""

_chance: Final = SystemRandom()


class Changed:
    """What became of a change.

    Args:
        record: As it is now.
        woke: A wake began with it.
    """

    __slots__ = ("record", "woke")

    def __init__(self, record: Record, woke: bool) -> None:
        self.record = record
        self.woke = woke


class Desk:
    """Changes the subscriptions of a store.

    Args:
        store: Where the streams are.
        catalogue: Where the subscriptions are.
        views: Told of each record that was written.
        clock: Milliseconds since the epoch.
        perform: Must neither block nor raise.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        views: Views,
        clock: Callable[[], int],
        perform: Perform,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._views = views
        self._clock = clock
        self._perform = perform

    async def create(self, name: str, config: Config, base_url: str) -> tuple[Record, bool]:
        """A subscription, and whether it is new.

        Raises:
            SubscriptionRefused: It exists with another configuration (409); there are too many, or
                its pattern means too many streams (413, 429).

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
            found = await find(self._store, config)
            tails = {**found, **await tails_of(self._store, config.streams)}
            moment = self._moment(tails)
            empty = Record(
                id=name,
                nonce=secrets.token_hex(16),
                version=0,
                config=config,
                base_url=base_url,
                created_at=moment.now,
            )
            stored = await self._catalogue.add(transitions.created(empty, moment, found))
            if stored is not None:
                self._views.put(stored)
                return stored.record, True

    async def get(self, name: str) -> Record:
        """A subscription.

        Raises:
            SubscriptionRefused: There is none (404).
        """
        return (await self._find(name)).record

    async def delete(self, record: Record) -> None:
        """Delete a subscription; nothing if it is gone, also where another has its name by now.

        Source: Durable Streams 6.3.
        """

        def decide(now: Record, _: Moment) -> Step:
            return transitions.deleted(now) if now.nonce == record.nonce else Step(now)

        try:
            done = await self.change(record.id, decide)
        except SubscriptionRefused:  # nobody's, or somebody else was faster
            return
        if done.record.nonce == record.nonce:
            await self._catalogue.remove(record.id, record.nonce)
            self._views.drop(record.id)

    async def link(self, name: str, paths: tuple[str, ...]) -> None:
        """Add explicit streams.

        Raises:
            SubscriptionRefused: There is no such subscription (404), it would have too many
                streams (413), or would wake itself (400).

        Source: Durable Streams 6.4.
        """

        def decide(record: Record, moment: Moment) -> Step:
            if record.config.wake_stream in paths:
                raise SubscriptionRefused(
                    "INVALID_REQUEST", 400, "a subscription cannot have its own wake_stream"
                )
            return transitions.linked(record, moment, paths)

        await self.change(name, decide, lambda _: paths)
        # What came after the tails were read, in a process that did not know of the link.
        self._views.ask(name, Todo(tails=True))

    async def unlink(self, name: str, path: str) -> None:
        """Take an explicit stream out; nothing if it is none.

        Raises:
            SubscriptionRefused: There is no such subscription (404).

        Source: Durable Streams 6.4.
        """
        await self.change(name, lambda record, _: transitions.unlinked(record, path))

    async def claim(self, name: str, worker: str) -> Record:
        """Let a worker take the wake.

        Raises:
            SubscriptionRefused: As `transitions.claimed`, or there is no such subscription (404).
        """

        def decide(record: Record, moment: Moment) -> Step:
            return transitions.claimed(record, moment, worker)

        try:
            return (await self.change(name, decide, _links)).record
        except SubscriptionRefused as error:
            if error.wire_code != "NO_PENDING_WORK":
                raise
        # A stream that was made this very moment, perhaps by another process, is not linked yet.
        everything = Todo(everything=True)
        while not await self._attended(await self._find(name), everything):
            continue
        return (await self.change(name, decide, _links)).record

    async def answered(
        self, name: str, token: Claimed, told: Answered, *, by_webhook: bool
    ) -> bool:
        """A worker's callback or ack; returns whether the next wake has begun with it.

        Raises:
            SubscriptionRefused: As `transitions.acked`, or there is no such subscription (404).
        """

        def decide(record: Record, moment: Moment) -> Step:
            return transitions.acked(
                record,
                moment,
                token,
                told.wake,
                told.acks,
                done=told.done,
                by_webhook=by_webhook,
            )

        def look(record: Record) -> Iterable[str]:
            return record.links if told.done else {ack.path for ack in told.acks}

        return (await self.change(name, decide, look)).woke

    async def release(self, name: str, token: Claimed, wake: Wake) -> None:
        """A worker gives its wake back.

        Raises:
            SubscriptionRefused: As `transitions.released`, or there is no such subscription (404).
        """

        def decide(record: Record, moment: Moment) -> Step:
            return transitions.released(record, moment, token, wake)

        await self.change(name, decide, _links)

    async def delivered(self, record: Record, wake: Wake, *, done: bool) -> None:
        """A webhook was taken."""

        def decide(record: Record, moment: Moment) -> Step:
            return transitions.delivered(record, moment, wake, done=done)

        await self._after(record, decide, _links if done else None)

    async def failed(self, record: Record, wake: Wake) -> None:
        """A wake could not be delivered."""

        def decide(record: Record, moment: Moment) -> Step:
            return transitions.delivery_failed(record, moment, wake)

        await self._after(record, decide, None)

    async def announced(self, record: Record, wake: Wake) -> None:
        """A wake's event is written."""
        await self._after(record, lambda record, _: transitions.announced(record, wake), None)

    async def attend(self, name: str, todo: Todo) -> None:
        """Do what is due of a subscription, and look at what may have happened."""
        view = self._views.get(name)
        while view is not None:
            known = view.stored
            stored = await self._catalogue.load(name, known.record.nonce, known)
            if stored is None or stored.record.deleted:
                await self._catalogue.remove(name, view.stored.record.nonce)
                self._views.drop(name)
                return
            self._views.put(stored)
            if await self._attended(stored, todo):
                return
            view = self._views.get(name)

    async def change(self, name: str, decide: Decide, look: Look | None = None) -> Changed:
        """Let a decision become true, and do what follows.

        Raises:
            SubscriptionRefused: There is no such subscription (404), or what `decide` raises.
        """
        while True:
            stored = await self._find(name)
            done = await self._changed(stored, decide, look)
            if done is not None:
                return done

    async def _find(self, name: str) -> Stored:
        view = self._views.get(name)
        return await self._catalogue.find(name, None if view is None else view.stored)

    async def _after(self, record: Record, decide: Decide, look: Look | None) -> None:
        """As `change`, for a delivery: of a subscription that may be gone."""

        def unless_another(now: Record, moment: Moment) -> Step:
            return decide(now, moment) if now.nonce == record.nonce else Step(now)

        try:
            await self.change(record.id, unless_another, look)
        except SubscriptionRefused:
            return

    async def _changed(self, stored: Stored, decide: Decide, look: Look | None) -> Changed | None:
        record = stored.record
        tails = None if look is None else await tails_of(self._store, look(record))
        return await self._written(stored, decide(record, self._moment(tails)))

    async def _attended(self, stored: Stored, todo: Todo) -> bool:
        record, now = stored.record, self._clock()
        is_due = record.due is not None and record.due <= now
        if todo.is_only_due and not is_due:
            return True
        found = await find(self._store, record.config) if todo.everything else {}
        appeared = {path for path in todo.paths if record.config.finds(path)} | found.keys()
        appeared -= record.links.keys()
        idle = record.wake_id is None or (
            record.lease_until is not None and record.lease_until <= now
        )
        if not idle and not todo.is_only_due:
            # The view was behind. Whoever ends this wake may have looked already.
            self._views.missed(record.id)
        tails = None
        if idle or appeared:
            tails = await tails_of(self._store, (record.links.keys() | appeared) - found.keys())
            tails.update(found)
        step = transitions.advanced(record, self._moment(tails, now), appeared)
        try:
            return await self._written(stored, step) is not None
        except SubscriptionRefused:  # deleted since it was read: found out at the next look
            return False

    async def _written(self, stored: Stored, step: Step) -> Changed | None:
        if step.record is stored.record:
            return Changed(step.record, step.woke)
        saved = await self._catalogue.save(step.record)
        if saved is None:
            return None
        if not saved.record.deleted:
            self._views.put(saved)
        if step.effect is not None:
            self._perform(step.effect, saved.record)
        return Changed(saved.record, step.woke)

    async def _existing(self, name: str) -> Record | None:
        try:
            return await self.get(name)
        except SubscriptionRefused:
            return None

    def _moment(self, tails: dict[str, Tail] | None, now: int | None = None) -> Moment:
        return Moment(
            now=self._clock() if now is None else now,
            wake_id=f"w_{secrets.token_hex(16)}",
            tails=tails,
            chance=_chance.uniform(-1.0, 1.0),
        )


def _links(record: Record) -> Iterable[str]:
    return record.links
