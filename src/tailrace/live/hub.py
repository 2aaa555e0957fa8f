"""The live streams of one process: each is watched once, however many read it.

Watching begins before anybody reads, so that nothing falls between a read and the first change that
is told. Identical reads that are under way at the same time are done once.
"""

from __future__ import annotations

import time
from functools import partial

from tailrace import limits
from tailrace.errors import StreamNotFound
from tailrace.live.live_stream import LiveStream
from tailrace.live.tail import Entry, TailState
from tailrace.runtime import Loop, SingleFlight, current_loop
from tailrace.runtime.timer_wheel import timer_wheel
from tailrace.store import Offset, Slice, Store, StreamInfo, Where

__all__ = ["Hub"]


class Hub:
    """The streams of a store that are read live here.

    It belongs to the event loop of its store. It holds nothing that would have to be closed: a live
    stream ends with its readers.

    Args:
        store: Where the streams are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lives: dict[str, LiveStream] = {}
        self._single_flight = SingleFlight()

    def __len__(self) -> int:
        """How many streams are watched."""
        return len(self._lives)

    async def read(self, path: str, where: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        """As `Store.read`, and never older than this call; identical reads are done together.

        Raises:
            StreamNotFound, OffsetGone, InvalidOffset, StoreUnavailable: As `Store.read`.
        """
        key = (path, where, max_bytes)
        return await self._single_flight.do(key, partial(self._read, path, where, max_bytes))

    async def wait(self, path: str, offset: Offset) -> None:
        """As `Store.wait`: return when there is more than `offset`, or the stream is over.

        May return early. Cancelled, nothing is lost.
        """
        live = self.join(path)
        waiter = _Waiter(live.loop)
        try:
            while not (live.tail.over or waiter.woken):
                live.sleep(waiter)  # before it looks: nothing may come between
                tail = live.tail.offset
                if tail is None or live.tail.state is TailState.STALE:
                    try:
                        info = await self.head(path)
                    except StreamNotFound:
                        return
                    tail = info.tail
                    if info.closed:
                        return
                if tail.position > offset.position:
                    return
                await waiter.wait()
        finally:
            live.forget(waiter)
            self.leave(live)

    async def wait_until_there(self, path: str) -> None:
        """Wait until a stream exists. Cancelled, nothing is lost."""
        while True:
            live = self.join(path)
            waiter = _Waiter(live.loop)
            try:
                live.sleep(waiter)
                try:
                    await self.head(path)
                except StreamNotFound:
                    await waiter.wait()
                else:
                    return
            finally:
                live.forget(waiter)
                self.leave(live)

    async def follow(self, path: str, offset: Offset) -> Entry:
        """What follows an offset; at the tail, wait for it.

        A reader asks again and again with the end of what it got. Between two calls nothing is held
        for it. Cancelled, nothing is lost.

        Returns:
            An entry with data, or one that says that the stream is closed.

        Raises:
            StreamNotFound, OffsetGone, InvalidOffset, StoreUnavailable: As `Store.read`.
        """
        live = self.join(path)
        try:
            entry = live.after(offset) or await self._wait_for(live, offset)
        except BaseException:
            self.leave(live)
            raise
        self.leave(live, lingers=True)
        return entry

    async def _wait_for(self, live: LiveStream, offset: Offset) -> Entry:
        waiter = _Waiter(live.loop)
        try:
            while True:
                if live.tail.offset != offset:
                    found = await self.read(live.path, offset)
                    if found.chunks or found.closed:
                        return Entry(found, time.time())
                    offset = found.end
                elif live.tail.state is TailState.STALE:
                    await live.refresh()
                else:
                    live.sleep(waiter)
                    await waiter.wait()
                if (entry := live.after(offset)) is not None:
                    return entry
        finally:
            live.forget(waiter)

    # For readers

    def join(self, path: str) -> LiveStream:
        """The live stream of a path, held until `leave`."""
        live = self._lives.get(path)
        if live is None:
            live = LiveStream(path, current_loop(), timer_wheel(), self._refresh, self._retire)
            live.unwatch = self.store.watch(path, live.on_change)
            self._lives[path] = live  # not if the store refuses, as one does that is closed
        live.readers += 1
        return live

    def leave(self, live: LiveStream, *, lingers: bool = False) -> None:
        """Let go of a live stream.

        Args:
            live: The stream.
            lingers: The reader may be back at once: until the next turn it stays as it is.
        """
        live.readers -= 1
        if not live.readers:
            if lingers:
                live.linger()
            else:
                live.let_go()

    def _retire(self, live: LiveStream) -> None:
        if self._lives.get(live.path) is live:
            del self._lives[live.path]
            live.unwatch()

    async def head(self, path: str) -> StreamInfo:
        """As `Store.head`, and never older than this call; identical calls are done together."""
        return await self._single_flight.do(path, partial(self._head, path))

    async def _read(self, path: str, where: Where, max_bytes: int) -> Slice:
        live = self._lives.get(path)
        hints = 0 if live is None else live.tail.hints
        found = await self.store.read(path, where, max_bytes)
        self._learn(live, found, hints)
        return found

    async def _head(self, path: str) -> StreamInfo:
        live = self._lives.get(path)
        hints = 0 if live is None else live.tail.hints
        info = await self.store.head(path)
        self._learn(live, Slice(info, info.tail, ()), hints)
        return info

    async def _refresh(self, path: str, offset: Offset) -> Slice:
        return await self.read(path, offset)

    def _learn(self, live: LiveStream | None, found: Slice, hints: int) -> None:
        # Only what was read since the stream is watched: what came between would be missed.
        if live is not None and self._lives.get(live.path) is live:
            live.learn(found, hints)


class _Waiter:
    """A task that waits for a change."""

    __slots__ = ("_changed", "woken")

    def __init__(self, loop: Loop) -> None:
        self._changed = loop.signal()
        self.woken = False

    def wake(self) -> None:
        self.woken = True
        self._changed.set()

    async def wait(self) -> None:
        await self._changed.wait()
