"""The live streams of one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tailrace import limits
from tailrace.errors import StreamNotFound
from tailrace.live.follower import Follower
from tailrace.live.live_stream import LiveStream
from tailrace.live.slow import Slow
from tailrace.runtime import current_loop
from tailrace.runtime.single_flight import SingleFlight
from tailrace.runtime.timer_wheel import timer_wheel
from tailrace.store import Offset, Slice, Store, StreamInfo, Where

__all__ = ["Hub"]

_Known = tuple[LiveStream, Callable[[], None]]
"""A live stream, and what ends the watching."""


class Hub:
    """The streams of a store that are read live here: each is watched once, however many read it.

    It belongs to the event loop of its store. It holds nothing that would have to be closed: what
    is live ends with its readers.

    Args:
        store: Where the streams are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lives: dict[str, _Known] = {}
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
        waiter = _Waiter()
        try:
            while live.over is None and not waiter.woken:
                if live.tail is None or live.stale:
                    try:
                        info = await self._flights.do(path, partial(self._head, path))
                    except StreamNotFound:
                        return
                    if info.closed or info.tail.position > offset.position:
                        return
                elif live.tail.position > offset.position:
                    return
                live.sleep(waiter)
                await waiter.wait()
        finally:
            live.forget(waiter)
            self.leave(live)

    def follow(self, path: str, start: Where, *, slow: Slow = Slow.RESUME) -> Follower:
        """Read a stream piece by piece as it grows, until it is closed.

        ```
        async with hub.follow("ticker", Mark.TAIL) as pieces:
            async for piece in pieces: ...
        ```

        Args:
            path: The stream.
            start: Where to begin.
            slow: What becomes of an iterator that is too slow.
        """
        return Follower(self, path, start, slow)

    # For readers

    def join(self, path: str) -> LiveStream:
        """Hold on to a live stream; to be followed by `leave`."""
        known = self._lives.get(path)
        if known is None:
            live = LiveStream(path, current_loop(), timer_wheel(), self._refresh, self._retire)
            known = self._lives[path] = (live, self.store.watch(path, live.on_change))
        known[0].readers += 1
        return known[0]

    def leave(self, live: LiveStream) -> None:
        """Let go of it."""
        live.readers -= 1
        if not live.readers:
            self._retire(live)

    def _retire(self, live: LiveStream) -> None:
        known = self._lives.get(live.path)
        if known is not None and known[0] is live:
            del self._lives[live.path]
            known[1]()
            live.wheel.take_back(live)

    async def _read(self, path: str, where: Where, max_bytes: int) -> Slice:
        known = self._lives.get(path)
        doubts = 0 if known is None else known[0].doubts
        found = await self.store.read(path, where, max_bytes)
        self._learn(known, found, doubts)
        return found

    async def _head(self, path: str) -> StreamInfo:
        known = self._lives.get(path)
        doubts = 0 if known is None else known[0].doubts
        info = await self.store.head(path)
        self._learn(known, Slice(info, info.tail, ()), doubts)
        return info

    async def _refresh(self, path: str, offset: Offset) -> Slice:
        return await self.read(path, offset)

    def _learn(self, known: _Known | None, found: Slice, doubts: int) -> None:
        # Only what was read since the stream is watched: what came between would be missed.
        if known is not None and self._lives.get(known[0].path) is known:
            known[0].learn(found, doubts)


class _Waiter:
    """A task that waits for a change."""

    __slots__ = ("_changed", "woken")

    def __init__(self) -> None:
        self._changed = current_loop().signal()
        self.woken = False

    def wake(self) -> None:
        self.woken = True
        self._changed.set()

    async def wait(self) -> None:
        await self._changed.wait()
