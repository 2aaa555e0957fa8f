"""A worker's sign of life."""

from __future__ import annotations

import os
import secrets

import anyio

from tailrace.connection import log
from tailrace.errors import StoreUnavailable, StreamNotFound
from tailrace.store import Append, NewStream, Retention, Store
from tailrace.streams.claim import WORKERS

__all__ = ["Lease", "new_worker"]


def new_worker() -> str:
    """An id that no other worker has; the process's number is for people."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


class Lease:
    """The lease of this worker; others take its runs over when it expires.

    Args:
        store: Where it is.
        worker: Whose it is.
        seconds: After the last sign of life.
    """

    def __init__(self, store: Store, worker: str, seconds: int) -> None:
        self._store = store
        self._path = WORKERS + worker
        self._seconds = seconds
        self._lock = anyio.Lock()
        self._held = False

    async def hold(self) -> None:
        """Have it before anything is claimed. Nothing the second time."""
        async with self._lock:
            if not self._held:
                await self._create()
                self._held = True

    async def keep(self) -> None:
        """Renew it, for ever, from when it is held."""
        failing = False
        while True:
            await anyio.sleep(self._seconds / 3)
            if not self._held:
                continue
            try:
                await self._renew()
            except StoreUnavailable as error:
                # Said once: while this lasts our runs can write nothing either, and wait too.
                if not failing:
                    log.error("a worker's lease cannot be renewed: %s", error)
                failing = True
            else:
                failing = False

    async def end(self) -> None:
        """Let it go: nothing is run here any more."""
        async with self._lock:
            if self._held:
                self._held = False
                try:
                    await self._store.delete(self._path)
                except (StreamNotFound, StoreUnavailable):
                    return  # it expires by itself

    async def _renew(self) -> None:
        try:
            await self._store.append(self._path, Append(data=b"."))
        except StreamNotFound:
            # This process was not scheduled for too long. What was taken over meanwhile is fenced.
            log.warning("a worker's lease had expired: its event loop was held for too long")
            await self._create()

    async def _create(self) -> None:
        new = NewStream(ttl=self._seconds, retention=Retention(max_records=1), data=b".")
        await self._store.create(self._path, new)
