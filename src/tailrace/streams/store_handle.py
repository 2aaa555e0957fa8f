"""A store that is opened when it is needed, in the event loop that needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import EventLoopToken, RunVar, current_token

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
        hub: The live streams of the store.
        token: The event loop's token.
        keeper: When it ends, it closes the store; None for a store that the user has made.
        runs: The runs of this process; None without background tasks.
        subscriptions: The protocol's subscriptions; None without background tasks, or if the
            application does not use them.
    """

    store: Store
    hub: Hub
    token: EventLoopToken
    keeper: AsyncGenerator[None] | None = None
    runs: Runs | None = None
    subscriptions: Subscriptions | None = None

    def appended(self, path: str) -> None:
        """Tell the subscriptions that an append is durable, or that a stream was created."""
        if self.subscriptions is not None:
            self.subscriptions.appended(path)


class StoreHandle:
    """A store that is opened by its first use in an event loop.

    Args:
        url: The store's URL, or the store itself.

    Raises:
        InvalidOption: It is not the URL of a store.
    """

    def __init__(self, url: str | Store) -> None:
        self._url = url
        # Made here, so that a wrong URL is refused now and not by the first use.
        self._first = url if isinstance(url, Store) else open_store(url)
        self._first_is_open = False
        self._here: RunVar[OpenStore | None] = RunVar("tailrace.store")
        """The open store of each event loop (each thread may have a loop); not the user's own."""
        self._turn: RunVar[anyio.Lock] = RunVar("tailrace.store.turn")
        """Held by the call that opens or closes the store; each event loop has its own lock."""
        self.now: OpenStore | None = None
        """The store that was opened or looked up last; it saves a search in `_here`."""
        self.held = False
        """Set while a `Core` has tasks: no other event loop can use the store meanwhile."""

    async def open(self) -> OpenStore:
        """The store, open in this event loop. It is opened now if it is not open here yet.

        Raises:
            StoreUnavailable: The store cannot be opened.
            RuntimeError: The store is held in another event loop.
        """
        token = current_token()
        now = self.now  # read only once: other threads set it too
        if now is not None and now.token == token:
            return now
        if self.held:
            raise RuntimeError(
                "these streams are open in another event loop: call them there, by "
                "`anyio.from_thread.run`, or use a SyncStreams"
            )
        async with self._turn_here():
            now = self.now
            if now is None or now.token != token:
                now = self._here.get(None) or await self._open_here(token)
                if not self.held:
                    self.now = now
        return now

    async def close(self) -> None:
        """Close the store, if it is open."""
        opened = self._here.get(None)
        if opened is None and self.now is not None and self.now.keeper is None:
            opened = self.now  # the user's own store, which is never in `_here`
        if opened is None:
            return
        self._forget(opened)
        async with self._turn_here():  # a call that opens it again waits until it is closed
            if opened.keeper is not None:
                await opened.keeper.aclose()
            await opened.store.aclose()

    def _turn_here(self) -> anyio.Lock:
        try:
            return self._turn.get()
        except LookupError:
            turn = anyio.Lock()
            self._turn.set(turn)
            return turn

    def _forget(self, opened: OpenStore) -> None:
        if self._here.get(None) is opened:
            self._here.set(None)
        if self.now is opened:
            self.now = None

    async def _open_here(self, token: EventLoopToken) -> OpenStore:
        store = self._store_for_here()
        try:
            await store.open()
        except BaseException:
            self._first_is_open = self._first_is_open and store is not self._first
            raise
        opened = OpenStore(store, Hub(store), token)
        if store is not self._url:
            opened.keeper = self._keep(opened)
            await anext(opened.keeper)
            self._here.set(opened)  # the keeper removes it: it refers to the event loop
        return opened

    def _store_for_here(self) -> Store:
        if isinstance(self._url, Store):
            return self._url
        if isinstance(self._first, MemoryStore) and not self._first_is_open:
            self._first_is_open = True
            return self._first  # the data of a store in memory outlives the event loop
        return open_store(self._url)

    async def _keep(self, opened: OpenStore) -> AsyncGenerator[None]:
        """Close a store at the end of its event loop, unless it was closed before.

        A program that calls `asyncio.run(streams.append(...))` a thousand times must not end up
        with a thousand open stores. An event loop that ends closes the async generators that are
        left (PEP 525), so also this one. Nothing else tells of the end of an event loop.
        """
        try:
            yield
        finally:
            self._forget(opened)
            with anyio.CancelScope(shield=True):
                await opened.store.aclose()
            if opened.store is self._first:
                self._first_is_open = False
