"""Stores with one fault each, for tests of what is to find it."""

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
    "ListsByCodePoint",
    "LosesWhatIsTold",
]


class Kept(Store):
    """A memory store that outlives its closing, as a file does. It has no fault.

    Args:
        kept: The store that does the work.
        opened: How often it has been opened before.
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
    """Makes a store of a kind, and the same store again for the same folder."""

    def __init__(self, kind: type[Kept]) -> None:
        self.kind = kind
        self._kept: dict[Path, tuple[MemoryStore, int]] = {}

    def make(self, folder: Path, clock: StoreClock) -> Store:
        kept, opened = self._kept.get(folder, (MemoryStore(clock), 0))
        self._kept[folder] = (kept, opened + 1)
        return self.kind(kept, opened)


class ForgetsProducers(Kept):
    """Over a restart, as a store does that writes them after the data."""

    async def append(self, path: str, append: Append) -> Appended:
        producer = append.producer
        if producer is None:
            return await self.kept.append(path, append)
        aside = replace(producer, id=f"{producer.id}{self.opened}")
        done = await self.kept.append(path, replace(append, producer=aside))
        known = done.producer and replace(done.producer, id=producer.id)
        return replace(done, producer=known)


class CutsForksLate(Kept):
    """By one byte, where a fork's offset lies before the tail."""

    async def create(self, path: str, new: NewStream) -> Created:
        fork = new.fork
        if fork is not None and fork.offset is not None and fork.offset.position:
            tail = (await self.kept.head(fork.source)).tail
            if fork.offset < tail and fork.offset.generation == tail.generation:
                late = replace(fork.offset, position=fork.offset.position + 1)
                new = replace(new, fork=replace(fork, offset=late))
        return await self.kept.create(path, new)


class AcceptsFormerOffsets(Kept):
    """Looks at an offset's position alone."""

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        info = await self.kept.head(path)
        forked = info.forked_from is not None
        if isinstance(start, Offset) and 0 < start.position <= info.tail.position and not forked:
            start = replace(start, generation=info.tail.generation)
        return await self.kept.read(path, start, max_bytes)


class CountsFromTheStart(Kept):
    """A read ends so many bytes after its start, wherever that is."""

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
    """As uses, for the time that a stream lives without one."""

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        await self.kept.head(path)
        state = self.kept._streams[path].state
        touched = state.touched
        read = await self.kept.read(path, start, max_bytes)
        state.touched = touched
        return read


class ForgetsTheSequence(Kept):
    """The last Stream-Seq, over a restart."""

    async def open(self) -> None:
        for stream in self.kept._streams.values():
            stream.state.seq = None


class DeletesWhatForksRead(Kept):
    """Takes a stream that forks read for one that is gone for good."""

    async def delete(self, path: str) -> None:
        await self.kept.delete(path)
        if path in self.kept._streams:
            self.kept._streams[f"{path}#"] = self.kept._streams.pop(path)


class GivesTheSameTokensAgain(Kept):
    """Forgets over a restart which generations it has given."""

    async def open(self) -> None:
        self.kept._last_generation = 0


class LosesWhatIsTold(Kept):
    """Tells nobody of a close."""

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        def on_open(change: Change) -> None:
            if not change.closed:
                on_change(change)

        return self.kept.watch(path, on_open)


class KeepsTooLittle(Kept):
    """One append less than was asked for, where that is counted in appends."""

    async def create(self, path: str, new: NewStream) -> Created:
        created = await self.kept.create(path, new)
        state = self.kept._streams[path].state
        most = state.retention.max_records
        if created.is_new and most is not None and most > 1:
            state.retention = replace(state.retention, max_records=most - 1)
        return created


class ListsByCodePoint(Kept):
    """As UTF-16 sorts."""

    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        infos = await self.kept.list(prefix, after, limit)
        return sorted(infos, key=lambda info: info.path.encode("utf-16-be"))
