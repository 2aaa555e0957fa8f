"""Subscriptions in a store: a directory of those that exist, and the state of each.

Both are JSON objects in streams of their own, changed by compare-and-set. The path of a state has
its id and a nonce that is never used twice; the directory has the nonce of each id. So the state of
a deleted subscription can be erased: a process that is late cannot write into the state of a later
subscription with the same id. A state is written before the directory names it, and becomes a
tombstone before the directory drops it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tailrace import limits
from tailrace.errors import OffsetGone, SequenceConflict, StreamNotFound, SubscriptionRefused
from tailrace.store import Append, Mark, NewStream, Offset, Retention, Store, StreamInfo, Where
from tailrace.subscriptions.state import Config, StreamTail, SubscriptionState

__all__ = [
    "DIRECTORY",
    "JsonCell",
    "StoredState",
    "SubscriptionRepository",
    "matching_tails",
    "not_found",
    "path_of",
    "tails_of",
]

DIRECTORY: Final = "__ds/subscriptions"
_PREFIX: Final = f"{DIRECTORY}/"
_JSON: Final = "application/json"
_ORPHAN_MS: Final = 60 * 60 * 1000
"""Age in milliseconds at which a state that the directory does not name is erased: the process that
made it must have died."""

_FEW: Final = 32
"""Tails that are asked for one by one at most; for more of them, pages of the store's list are
read, which hold a thousand streams each."""

_WASTE: Final = 4
"""Pages of the list that are read at most for each thousand of wanted paths, as other streams may
lie between them. Paths that are still missing then are asked for one by one."""


class JsonCell:
    """One JSON object in a stream, changed by compare-and-set.

    The stream holds snapshots of the object; the last one counts. Each snapshot has a `version`,
    which is also the `Stream-Seq` of its append: the store accepts only a greater one. If several
    processes change the object at once, one of them wins, on any store.

    Args:
        store: Where the stream is.
        path: Of the stream.
    """

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path

    async def read(self) -> tuple[Any, Offset] | None:
        """The object, and the tail of its stream; None if it was never written, or was deleted."""
        where: Where = Mark.BEGINNING
        data: bytes | None = None
        while True:
            try:
                part = await self._store.read(self._path, where)
            except OffsetGone:  # newer snapshots took the place of those that were being read
                where = Mark.BEGINNING
                continue
            except StreamNotFound:
                return None
            if part.chunks:
                data = part.chunks[-1].data
            if part.up_to_date:
                return None if data is None else (json.loads(data[:-1]), part.end)
            where = part.end

    async def write(self, value: Mapping[str, Any]) -> Offset | None:
        """Write the object, whose `version` is one more than that of the object that was read.

        Returns:
            The tail of the stream; None if another process was faster.

        Raises:
            StreamNotFound: It was deleted.
        """
        version: int = value["version"]
        if version == 1:
            new = NewStream(content_type=_JSON, retention=Retention(max_records=1))
            await self._store.create(self._path, new)
        data = json.dumps(value, separators=(",", ":")).encode() + b","
        append = Append(data=data, content_type=_JSON, seq=f"{version:016d}")
        try:
            return (await self._store.append(self._path, append)).tail
        except SequenceConflict:
            return None

    async def delete(self) -> None:
        """Delete the object; nothing if it does not exist."""
        try:
            await self._store.delete(self._path)
        except StreamNotFound:
            return


@dataclass(frozen=True, slots=True)
class StoredState:
    """The state of a subscription, and the offset after it in its stream."""

    state: SubscriptionState
    tail: Offset


def path_of(name: str, nonce: str) -> str:
    """The path of the stream that holds a state."""
    return f"{_PREFIX}{name}/{nonce}"


class SubscriptionRepository:
    """All subscriptions of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = JsonCell(store, DIRECTORY)

    async def nonces(self) -> dict[str, str]:
        """The nonces of the subscriptions that exist, by id."""
        return (await self._read_directory())[1]

    async def find(self, name: str, known: StoredState | None = None) -> StoredState:
        """A subscription.

        Args:
            name: Its id.
            known: What was read or written last; it is returned if nothing has changed since.

        Raises:
            SubscriptionRefused: It does not exist (404).
        """
        nonce = (await self.nonces()).get(name)
        stored = None if nonce is None else await self.load(name, nonce, known)
        if stored is None or stored.state.deleted:
            raise not_found(name)
        return stored

    async def load(
        self, name: str, nonce: str, known: StoredState | None = None
    ) -> StoredState | None:
        """Read a state, which may be a tombstone; None if it was erased."""
        path = path_of(name, nonce)
        if known is not None and known.state.nonce == nonce:
            try:
                if (await self._store.head(path)).tail == known.tail:
                    return known
            except StreamNotFound:
                return None
        found = await JsonCell(self._store, path).read()
        return None if found is None else StoredState(SubscriptionState.decode(found[0]), found[1])

    async def add(self, state: SubscriptionState) -> StoredState | None:
        """Write a new subscription; None if another one has its id.

        Raises:
            SubscriptionRefused: There are too many (429).
        """
        stored = await self.save(replace(state, version=0))
        assert stored is not None  # no other process knows this path
        while True:
            version, nonces = await self._read_directory()
            if state.id in nonces or len(nonces) >= limits.MAX_SUBSCRIPTIONS:
                await self._erase(path_of(state.id, state.nonce))
                if state.id in nonces:
                    return None
                raise SubscriptionRefused(
                    "TOO_MANY_SUBSCRIPTIONS",
                    429,
                    f"{limits.MAX_SUBSCRIPTIONS:,} subscriptions exist: delete one first",
                )
            if await self._write_directory(version, {**nonces, state.id: state.nonce}):
                return stored

    async def save(self, state: SubscriptionState) -> StoredState | None:
        """Write the next version of a state that was read; None if it has changed since.

        Raises:
            SubscriptionRefused: It has been deleted (404).
        """
        state = replace(state, version=state.version + 1)
        try:
            tail = await JsonCell(self._store, path_of(state.id, state.nonce)).write(state.encode())
        except StreamNotFound:
            raise not_found(state.id) from None
        return None if tail is None else StoredState(state, tail)

    async def remove(self, name: str, nonce: str) -> None:
        """Remove a subscription whose state is a tombstone. Does nothing the second time."""
        while True:
            version, nonces = await self._read_directory()
            if nonces.get(name) != nonce:
                break
            rest = {key: value for key, value in nonces.items() if key != name}
            if await self._write_directory(version, rest):
                break
        await self._erase(path_of(name, nonce))

    async def tidy(self, now: int) -> None:
        """Erase states whose process died before the directory named them."""
        known = {path_of(name, nonce) for name, nonce in (await self.nonces()).items()}
        after = ""
        while page := await self._store.list(_PREFIX, after):
            for info in page:
                if info.path not in known and info.created_at < now - _ORPHAN_MS:
                    await self._erase(info.path)
            after = page[-1].path

    async def _read_directory(self) -> tuple[int, dict[str, str]]:
        found = await self._directory.read()
        return (0, {}) if found is None else (found[0]["version"], found[0]["nonces"])

    async def _write_directory(self, version: int, nonces: dict[str, str]) -> bool:
        value = {"version": version + 1, "nonces": nonces}
        return await self._directory.write(value) is not None

    async def _erase(self, path: str) -> None:
        await JsonCell(self._store, path).delete()


