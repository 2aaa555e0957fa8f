"""Stores with one fault each, to test that the contract's tests find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tailrace import limits
from tailrace.store import (
    Append,
    Appended,
    Change,
    Created,
    MemoryStore,
    NewStream,
    Offset,
    OnChange,
    Slice,
    Store,
    StreamInfo,
    Where,
)
from tests.store.contract import StoreClock

__all__ = [
    "AcceptsFormerOffsets",
    "CountsFromTheStart",
    "CutsForksLate",
    "DeletesWhatForksRead",
    "DoesNotCountReads",
    "ForgetsProducers",
    "ForgetsTheSequence",
    "GivesTheSameTokensAgain",
    "Keeper",
    "KeepsTooLittle",
    "Kept",
    "ListsByCodeUnit",
    "LosesWhatIsTold",
]


class Kept(Store):
    """A memory store that keeps its streams when it is closed, as a file does. It has no fault.

    Args:
        kept: The store that does the work.
        opened: How often it was opened before.
    """

    def __init__(self, kept: MemoryStore, opened: int) -> None:
        self.kept = kept
        self.opened = opened

    async def open(self) -> None:
        await self.kept.open()

    async def aclose(self) -> None:
        pass

    async def create(self, path: str, new: NewStream) -> Created:
        return await self.kept.create(path, new)

    async def append(self, path: str, append: Append) -> Appended:
        return await self.kept.append(path, append)

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        return await self.kept.read(path, start, max_bytes)

    async def head(self, path: str) -> StreamInfo:
        return await self.kept.head(path)

    async def delete(self, path: str) -> None:
        await self.kept.delete(path)

    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        return await self.kept.list(prefix, after, limit)

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        return self.kept.watch(path, on_change)

    async def check(self) -> None:
        await self.kept.check()


class Keeper:
    """Makes stores of one kind. For the same folder, it makes a store with the same streams."""

    def __init__(self, kind: type[Kept]) -> None:
        self.kind = kind
        self._kept: dict[Path, tuple[MemoryStore, int]] = {}

    def make(self, folder: Path, clock: StoreClock) -> Store:
        kept, opened = self._kept.get(folder, (MemoryStore(clock), 0))
        self._kept[folder] = (kept, opened + 1)
        return self.kind(kept, opened)


class ForgetsProducers(Kept):
    """A restart loses the state of producers, as in a store that writes it after the data."""

    async def append(self, path: str, append: Append) -> Appended:
        producer = append.producer
        if producer is None:
            return await self.kept.append(path, append)
        aside = replace(producer, id=f"{producer.id}{self.opened}")
        done = await self.kept.append(path, replace(append, producer=aside))
        known = done.producer and replace(done.producer, id=producer.id)
        return replace(done, producer=known)


class CutsForksLate(Kept):
    """If the offset of a fork is before the source's tail, the fork inherits one byte too many."""

    async def create(self, path: str, new: NewStream) -> Created:
        fork = new.fork
        if fork is not None and fork.offset is not None and fork.offset.position:
            tail = (await self.kept.head(fork.source)).tail
            if fork.offset < tail and fork.offset.generation == tail.generation:
                late = replace(fork.offset, position=fork.offset.position + 1)
                new = replace(new, fork=replace(fork, offset=late))
        return await self.kept.create(path, new)


class AcceptsFormerOffsets(Kept):
    """A read accepts an offset of a former stream of this path: only its position is compared."""

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        info = await self.kept.head(path)
        forked = info.forked_from is not None
        if isinstance(start, Offset) and 0 < start.position <= info.tail.position and not forked:
            start = replace(start, generation=info.tail.generation)
        return await self.kept.read(path, start, max_bytes)


class CountsFromTheStart(Kept):
    """A read counts `max_bytes` from its own start, which may be anywhere."""

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        read = await self.kept.read(path, start)
        chunks, size = [], 0
        for chunk in read.chunks:
            if size >= max_bytes:
                break
            chunks.append(chunk)
            size += len(chunk.data)
        return replace(read, chunks=tuple(chunks))


class DoesNotCountReads(Kept):
    """A read does not count as a use of the stream, so it does not prolong its time to live."""

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        await self.kept.head(path)
        state = self.kept._streams[path].state
        touched = state.touched
        read = await self.kept.read(path, start, max_bytes)
        state.touched = touched
        return read


class ForgetsTheSequence(Kept):
    """A restart loses the last Stream-Seq."""

    async def open(self) -> None:
        for stream in self.kept._streams.values():
            stream.state.seq = None


class DeletesWhatForksRead(Kept):
    """A deletion forgets a stream completely, even if forks still read it."""

    async def delete(self, path: str) -> None:
        await self.kept.delete(path)
        if path in self.kept._streams:
            self.kept._streams[f"{path}#"] = self.kept._streams.pop(path)


class GivesTheSameTokensAgain(Kept):
    """A restart loses the last generation, so new streams get the offsets of former ones."""

    async def open(self) -> None:
        self.kept._last_generation = 0


class LosesWhatIsTold(Kept):
    """Watchers are not told that a stream was closed."""

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        def on_open(change: Change) -> None:
            if not change.closed:
                on_change(change)

        return self.kept.watch(path, on_open)


class KeepsTooLittle(Kept):
    """A retention by number of appends keeps one append too few."""

    async def create(self, path: str, new: NewStream) -> Created:
        created = await self.kept.create(path, new)
        state = self.kept._streams[path].state
        most = state.retention.max_records
        if created.is_new and most is not None and most > 1:
            state.retention = replace(state.retention, max_records=most - 1)
        return created


class ListsByCodeUnit(Kept):
    """The list is sorted by the code units of UTF-16, not by code points."""

    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        infos = await self.kept.list(prefix, after, limit)
        return sorted(infos, key=lambda info: info.path.encode("utf-16-be"))
