"""A run that goes on in another process, or has ended: its stream is all there is of it here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from tailrace import limits
from tailrace.connection import log
from tailrace.errors import StoreUnavailable, StreamNotFound
from tailrace.store import Store
from tailrace.streams.claim import Claim, Claims
from tailrace.streams.item import End
from tailrace.streams.local_run import CLOSED, DELETED
from tailrace.streams.reading import read_end

__all__ = ["FinishedRun", "RemoteRun"]


class SubscriberCount:
    """Tells a run's owner whether this process has clients of it: when the first comes, and when
    the last leaves.

    Args:
        claims: Ours.
        claim: The run's.
        group: Holds the telling.
    """

    def __init__(self, claims: Claims, claim: Claim, group: anyio.abc.TaskGroup) -> None:
        self._claims = claims
        self._claim = claim
        self._group = group
        self._here = 0
        self._told = False
        self._telling = False
        self._closed = False

    @contextmanager
    def present(self) -> Iterator[None]:
        """A client that listens for the length of the block."""
        self._here += 1
        self._look()
        try:
            yield
        finally:
            self._here -= 1
            self._look()

    def close(self) -> None:
        """Nobody can be told any more."""
        self._closed = True

    def _look(self) -> None:
        changed = bool(self._here) is not self._told
        if self._claim.counts_clients and changed and not (self._telling or self._closed):
            self._telling = True
            self._group.start_soon(self._tell)

    async def _tell(self) -> None:
        wait, longest = limits.STORE_RETRY
        try:
            while (present := bool(self._here)) is not self._told and not self._closed:
                try:
                    goes_on = await self._claims.tell_clients(self._claim, present=present)
                except StoreUnavailable as error:
                    # Until it is told: a run would be cancelled while somebody listens, or go on
                    # for nobody.
                    path = self._claim.path
                    log.error("the owner of run %a was not told of its clients: %s", path, error)
                    await anyio.sleep(wait)
                    wait = min(2 * wait, longest)
                else:
                    self._told = present
                    self._closed = not goes_on
        finally:
            self._telling = False


class RemoteRun:
    """A run that goes on elsewhere.

    Args:
        store: Where its stream is.
        claims: Ours.
        claim: The run's.
        group: Holds what must be told.
    """

    def __init__(
        self, store: Store, claims: Claims, claim: Claim, group: anyio.abc.TaskGroup
    ) -> None:
        self._store = store
        self._claims = claims
        self.claim = claim
        self.end: End | None = None
        self.done = anyio.Event()
        self.clients = SubscriberCount(claims, claim, group)

    async def follow(self) -> None:
        """Wait for its end."""
        path = self.claim.path
        while self.end is None:
            try:
                info = await self._store.head(path)
                if info.closed:
                    self.end = await read_end(self._store, info) or CLOSED
                else:
                    await self._store.wait(path, info.tail)
            except StreamNotFound:
                self.end = DELETED
            except StoreUnavailable as error:
                log.error("run %a cannot be followed: %s", path, error)
                await anyio.sleep(1)
        self.done.set()

    async def ask_to_stop(self) -> None:
        """Ask its owner to end it."""
        await self._claims.ask_to_stop(self.claim.path)


class FinishedRun:
    """A run that has ended."""

    def __init__(self, end: End) -> None:
        self.end: End | None = end
        self.done = anyio.Event()
        self.done.set()