# The streams that a subscription follows


async def tails_of(store: Store, paths: Iterable[str]) -> dict[str, StreamTail]:
    """The tails of streams; a stream that does not exist is left out."""
    wanted = set(paths)
    tails: dict[str, StreamTail] = {}
    if len(wanted) > _FEW:
        wanted = await _take_from_list(store, wanted, tails)
    for path in wanted:
        try:
            tails[path] = _tail(await store.head(path))
        except StreamNotFound:
            continue
    return tails


async def matching_tails(store: Store, config: Config) -> dict[str, StreamTail]:
    """The tails of all streams that match a subscription's pattern."""
    if config.glob is None:
        return {}
    found: dict[str, StreamTail] = {}
    after = ""
    while page := await store.list(config.glob.prefix, after):
        found.update((info.path, _tail(info)) for info in page if config.matches(info.path))
        if len(found) > limits.MAX_SUBSCRIPTION_STREAMS:
            break  # too many already
        after = page[-1].path
    return found


async def _take_from_list(store: Store, wanted: set[str], tails: dict[str, StreamTail]) -> set[str]:
    """Add to `tails` from pages of the list; returns the paths that are still to be asked for."""
    first, last = min(wanted, key=str.encode), max(wanted, key=str.encode)
    prefix = _common_prefix(first, last)
    after = ""
    for _ in range(_WASTE * (1 + len(wanted) // limits.LIST_STREAMS)):
        page = await store.list(prefix, after)
        tails.update((info.path, _tail(info)) for info in page if info.path in wanted)
        if len(page) < limits.LIST_STREAMS or page[-1].path.encode() >= last.encode():
            return set()  # what was not in the list does not exist
        after = page[-1].path
    return {path for path in wanted if path not in tails and path.encode() > after.encode()}


def _common_prefix(first: str, last: str) -> str:
    """The prefix that the first and the last of some sorted texts share, and all between them."""
    count = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[:count]


def _tail(info: StreamInfo) -> StreamTail:
    return StreamTail(info.tail, info.created_at)


def not_found(name: str) -> SubscriptionRefused:
    return SubscriptionRefused("SUBSCRIPTION_NOT_FOUND", 404, f"there is no subscription {name!a}")
