"""Subscriptions in a store: a directory of those that exist, and a state of each.

Both are streams of JSON snapshots of which the last one counts, written by compare-and-set: each
carries a version, its append a `Stream-Seq` made of it, and the store takes only a greater one. So
any number of processes change them at once, on any store, and one of them wins.

A state lies under its id and a nonce that is never used twice, and the directory says which nonce
an id has. So a state that was deleted can be let go of: nobody who comes late writes into the
state of a later subscription with the same id. In that order: a state is written before the
directory names it, and made a tombstone before the directory forgets it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final

from tailrace import limits
from tailrace.errors import OffsetGone, SequenceConflict, StreamNotFound, SubscriptionRefused
from tailrace.store import Append, Mark, NewStream, Offset, Retention, Store, Where
from tailrace.subscriptions.state import SubscriptionState

__all__ = ["DIRECTORY", "StoredState", "SubscriptionRepository", "latest", "path_of"]

DIRECTORY: Final = "__ds/subscriptions"
_PREFIX: Final = f"{DIRECTORY}/"
_TYPE: Final = "application/json"
_ORPHAN_MS: Final = 60 * 60 * 1000
"""Age of a state that no directory names, after which its maker must have died on the way."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state, and the tail of its stream when it was the last."""

    state: SubscriptionState
    tail: Offset


@dataclass(frozen=True, slots=True)
class _Directory:
    version: int
    nonces: dict[str, str]


def path_of(name: str, nonce: str) -> str:
    """Where a state is kept."""
    return f"{_PREFIX}{name}/{nonce}"


class SubscriptionRepository:
    """All subscriptions of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def names(self) -> dict[str, str]:
        """The nonces of those that exist, by id."""
        return (await self._directory()).nonces

    async def find(self, name: str, known: StoredState | None = None) -> StoredState:
        """A subscription.

        Args:
            name: Its id.
            known: What was read or written last; given back if nothing has changed since.

        Raises:
            SubscriptionRefused: There is none (404).
        """
        nonce = (await self.names()).get(name)
        stored = None if nonce is None else await self.load(name, nonce, known)
        if stored is None or stored.state.deleted:
            raise _not_found(name)
        return stored

    async def load(
        self, name: str, nonce: str, known: StoredState | None = None
    ) -> StoredState | None:
        """A state, a tombstone too; None if it is not there any more."""
        path = path_of(name, nonce)
        try:
            if (
                known is not None
                and known.state.nonce == nonce
                and (await self._store.head(path)).tail == known.tail
            ):
                return known
            data, tail = await latest(self._store, path)
        except StreamNotFound:
            return None
        return None if data is None else StoredState(SubscriptionState.decode(data), tail)

    async def add(self, state: SubscriptionState) -> StoredState | None:
        """Write a new subscription; None if another one has its id.

        Raises:
            SubscriptionRefused: There are too many (429).
        """
        path = path_of(state.id, state.nonce)
        kept = Retention(max_records=1)
        await self._store.create(path, NewStream(content_type=_TYPE, retention=kept))
        stored = await self.save(replace(state, version=0))
        assert stored is not None  # nobody else knows this path
        while True:
            directory = await self._directory()
            if state.id in directory.nonces or len(directory.nonces) >= limits.MAX_SUBSCRIPTIONS:
                await self._erase(path)
                if state.id in directory.nonces:
                    return None
                raise SubscriptionRefused(
                    "TOO_MANY_SUBSCRIPTIONS",
                    429,
                    f"{limits.MAX_SUBSCRIPTIONS:,} subscriptions exist: delete one first",
                )
            if await self._put(directory, {**directory.nonces, state.id: state.nonce}):
                return stored

    async def save(self, state: SubscriptionState) -> StoredState | None:
        """Write what has become of a state that was read; None if it has changed since.

        Raises:
            SubscriptionRefused: It has been deleted (404).
        """
        state = replace(state, version=state.version + 1)
        try:
            tail = await self._append(path_of(state.id, state.nonce), state.version, state.encode())
        except StreamNotFound:
            raise _not_found(state.id) from None
        return None if tail is None else StoredState(state, tail)

    async def remove(self, name: str, nonce: str) -> None:
        """Forget a subscription whose state is a tombstone. Nothing the second time."""
        while True:
            directory = await self._directory()
            if directory.nonces.get(name) != nonce:
                break
            rest = {key: value for key, value in directory.nonces.items() if key != name}
            if await self._put(directory, rest):
                break
        await self._erase(path_of(name, nonce))

    async def tidy(self, now: int) -> None:
        """Let go of records that a process left behind which died on the way."""
        known = {path_of(name, nonce) for name, nonce in (await self.names()).items()}
        after = ""
        while page := await self._store.list(_PREFIX, after):
            for info in page:
                if info.path not in known and info.created_at < now - _ORPHAN_MS:
                    await self._erase(info.path)
            after = page[-1].path

    async def _directory(self) -> _Directory:
        try:
            data, _ = await latest(self._store, DIRECTORY)
        except StreamNotFound:
            data = None
        if data is None:
            return _Directory(0, {})
        fields = json.loads(data)
        return _Directory(fields["version"], fields["nonces"])

    async def _put(self, before: _Directory, nonces: dict[str, str]) -> bool:
        if before.version == 0:
            kept = Retention(max_records=1)
            await self._store.create(DIRECTORY, NewStream(content_type=_TYPE, retention=kept))
        version = before.version + 1
        data = json.dumps({"version": version, "nonces": nonces}).encode()
        return await self._append(DIRECTORY, version, data) is not None

    async def _append(self, path: str, version: int, data: bytes) -> Offset | None:
        append = Append(data=data + b",", content_type=_TYPE, seq=f"{version:016d}")
        try:
            return (await self._store.append(path, append)).tail
        except SequenceConflict:
            return None

    async def _erase(self, path: str) -> None:
        try:
            await self._store.delete(path)
        except StreamNotFound:
            return


async def latest(store: Store, path: str) -> tuple[bytes | None, Offset]:
    """The last JSON snapshot of a stream, and the stream's tail.

    Raises:
        StreamNotFound: There is no such stream.
    """
    where: Where = Mark.BEGINNING
    data: bytes | None = None
    while True:
        try:
            part = await store.read(path, where)
        except OffsetGone:  # newer snapshots took the place of those that were being read
            where = Mark.BEGINNING
            continue
        if part.chunks:
            data = part.chunks[-1].data
        if part.up_to_date:
            return data if data is None else data[:-1], part.end
        where = part.end


def _not_found(name: str) -> SubscriptionRefused:
    return SubscriptionRefused("SUBSCRIPTION_NOT_FOUND", 404, f"there is no subscription {name!a}")
