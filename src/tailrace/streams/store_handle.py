"""A store that is opened when it is needed, in the event loop that needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from tailrace.live import Hub
from tailrace.store import MemoryStore, Store, open_store
from tailrace.streams.runs import Runs

if TYPE_CHECKING:
    from tailrace.subscriptions import Subscriptions

__all__ = ["OpenStore", "StoreHandle"]


@dataclass(slots=True)
class OpenStore:
    """A store that is open in one event loop.

    Args:
        store: The store.
        hub: Its live streams.
        token: The event loop's.
        keeper: Its end closes the store; None for a store that the user has made.
        runs: The runs of this process, while there are tasks for them.
        subscriptions: Of the protocol, while there are tasks, if they were asked for.
    """

    store: Store
    hub: Hub
    token: EventLoopToken
    keeper: AsyncGenerator[None] | None = None
    runs: Runs | None = None
    subscriptions: Subscriptions | None = None

    def appended(self, path: str) -> None:
        """An append is durable, or a stream was created: tell the subscriptions."""
        if self.subscriptions is not None:
            self.subscriptions.appended(path)


@dataclass(slots=True)
class _Turn:
    """A lock of one event loop: the store is opened or closed by one call at a time."""

    token: EventLoopToken
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class StoreHandle:
    """A store that is opened by its first use in an event loop.

    Args:
        url: Of the store, or the store itself.

    Raises:
        InvalidOption: It is not the URL of a store.
    """

    def __init__(self, url: str | Store) -> None:
        self._url = url
        # Made here, so that a wrong URL is refused here and not by the first use.
        self._first = url if isinstance(url, Store) else open_store(url)
        self._turn: _Turn | None = None
        self.now: OpenStore | None = None
        self.held = False
        """The store stays open in this event loop: it cannot be used in another one meanwhile."""

    async def open(self) -> OpenStore:
        """The open store. It is opened now if it is not open, or was in another event loop.

        Raises:
            StoreUnavailable: The store cannot be opened.
            RuntimeError: The store is held in another event loop.
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
        """Close the store, if it is open."""
        opened, self.now = self.now, None
        if opened is not None:
            assert self._turn is not None
            async with self._turn.lock:  # a call that opens it again waits until it is closed
                if opened.keeper is not None:
                    await opened.keeper.aclose()
                await opened.store.aclose()

    def _store_for_here(self) -> Store:
        if isinstance(self._url, Store):
            return self._url
        if isinstance(self._first, MemoryStore) and self.now is None:
            return self._first  # a store in memory outlives the event loop
        return open_store(self._url)

    async def _keep(self, store: Store) -> AsyncGenerator[None]:
        """Close a store at the end of its event loop, unless that has been done before.

        A program that calls `asyncio.run(streams.append(...))` a thousand times must not end up
        with a thousand open stores. An event loop that ends closes the async generators that are
        left (PEP 525), this one among them. Nothing else is told of the end of an event loop.
        """
        try:
            yield
        finally:
            if self.now is not None and self.now.store is store:
                self.now = None
            with anyio.CancelScope(shield=True):
                await store.aclose()
