"""A stream as an iterator: piece by piece, as it grows."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from tailrace import limits
from tailrace.errors import StreamNotFound, TooSlow
from tailrace.live.format import Gap, Piece
from tailrace.live.place import Next, Place
from tailrace.live.recent import Entry
from tailrace.live.slow import Slow
from tailrace.runtime import current_loop
from tailrace.store import Offset, Where

if TYPE_CHECKING:
    from tailrace.live.hub import Hub

__all__ = ["Follower"]


class Follower:
    """Reads a stream from a place on; `Hub.follow` makes one.

    Used as `async with ... as pieces: async for piece in pieces`. Each item is a `Piece` with
    bytes, or a `Gap` where something was left out. It ends when the stream is closed and all of it
    was given. Between two items nothing is held for it: it reads what is recent, or the log.

    Args:
        hub: Whose stream.
        path: The stream.
        start: Where to begin.
        slow: What becomes of it when `limits.ATTACH_BUFFER_BYTES` are new at the tail since it was
            there.

    Raises:
        StreamNotFound: On entering, if there is none; later, when it was deleted.
        OffsetGone, InvalidOffset: On entering.
        StoreUnavailable: The store cannot read.
        TooSlow: `Slow.DISCONNECT`.
    """

    def __init__(self, hub: Hub, path: str, start: Where, slow: Slow = Slow.RESUME) -> None:
        self._hub = hub
        self._path = path
        self._start = start
        self._slow = slow
        self._changed = current_loop().signal()
        self._place: Place | None = None
        self._was_at_tail = False

    async def __aenter__(self) -> Self:
        live = self._hub.join(self._path)
        try:
            first = await self._hub.read(self._path, self._start, limits.CATCH_UP_BYTES)
        except BaseException:
            self._hub.leave(live)
            raise
        self._place = Place(self._hub, live, first)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.live.forget(self)
            self._hub.leave(place.live)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece | Gap:
        """The next piece; cancelled, it comes again."""
        place = self._place
        if place is None:
            raise RuntimeError("a follower is read inside `async with` it")
        while True:
            gap = self._too_slow(place)
            if gap is not None:
                return gap
            step = place.next()
            if isinstance(step, Entry):
                item: Piece | Gap | None = step.piece
            elif step is Next.READ:
                item = await place.read()
            else:
                await self._wait(place, step)
                continue
            if isinstance(item, Gap):
                place.skip(item)
                return item
            if item is not None:
                place.take(item)
                if item.chunks:
                    return item

    @property
    def offset(self) -> Offset:
        """Up to where everything was given."""
        assert self._place is not None
        return self._place.offset

    def wake(self) -> None:
        """Told by the stream."""
        self._changed.set()

    async def _wait(self, place: Place, step: Next) -> None:
        if step is Next.CLOSED:
            raise StopAsyncIteration
        if step is Next.DELETED:
            raise StreamNotFound(self._path)
        if step is Next.REFRESH:
            await place.live.refresh()
            return
        self._was_at_tail = True
        place.live.sleep(self)
        try:
            await self._changed.wait()
        except BaseException:
            place.live.forget(self)
            raise
        place.live.rise(self)

    def _too_slow(self, place: Place) -> Gap | None:
        if not self._was_at_tail or place.behind_bytes <= limits.ATTACH_BUFFER_BYTES:
            return None
        self._was_at_tail = False
        if self._slow is Slow.DISCONNECT:
            raise TooSlow(self._path, str(place.offset))
        gap = place.to_latest() if self._slow is Slow.LATEST else None
        if gap is not None:
            place.skip(gap)
        return gap
