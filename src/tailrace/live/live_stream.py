"""One stream that somebody reads live: what is known of its tail, and who is there.

The theory. Readers who have everything up to the tail are of two kinds. Those whose connection is
attached are the crowd: they are written to, all with one frame, and have no offset of their own,
for it is the tail's. The others sleep, are woken, and take what is new from the recent changes. A
reader that cannot take more leaves the crowd with the offset of what it did not get, and comes back
when it has caught up: from the recent changes, or from the log.

Watching begins before anybody reads, so that nothing falls between a read and the first change that
is told. A change that joins on to the tail and brings its bytes is handed on without a read. Any
other is a hint: one of those who wait at the tail reads the log, for all of them. There is no task
here that would have to be looked after; if that reader leaves, another one does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from tailrace import limits
from tailrace.errors import OffsetGone, StreamNotFound
from tailrace.live.crowd import Crowd
from tailrace.live.format import Piece, Reason
from tailrace.live.recent import Entry, Recent, after
from tailrace.runtime import Loop
from tailrace.runtime.timer_wheel import TimerWheel
from tailrace.store import Change, Offset, Slice, StreamInfo

__all__ = ["LiveStream", "Reader"]


_EXPIRY_STEP: Final = 1.0
"""Seconds between two looks at a stream that should have expired and is still there."""


class Reader(Protocol):
    """Who waits for what is new."""

    def wake(self) -> None:
        """Something has happened: come and look."""


class LiveStream:
    """One stream with readers, in one event loop.

    Args:
        path: The stream.
        loop: The event loop.
        wheel: Its timer.
        read: Reads the log from an offset; whatever is read of the stream is told to `learn`.
        retire: Called when it is over: nobody can join any more.
    """

    __slots__ = (
        *("_doubts", "_pending", "_read", "_retire", "_settled", "_sleepers", "changed_at"),
        *("closing", "crowd", "info", "loop", "over", "path", "readers", "recent", "refreshing"),
        *("tail", "tick", "wheel"),
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
        self.crowd = Crowd(loop, self._on_settled)
        self._sleepers: dict[Reader, None] = {}
        self.readers = 0
        """How many hold on to it; the hub counts them."""
        self.info: StreamInfo | None = None
        """As it was found last."""
        self.tail: Offset | None = None
        """Up to where its changes are known; None until somebody has read so far."""
        self.recent: Recent | None = None
        self._doubts = self._settled = 0
        """How often there was reason to read the log; and how many of these have been settled."""
        self.refreshing = False
        """Somebody reads it."""
        self._pending: list[Change] = []
        """What was told before the tail was known, or while the log is read."""
        self.over: Reason | None = None
        """`CLOSED` or `DELETED`: nothing more will come."""
        self.closing: Piece | None = None
        """The change that closed it."""
        self.changed_at = 0.0
        """The loop's time of the last change."""
        self.tick = 0

    # Readers

    def sleep(self, reader: Reader) -> None:
        """Wake a reader, once, at the next change; or when it is to read the log for all."""
        self._sleepers[reader] = None
        if self.stale and not self.refreshing:
            self._elect()

    def rise(self, reader: Reader) -> None:
        """A reader has come to look, and does what there is to do."""
        self._sleepers.pop(reader, None)

    def forget(self, reader: Reader) -> None:
        """A reader is no longer there to be woken, or to do anything."""
        self._sleepers.pop(reader, None)
        if self.stale and not self.refreshing:
            self._elect()  # it may have been this one

    @property
    def stale(self) -> bool:
        """There is more in the log, or may be."""
        return self._doubts != self._settled and self.over is None

    async def refresh(self) -> None:
        """Read what is new, for all who are at the tail. Called by one of them.

        Raises:
            StoreUnavailable: The store cannot read; another one of them will try.
        """
        if self.refreshing or self.tail is None:
            return
        self.refreshing = True
        try:
            await self._read(self.path, self.tail)
        except StreamNotFound:
            self.finish(Reason.DELETED)
        except OffsetGone:
            self._lose_track()
        finally:
            self.refreshing = False
            self._take_pending()
            self._wake_sleepers()  # those who waited for what would be found
            if self.stale:
                self._elect()

    def _lose_track(self) -> None:
        """What follows the tail as it is known here is no longer retained: each reader looks."""
        tail, self.tail, self.recent = self.tail, None, None
        assert tail is not None
        self.crowd.disperse(tail)
        self._wake_sleepers()

    def _elect(self) -> None:
        """Wake one of those at the tail, to read the log."""
        reader: Reader | None = next(iter(self._sleepers), None)
        if reader is None:
            reader = self.crowd.anyone()
        else:
            del self._sleepers[reader]
        if reader is not None:
            reader.wake()

    def _wake_sleepers(self) -> None:
        sleepers, self._sleepers = self._sleepers, {}
        for reader in sleepers:
            reader.wake()

    # What is told and found

    def on_change(self, change: Change) -> None:
        """Told by the store."""
        if self.over is not None:
            return
        if change.deleted:
            self.finish(Reason.DELETED)
        elif self.tail is None or self.refreshing:
            self._keep(change)
        else:
            self._apply(change)

    @property
    def doubts(self) -> int:
        """To be asked before reading, and told to `learn` after it."""
        return self._doubts

    def learn(self, found: Slice, doubts: int) -> None:
        """What somebody has read; the reading began when this was watched already.

        Args:
            found: What.
            doubts: As they were when it began.
        """
        if self.over is not None:
            return
        self._compare(found)
        if found.up_to_date and found.end == self.tail:
            self._settled = max(self._settled, doubts)

    def _compare(self, found: Slice) -> None:
        if self.info is not None and self.info.created_at != found.info.created_at:
            self.finish(Reason.DELETED)  # another stream has its path now
        elif self.tail is None:
            self.info = found.info
            if found.up_to_date:
                self._begin(found)
        elif found.end.position > self.tail.position:
            if found.start.position <= self.tail.position:
                self._publish(Slice(found.info, self.tail, after(found.chunks, self.tail)))
            if not found.up_to_date or self.tail != found.end:
                self._suspect()
        elif found.closed:
            self._publish(Slice(found.info, self.tail, ()))

    def finish(self, reason: Reason) -> None:
        """Nothing more will come."""
        if self.over is not None:
            return
        self.over = reason
        self._pending.clear()
        self.wheel.take_back(self)
        self._retire(self)
        self._wake_sleepers()
        if self.crowd.settled:
            self.crowd.wake()

    def _begin(self, found: Slice) -> None:
        self.tail = found.end
        if found.closed:
            self.closing = Piece(Slice(found.info, found.end, ()), time.time())
            self.finish(Reason.CLOSED)
        else:
            self.wheel.set(self, self.on_tick(self.loop.time()))
            self._take_pending()

    def _keep(self, change: Change) -> None:
        pending = self._pending
        pending.append(change)
        held = sum(len(chunk.data) for each in pending for chunk in each.chunks or ())
        if len(pending) > limits.EARLY_CHANGES or held > limits.RECENT_BYTES:
            pending.clear()
            self._doubts += 1
        if self.tail is None:
            self._wake_sleepers()

    def _take_pending(self) -> None:
        if self.tail is None:
            return
        pending, self._pending = self._pending, []
        for change in pending:
            if self.over is None:
                self._apply(change)

    def _apply(self, change: Change) -> None:
        tail, info = self.tail, self.info
        assert tail is not None
        assert info is not None
        if change.tail == tail:
            if change.closed:
                self._publish(Slice(replace(info, tail=tail, closed=True), tail, ()))
        elif change.tail < tail and change.tail.generation == tail.generation:
            pass  # it was read before it was told
        elif change.start != tail or change.chunks is None:
            self._suspect()
        else:
            now = replace(info, tail=change.tail, closed=change.closed)
            self._publish(Slice(now, tail, change.chunks))

    def _suspect(self) -> None:
        """There is more in the log, or may be."""
        if self.over is None:
            self._doubts += 1
            if not self.refreshing:
                self._elect()

    def _publish(self, new: Slice) -> None:
        """Hand on what follows the tail."""
        self.info, self.tail = new.info, new.end
        self.changed_at = self.loop.time()
        entry = Entry(Piece(new, time.time()))
        if self.recent is None:
            self.recent = Recent()
            self.wheel.set(self, self.on_tick(self.changed_at))
        self.recent.add(entry)
        self.crowd.serve(entry)
        if new.closed:
            self.closing = entry.piece
            self.finish(Reason.CLOSED)
        else:
            self._wake_sleepers()

    def _on_settled(self) -> None:
        """All of the crowd have everything."""
        if self.over is not None:
            self.crowd.wake()
        self._wake_sleepers()  # those who wait to join it

    # Time

    def on_tick(self, now: float) -> float:
        """Let go of what is not recent any more, and notice that the stream has expired."""
        again = math.inf
        if self.recent is not None:
            again = self.changed_at + limits.RECENT_AGE
            if again <= now:
                self.recent, again = None, math.inf
        expires_at = None if self.info is None else self.info.expires_at
        if expires_at is not None:
            left = expires_at / 1000 - time.time()
            if left <= 0:
                self._suspect()
            again = min(again, now + (left if left > 0 else _EXPIRY_STEP))
        return again
