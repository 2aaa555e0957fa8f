"""Stores that count their calls, or whose hints are as unreliable as the interface allows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import anyio.lowlevel

from tailrace import limits
from tailrace.store import Change, MemoryStore, OnChange, Slice, StreamInfo, Where

__all__ = ["CountingStore", "HintingStore"]


class CountingStore(MemoryStore):
    """A store that counts its calls. A read takes some turns of the event loop."""

    def __init__(self) -> None:
        super().__init__(lambda: time.time_ns() // 1_000_000 + self.later_ms)
        self.later_ms = 0
        """Milliseconds by which its clock is fast."""
        self.asked: Counter[str] = Counter()
        self.watched = 0
        self.bare_hints = False
        """The hints of changes come without their bytes."""

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        self.asked["read"] += 1
        found = await super().read(path, start, max_bytes)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        return found

    async def head(self, path: str) -> StreamInfo:
        self.asked["head"] += 1
        found = await super().head(path)
        await anyio.lowlevel.checkpoint()
        return found

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        self.asked["watch"] += 1
        self.watched += 1

        def tell(change: Change) -> None:
            on_change(replace(change, chunks=None) if self.bare_hints else change)

        stop = super().watch(path, tell)

        def stop_and_count() -> None:
            self.watched -= 1
            stop()

        return stop_and_count


class HintingStore(CountingStore):
    """Gives hints as a store does that several processes share: a hint may come late, twice, or
    without its bytes.

    Args:
        random: Decides which.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._late: list[tuple[OnChange, Change]] = []

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        for _ in range(self._random.choice((0, 0, 1, 4))):
            await anyio.lowlevel.checkpoint()
        found = await super().read(path, start, max_bytes)
        for _ in range(self._random.choice((0, 0, 1, 4))):
            await anyio.lowlevel.checkpoint()
        return found

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        stopped = False

        def tell(change: Change) -> None:
            if not stopped:
                on_change(change)

        def hint(change: Change) -> None:
            told = self._random.choice(("whole", "whole", "bare", "twice", "late", "late bare"))
            if "bare" in told:
                change = replace(change, chunks=None)
            if "late" in told:
                self._late.append((tell, change))
                return
            tell(change)
            if told == "twice":
                tell(change)

        stop = super().watch(path, hint)

        def stop_all() -> None:
            nonlocal stopped
            stopped = True
            stop()

        return stop_all

    def tell_late(self) -> None:
        """Give the hints that were held back, in any order."""
        late, self._late = self._late, []
        self._random.shuffle(late)
        for tell, change in late:
            tell(change)
