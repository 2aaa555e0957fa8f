"""One stream with readers in this process: its tail, and those that are there.

The theory. Readers that have everything up to the tail are of two kinds. Those whose connection is
attached are written to by the broadcast, all with one frame; they have no offset of their own, for
it is the tail's. The others sleep, are woken, and take what is new from the tail's cache. A reader
that cannot take more leaves the broadcast with the offset of what it did not get, and comes back
when it has caught up: from the cache, or from the log.

What a change means is decided in `tail`. If the log has to be read, one of the readers at the tail
is woken to do it for all. So no task of the stream's own has to be looked after: if that reader
leaves, another one does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from tailrace import limits
from tailrace.errors import InvalidOffset, OffsetGone, StreamNotFound
from tailrace.live.broadcast import Broadcast
from tailrace.live.tail import Act, Entry, Tail, TailCache, TailState
from tailrace.runtime import Loop, TimerWheel
from tailrace.store import Change, Offset, Slice

__all__ = ["LiveStream", "Sleeper"]

_EXPIRY_STEP: Final = 1.0
"""Seconds between two looks at a stream that should have expired and is still there."""


class Sleeper(Protocol):
    """A reader that waits for what is new."""

    def wake(self) -> None:
        """Something has happened: come and look."""


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
        """Let go of the stream, which has no readers any more."""
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


def _nothing() -> None:
    pass
