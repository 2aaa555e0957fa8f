"""The live streams of one process: each is watched once, however many read it.

The theory. Readers that have everything up to the tail are of two kinds. Those whose connection is
attached are written to by the broadcast, all with one frame; they have no offset of their own, for
it is the tail's. The others sleep, are woken, and take what is new from the tail's cache. A reader
that cannot take more leaves the broadcast with the offset of what it did not get, and comes back
when it has caught up: from the cache, or from the log.

Watching begins before anybody reads, so that nothing falls between a read and the first change that
is told. What a change means is decided in `tail`; if the log has to be read, one of the readers at
the tail is woken to do it for all. So no task of the stream's own has to be looked after: if that
reader leaves, another one does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from tailrace import limits
from tailrace.errors import InvalidOffset, OffsetGone, StreamNotFound
from tailrace.live.broadcast import Broadcast
from tailrace.live.tail import Act, Entry, Tail, TailCache, TailState
from tailrace.runtime import Loop, SingleFlight, TimerWheel, current_loop
from tailrace.runtime.timer_wheel import timer_wheel
from tailrace.store import Change, Offset, Slice, Store, StreamInfo, Where

__all__ = ["Hub", "LiveStream", "Sleeper"]

_EXPIRY_STEP: Final = 1.0
"""Seconds between two looks at a stream that should have expired and is still there."""


class Sleeper(Protocol):
    """A reader that waits for what is new."""

    def wake(self) -> None:
        """Something has happened: come and look."""


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
        self._flights = SingleFlight()

    def __len__(self) -> int:
        """How many streams are watched."""
        return len(self._lives)

    async def read(self, path: str, where: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        """As `Store.read`, and never older than this call; identical reads are done together.

        Raises:
            StreamNotFound, OffsetGone, InvalidOffset, StoreUnavailable: As `Store.read`.
        """
        key = (path, where, max_bytes)
        return await self._flights.do(key, partial(self._read, path, where, max_bytes))

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
            self._lives[path] = live
            live.unwatch = self.store.watch(path, live.on_change)
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
        return await self._flights.do(path, partial(self._head, path))

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


class LiveStream:
    """One stream with readers, in one event loop.

    Args:
        path: The stream.
        loop: The event loop.
        wheel: Its timer.
        read: Reads the log from an offset; whatever is read of the stream is told to `learn`.
        retire: Called when nobody can join it any more.
    """

    __slots__ = (
        *("_lingers", "_read", "_retire", "_sleepers", "broadcast", "cache", "changed_at"),
        *("closing", "loop", "path", "readers", "tail", "tick", "unwatch", "wheel"),
    )

    def __init__(
        self,
        path: str,
        loop: Loop,
        wheel: TimerWheel,
        read: Callable[[str, Offset], Awaitable[object]],
        retire: Callable[[LiveStream], None],
    ) -> None:
        self.path = path
        self.loop = loop
        self.wheel = wheel
        self._read = read
        self._retire = retire
        self._sleepers: dict[Sleeper, None] = {}
        self.tail = Tail()
        self.cache: TailCache | None = None
        """The last changes, while they are recent."""
        self.broadcast = Broadcast(loop, self._on_settled)
        self.readers = 0
        """How many hold it; counted by the hub."""
        self.closing: Entry | None = None
        """The change that closed it."""
        self.changed_at = 0.0
        """The loop's time of the last change."""
        self.unwatch: Callable[[], None] = _nothing
        self._lingers = False
        """It is let go in the next turn, unless somebody reads it then."""
        self.tick = 0

    # Readers

    def sleep(self, reader: Sleeper) -> None:
        """Wake a reader, once: at the next change, or when it has to read the log for all."""
        self._sleepers[reader] = None
        if self.tail.state is TailState.STALE:
            self._elect()

    def has_asleep(self, reader: Sleeper) -> bool:
        """Nothing has happened since the reader went to sleep."""
        return reader in self._sleepers

    def rise(self, reader: Sleeper) -> None:
        """A reader is awake, and does what there is to do."""
        self._sleepers.pop(reader, None)

    def forget(self, reader: Sleeper) -> None:
        """A reader has left: it is not woken, and does nothing any more."""
        self._sleepers.pop(reader, None)
        if self.tail.state is TailState.STALE:
            self._elect()  # it may have been this one

    def after(self, offset: Offset) -> Entry | None:
        """What follows an offset, if it is at hand.

        Raises:
            StreamNotFound: The stream was deleted.
        """
        if self.tail.state is TailState.DELETED:
            raise StreamNotFound(self.path)
        if self.cache is not None and (entry := self.cache.at(offset)) is not None:
            return entry
        closing = self.closing
        if closing is None or closing.part.end != offset:
            return None
        return Entry(Slice(closing.part.info, offset, ()), closing.now)

    async def refresh(self) -> None:
        """Read what is new, for all that are at the tail. Called by one of them.

        Raises:
            StoreUnavailable: The store cannot read; another one of them will try.
        """
        tail = self.tail
        if tail.state is not TailState.STALE or tail.offset is None:
            return
        tail.refreshing()
        try:
            await self._read(self.path, tail.offset)
        except (StreamNotFound, InvalidOffset):  # the second: another, shorter stream is there now
            if not tail.over:
                self._do(tail.deleted())
        except OffsetGone:  # each reader looks for itself
            self.cache = None
            self.broadcast.disperse(tail.lost())
        finally:
            for act in tail.refreshed():
                self._do(act)
            self._wake_sleepers()  # those who waited for what would be found

    def _elect(self) -> None:
        """Wake one of those at the tail, to read the log."""
        reader: Sleeper | None = next(iter(self._sleepers), None)
        if reader is None:
            reader = self.broadcast.anyone()
        else:
            del self._sleepers[reader]
        if reader is not None:
            reader.wake()

    def _wake_sleepers(self) -> None:
        sleepers, self._sleepers = self._sleepers, {}
        for reader in sleepers:
            reader.wake()

    def linger(self) -> None:
        """Its last reader has left, and may be back at once: stay as it is until the next turn."""
        if not self._lingers:
            self._lingers = True
            self.loop.call_from_thread(self._stay_or_go)

    def let_go(self) -> None:
        """It has no readers."""
        self._retire(self)
        self.wheel.take_back(self)

    def _stay_or_go(self) -> None:
        self._lingers = False
        if not self.readers:
            self.let_go()

    # What is told and found

    def on_change(self, change: Change) -> None:
        """The store has told of a change."""
        if not self.readers:
            # It only lingers, perhaps in an event loop that is gone.
            self._retire(self)
            return
        act = self.tail.changed(change)
        if act is not None:
            self._do(act)

    def learn(self, found: Slice, hints: int) -> None:
        """Somebody has read the log; as `Tail.learned`."""
        was_known = self.tail.offset is not None
        for act in self.tail.learned(found, hints):
            self._do(act)
        if not was_known and self.tail.offset is not None and not self.tail.over:
            self.wheel.set(self, self.on_tick(self.loop.time()))

    def _do(self, act: Slice | Act) -> None:
        if isinstance(act, Slice):
            self._publish(act)
        elif act is Act.READ:
            self._elect()
        elif act is Act.LOOK:
            self._wake_sleepers()
        else:
            self._end()

    def _publish(self, new: Slice) -> None:
        """Hand on what follows the tail."""
        self.changed_at = self.loop.time()
        entry = Entry(new, time.time())
        if self.cache is None:
            self.cache = TailCache()
            self.wheel.set(self, self.on_tick(self.changed_at))
        self.cache.add(entry)
        self.broadcast.serve(entry)
        if new.closed:
            self.closing = entry
            self._end()
        else:
            self._wake_sleepers()

    def _end(self) -> None:
        """Nothing more will come."""
        self.let_go()
        self._wake_sleepers()
        if self.broadcast.settled:
            self.broadcast.wake()

    def _on_settled(self) -> None:
        """All listeners of the broadcast have everything."""
        if self.tail.over:
            self.broadcast.wake()
        self._wake_sleepers()  # those who wait to join it

    # Time

    def on_tick(self, now: float) -> float:
        """Drop the cache when it is not recent any more, and notice that the stream has expired."""
        again = math.inf
        if self.cache is not None:
            again = self.changed_at + limits.RECENT_AGE
            if again <= now:
                self.cache, again = None, math.inf
        info = self.tail.info
        if info is not None and info.expires_at is not None:
            left = info.expires_at / 1000 - time.time()
            if left <= 0 and self.tail.hinted() is not None:
                self._elect()
            again = min(again, now + (left if left > 0 else _EXPIRY_STEP))
        return again


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


def _nothing() -> None:
    pass
