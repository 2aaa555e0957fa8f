"""Bytes that can be had in parts, wherever they are: generated, remote, in a database."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from tailrace.errors import InvalidChunk, WrongLength
from tailrace.runtime.loop import Loop
from tailrace.source.contained import Contained
from tailrace.source.file import Extent, Piece
from tailrace.source.iterate import Pinnable, Sink, Source, open_source

__all__ = ["RangeSource", "RangedSource"]


@runtime_checkable
class RangeSource(Protocol):
    """What `FileResponse` can send in place of a file, with ranges and conditions.

    It may also have `etag: str | None`, which must differ whenever the bytes do and may come
    without its quotes, and `last_modified: float | None`, seconds since the epoch. Without both, a
    client that comes back cannot know that it is still the same, and starts anew.
    """

    @property
    def size(self) -> int:
        """Bytes in all, 0 or more; asked for once in each request."""

    def read(self, start: int, stop: int) -> Iterable[bytes] | AsyncIterable[bytes]:
        """The bytes from `start` up to `stop`, which is not among them: exactly so many, in chunks.

        Called in the event loop, so it must not block; what it gives may, if it is a sync iterable
        (a generator), for that runs in a thread. It is closed as soon as it is not needed.
        """


class RangedSource:
    """A body of which the extents come from a `RangeSource`.

    Args:
        ranges: Where from.
        pieces: In the order of the body.
    """

    threaded = True
    spans = False

    def __init__(self, ranges: RangeSource, pieces: Sequence[Piece]) -> None:
        self._ranges = ranges
        self._pieces = pieces
        self._current: Source | None = None
        self._pins = False

    def pin_thread(self) -> None:
        """Read each extent in one thread."""
        self._pins = True

    async def run(self, sink: Sink, loop: Loop) -> None:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                if not sink.put(piece):
                    await sink.room()
            else:
                await self._run_extent(piece, sink, loop)

    async def close(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            await current.close()

    async def _run_extent(self, extent: Extent, sink: Sink, loop: Loop) -> None:
        counted = _Counted(sink, extent)
        with Contained():
            self._current = open_source(self._ranges.read(extent.start, extent.stop))
        if self._pins and isinstance(self._current, Pinnable):
            self._current.pin_thread()
        await self._current.run(counted, loop)
        counted.check_end()
        await self.close()


class _Counted:
    """A sink that takes exactly the bytes of an extent."""

    def __init__(self, sink: Sink, extent: Extent) -> None:
        self._sink = sink
        self._extent = extent
        self._given = 0
        self.room = sink.room
        self.room_in_thread = sink.room_in_thread
        self.in_line = sink.in_line

    def put(self, item: Any) -> bool:
        if not isinstance(item, (bytes, bytearray, memoryview)):
            raise InvalidChunk(item, "range", "bytes, bytearray or memoryview")
        data = bytes(item)  # a source may fill the same bytearray again
        self._given += len(data)
        if self._given > self._extent.size:
            raise WrongLength(self._extent.start, self._extent.stop, self._given)
        return self._sink.put(data) if data else True

    def check_end(self) -> None:
        if self._given < self._extent.size:
            raise WrongLength(self._extent.start, self._extent.stop, self._given)
