"""The subscriptions as this process knows them: which paths they follow, and what is due when.

A view may be out of date: another process has changed the state, and the notification has not come
yet. So a view only decides whether to look at the state. An append must not be missed when the view
shows a wake in flight that is over already. So the view notes an append during a wake (`missed`),
and the streams are looked at when the view shows no wake any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tailrace.store import Change, Offset, Schedule, Store
from tailrace.subscriptions.pattern import PathIndex
from tailrace.subscriptions.repository import StoredState, path_of

__all__ = ["Todo", "View", "Views"]

_MAX_PATHS: Final = 1000
"""Paths that are noted one by one; if there are more, everything is looked at."""


@dataclass(slots=True)
class Todo:
    """What to look at in a subscription.

    Args:
        paths: Streams that were created or got data.
        tails: Whether to look at the tails of all its streams.
        everything: Whether to look also at all streams that match its pattern.
    """

    paths: set[str] = field(default_factory=set)
    tails: bool = False
    everything: bool = False

    @property
    def is_only_due(self) -> bool:
        """Whether no stream is to be looked at, only whether something is due."""
        return not (self.paths or self.tails or self.everything)

    def add(self, path: str) -> None:
        if len(self.paths) < _MAX_PATHS:
            self.paths.add(path)
        elif path not in self.paths:
            self.everything = True

    def merge(self, other: Todo) -> None:
        self.tails |= other.tails
        self.everything |= other.everything
        for path in other.paths:
            self.add(path)


@dataclass(slots=True)
class View:
    """One subscription.

    Args:
        stored: Its state when it was last read or written.
        stop: Ends the watching of its state.
        missed: Whether a stream got data while a wake was in flight.
        postponed: When to try again, since the store could not work: milliseconds since the epoch;
            None: at any time.
    """

    stored: StoredState
    stop: Callable[[], None]
    missed: bool = False
    postponed: int | None = None

    @property
    def tail(self) -> Offset:
        return self.stored.tail

    @property
    def due(self) -> int | None:
        return self.stored.state.due if self.postponed is None else self.postponed


class Views:
    """All subscriptions that this process knows.

    Args:
        store: Where their states are watched.
        notify: Called when there is something to do.
        forgotten: Called with the id of a subscription that was dropped.
    """

    def __init__(
        self, store: Store, notify: Callable[[], None], forgotten: Callable[[str], None]
    ) -> None:
        self._store = store
        self._notify = notify
        self._forgotten = forgotten
        self._views: dict[str, View] = {}
        self._index = PathIndex()
        self._schedule: Schedule[str] = Schedule()
        self._todo: dict[str, Todo] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._views))

    def __len__(self) -> int:
        return len(self._views)

    def get(self, name: str) -> View | None:
        return self._views.get(name)

    def appended(self, path: str) -> None:
        """Note that a stream was created or got data."""
        if not self._index:
            return
        for name in self._index.matches(path):
            view = self._views[name]
            state = view.stored.state
            if state.wake_id is not None and path in state.links:
                view.missed = True
            else:
                self._todo.setdefault(name, Todo()).add(path)
                self._notify()

    def ask(self, name: str, todo: Todo) -> None:
        """Ask for a look at a subscription, as `todo` says."""
        self._todo.setdefault(name, Todo()).merge(todo)
        self._notify()

    def missed(self, name: str) -> None:
        """Look at the streams of a subscription once its wake is over."""
        view = self._views.get(name)
        if view is not None:
            view.missed = True

    def take(self, name: str) -> Todo | None:
        """Take out what is to be looked at in a subscription; None: nothing."""
        return self._todo.pop(name, None)

    def waiting(self, now: int) -> list[str]:
        """The subscriptions with something to do now."""
        views = self._views
        for name in self._schedule.due(now, len(views)):
            views[name].postponed = None
            self._todo.setdefault(name, Todo())
        return [name for name in self._todo if name in views and views[name].postponed is None]

    def next_due(self) -> int | None:
        """When something is due next, in milliseconds since the epoch; None: nothing is."""
        return self._schedule.next

    def put(self, stored: StoredState) -> None:
        """Note a state that was read or written."""
        state = stored.state
        view = self._views.get(state.id)
        if view is not None and view.stored.state.nonce != state.nonce:
            self.drop(state.id)
            view = None
        if view is None:
            stop = self._store.watch(path_of(state.id, state.nonce), self._on_change(state.id))
            view = self._views[state.id] = View(stored, stop)
            # Appends between its creation and now were not noted here.
            self.ask(state.id, Todo(everything=True))
        elif stored.tail < view.tail:
            return  # older than what is known already
        before, view.stored = view.stored, stored
        if state.wake_id is None and (view.missed or state.links.keys() - before.state.links):
            view.missed = False
            self.ask(state.id, Todo(tails=True))
        explicit = (path for path, link in state.links.items() if link.explicit)
        self._index.put(state.id, state.config.glob, explicit)
        self._look_when_due(state.id, view)

    def postpone(self, name: str, until: int, todo: Todo) -> None:
        """Try again later what could not be done now."""
        view = self._views.get(name)
        if view is not None:
            self._todo.setdefault(name, Todo()).merge(todo)
            view.postponed = until
            self._look_when_due(name, view)

    def drop(self, name: str) -> None:
        """Forget a subscription, and stop watching its state."""
        view = self._views.pop(name, None)
        if view is not None:
            view.stop()
            self._schedule.take_back(name)
            self._index.drop(name)
            self._forgotten(name)
        self._todo.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        for name in self:
            self.drop(name)

    def _look_when_due(self, name: str, view: View) -> None:
        self._schedule.take_back(name)
        if view.due is not None:
            self._schedule.set(name, view.due)

    def _on_change(self, name: str) -> Callable[[Change], None]:
        def on_change(change: Change) -> None:
            view = self._views.get(name)
            if view is not None and (change.deleted or change.tail > view.tail):
                self.ask(name, Todo())

        return on_change
