"""Where one response is in a stream, and what comes next for it."""

from __future__ import annotations

import time
from enum import Enum

from tailrace import limits
from tailrace.errors import InvalidOffset, OffsetGone, StreamNotFound
from tailrace.live.format import Gap
from tailrace.live.hub import Hub, LiveStream
from tailrace.live.tail import Entry, TailState
from tailrace.store import Mark, Offset, Slice, Where

__all__ = ["Next", "ReadCursor", "Slow"]


class Slow(Enum):
    """What becomes of a reader for which too much waits (`limits.ATTACH_BUFFER_BYTES`)."""

    RESUME = "resume"
    """It reads what it missed from the log, at its own pace."""
    LATEST = "latest"
    """It goes on with what comes next, and is told of the gap."""
    DISCONNECT = "disconnect"
    """It is cut off, and may come back."""


class Next(Enum):
    """What a reader does next, if nothing is at hand for it."""

    WAIT = "wait"
    """It has everything."""
    SETTLE = "settle"
    """It has everything, but others are still being written to, or the log is being read."""
    READ = "read"
    """It reads the log for itself."""
    REFRESH = "refresh"
    """It reads the log for all."""
    CLOSED = "closed"
    """It has everything, and nothing more will come."""
    DELETED = "deleted"
    """The stream is gone."""


class ReadCursor:
    """One reader's position in a live stream.

    Args:
        hub: For the log.
        live: The stream.
        first: What it gets first; it has got nothing of that yet.
    """

    __slots__ = ("_hub", "closing", "created_at", "live", "offset", "told_up_to_date")

    def __init__(self, hub: Hub, live: LiveStream, first: Slice) -> None:
        self._hub = hub
        self.live = live
        self.created_at = first.info.created_at
        self.offset = first.start
        self.closing: Slice | None = None
        """The last part, if nothing more will come."""
        self.told_up_to_date = False

    def take(self, part: Slice) -> None:
        """It has got a part."""
        self.offset = part.end
        self.closing = part if part.closed else None
        self.told_up_to_date = part.up_to_date

    def take_all(self, missing: Entry | None) -> None:
        """It was written to, and has got everything from the first missing entry back."""
        live = self.live
        self.told_up_to_date = True
        if missing is not None:
            self.offset = missing.part.start
        else:
            assert live.tail.offset is not None
            self.offset = live.tail.offset
            self.closing = None if live.closing is None else live.closing.part

    def skip(self, gap: Gap) -> None:
        """It does not get what lies between."""
        self.offset = gap.end

    def to_latest(self) -> Gap | None:
        """What it would skip to be at the tail; None if that is not known, or it is there."""
        tail = self.live.tail.offset
        if tail is None or tail.position <= self.offset.position:
            return None
        return Gap(self.offset, tail)

    @property
    def behind_bytes(self) -> int:
        """Bytes of the stream that it has not got, as far as is known."""
        tail = self.live.tail.offset
        return 0 if tail is None else max(0, tail.position - self.offset.position)

    def next(self) -> Entry | Next:
        """What comes next for it."""
        live = self.live
        if self.closing is not None:
            return Next.CLOSED
        if live.tail.state is TailState.DELETED or self._is_of_another(live):
            return Next.DELETED
        tail = live.tail.offset
        if tail is None:
            return Next.READ
        entry = live.after(self.offset)
        if entry is not None:
            return entry
        return Next.READ if self.offset.position < tail.position else self._at_tail(tail)

    def _at_tail(self, tail: Offset) -> Entry | Next:
        live = self.live
        if live.tail.state is TailState.STALE:
            return Next.REFRESH
        if self.offset != tail or live.tail.state is TailState.REFRESHING:
            return Next.SETTLE  # it has read more than the others have been told
        if not self.told_up_to_date:
            assert live.tail.info is not None
            return Entry(Slice(live.tail.info, tail, ()), time.time())
        return Next.WAIT if live.broadcast.settled else Next.SETTLE

    async def read(self) -> Slice | Gap | None:
        """What follows in the log: to be taken, or skipped. None if nothing is new.

        Raises:
            StreamNotFound: The stream is gone.
        """
        try:
            found = await self._read(self.offset)
        except OffsetGone:
            found = await self._read(Mark.BEGINNING)
            self._check(found)
            return Gap(self.offset, found.start)
        except InvalidOffset:  # beyond the tail of another stream
            raise StreamNotFound(self.live.path) from None
        self._check(found)
        is_new = found.chunks or found.closed or (found.up_to_date and not self.told_up_to_date)
        return found if is_new else None

    def _check(self, found: Slice) -> None:
        if found.info.created_at != self.created_at:
            raise StreamNotFound(self.live.path)

    async def _read(self, where: Where) -> Slice:
        return await self._hub.read(self.live.path, where, limits.CATCH_UP_BYTES)

    def _is_of_another(self, live: LiveStream) -> bool:
        info = live.tail.info
        return info is not None and info.created_at != self.created_at
