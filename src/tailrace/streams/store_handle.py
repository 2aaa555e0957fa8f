"""A store that is opened when it is needed, in the event loop that needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from tailrace.live import Hub
from tailrace.store import MemoryStore, Store, open_store
from tailrace.streams.runs import Runs
from tailrace.subscriptions import Subscriptions

__all__ = ["OpenStore", "StoreHandle"]


@dataclass(slots=True)
class OpenStore:
    """A store that is open, in one event loop.

    Args:
        store: It.
        hub: Its live streams.
        token: Of the event loop.
        keeper: Closes the store when it is closed; None for one that is somebody else's.
        runs: While there is a task group for them.
        subscriptions: Those of the protocol, if they are wanted and there is one.
    """

    store: Store
    hub: Hub
    token: EventLoopToken
    keeper: AsyncGenerator[None] | None = None
    runs: Runs | None = None
    subscriptions: Subscriptions | None = None

    def appended(self, path: str) -> None:
        """Tell of an append that is durable, or of a new stream."""
        if self.subscriptions is not None:
            self.subscriptions.appended(path)


@dataclass(slots=True)
class _Turn:
    """Calls that open or close the store: one at a time."""

    token: EventLoopToken
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class StoreHandle:
    """A store, open or not.

    Args:
        url: Of the store, or the store itself.

    Raises:
        InvalidOption: No URL of a store.
    """

    def __init__(self, url: str | Store) -> None:
        self._url = url
        # Made at once, so that a mistake is told where it was made.
        self._first = url if isinstance(url, Store) else open_store(url)
        self._turn: _Turn | None = None
        self.now: OpenStore | None = None
        self.held = False
        """It stays open in the event loop where it is now."""

    async def open(self) -> OpenStore:
        """What is open; opened now, if it is not, or was in an event loop that is gone.

        Raises:
            StoreUnavailable: It cannot be opened.
            RuntimeError: It is held in another event loop.
        """
        token = current_token()
        if self.now is not None and self.now.token == token:
            return self.now
        if self.held:
            raise RuntimeError(
                "these streams are open in another event loop: call them there, by "
                "`anyio.from_thread.run`, or use a SyncStreams"
            )
        if self._turn is None or self._turn.token != token:
            self._turn = _Turn(token)
        async with self._turn.lock:
            if self.now is None or self.now.token != token:
                store = self._store_for_here()
                await store.open()
                self.now = OpenStore(store, Hub(store), token)
                if store is not self._url:
                    self.now.keeper = self._keep(store)
                    await anext(self.now.keeper)
        return self.now

    async def close(self) -> None:
        """Close it; nothing if it is not open."""
        opened, self.now = self.now, None
        if opened is not None:
            assert self._turn is not None
            async with self._turn.lock:  # who opens it again meanwhile waits until it is closed
                if opened.keeper is not None:
                    await opened.keeper.aclose()
                await opened.store.aclose()

    def _store_for_here(self) -> Store:
        if isinstance(self._url, Store):
            return self._url
        if isinstance(self._first, MemoryStore) and self.now is None:
            return self._first  # what is in memory outlives the event loop
        return open_store(self._url)

    async def _keep(self, store: Store) -> AsyncGenerator[None]:
        """Close a store at the end of its event loop, if nobody does before.

        Who writes `asyncio.run(streams.append(...))` a thousand times must not be left with a
        thousand open stores. An event loop that ends closes the async generators which are left
        (PEP 525), and so this one: it is the only thing that is told.
        """
        try:
            yield
        finally:
            if self.now is not None and self.now.store is store:
                self.now = None
            with anyio.CancelScope(shield=True):
                await store.aclose()
