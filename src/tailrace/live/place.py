"""Where one reader is in a stream, and what comes next for it."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from tailrace import limits
from tailrace.errors import InvalidOffset, OffsetGone, StreamNotFound
from tailrace.live.format import Gap, Piece, Reason
from tailrace.live.live_stream import LiveStream
from tailrace.live.recent import Entry
from tailrace.store import Mark, Offset, Slice, Where

if TYPE_CHECKING:
    from tailrace.live.hub import Hub

__all__ = ["Next", "Place"]


class Next(Enum):
    """What a reader does next, if nothing is at hand for it."""

    WAIT = "wait"
    """It has everything."""
    SETTLE = "settle"
    """It has everything, but the others are still being written to."""
    READ = "read"
    """It reads the log for itself."""
    REFRESH = "refresh"
    """It reads the log for all."""
    CLOSED = "closed"
    """It has everything, and nothing more will come."""
    DELETED = "deleted"
    """The stream is gone."""


class Place:
    """One reader's place.

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
        self.closing: Piece | None = None
        """The last piece, if nothing more will come."""
        self.told_up_to_date = False

    def take(self, piece: Piece) -> None:
        """It has got a piece."""
        self.offset = piece.end
        self.closing = piece if piece.closed else None
        self.told_up_to_date = piece.up_to_date

    def take_all(self, missing: Entry | None) -> None:
        """It was written to, and has got everything but what is missing."""
        live = self.live
        assert live.tail is not None
        self.told_up_to_date = True
        if missing is not None:
            self.offset = missing.piece.start
        else:
            self.offset = live.tail
            self.closing = live.closing

    def skip(self, gap: Gap) -> None:
        """It does not get what lies between."""
        self.offset = gap.end

    def to_latest(self) -> Gap | None:
        """What it would skip to be at the tail; None if that is not known, or it is there."""
        tail = self.live.tail
        if tail is None or tail.position <= self.offset.position:
            return None
        return Gap(self.offset, tail)

    @property
    def behind_bytes(self) -> int:
        """Bytes of the stream that it has not got, as far as is known."""
        tail = self.live.tail
        return 0 if tail is None else max(0, tail.position - self.offset.position)

    def next(self) -> Entry | Next:
        """What comes next for it."""
        live = self.live
        if self.closing is not None:
            return Next.CLOSED
        if live.over is Reason.DELETED or self._is_of_another(live):
            return Next.DELETED
        tail = live.tail
        if tail is None:
            return Next.READ
        entry = None if live.recent is None else live.recent.at(self.offset)
        if entry is not None:
            return entry
        if self.offset.position < tail.position:
            return Next.READ
        if self.offset == tail and live.closing is not None:
            return Entry(Piece(Slice(live.closing.info, tail, ()), live.closing.now))
        return self._at_tail(tail)

    def _at_tail(self, tail: Offset) -> Entry | Next:
        live = self.live
        if live.stale and not live.refreshing:
            return Next.REFRESH
        if self.offset != tail or live.refreshing:
            return Next.SETTLE  # it has read more than the others have been told
        if not self.told_up_to_date:
            assert live.info is not None
            return Entry(Piece(Slice(live.info, tail, ()), time.time()))
        return Next.WAIT if live.crowd.settled else Next.SETTLE

    async def read(self) -> Piece | Gap | None:
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
        news = found.chunks or found.closed or (found.up_to_date and not self.told_up_to_date)
        return Piece(found, time.time()) if news else None

    def _check(self, found: Slice) -> None:
        if found.info.created_at != self.created_at:
            raise StreamNotFound(self.live.path)

    async def _read(self, where: Where) -> Slice:
        return await self._hub.read(self.live.path, where, limits.CATCH_UP_BYTES)

    def _is_of_another(self, live: LiveStream) -> bool:
        return live.info is not None and live.info.created_at != self.created_at
