"""Bodies that are put together from pieces: bytes, and extents of a file or of another source."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from tailrace.errors import InvalidChunk, WrongLength
from tailrace.runtime import Loop
from tailrace.source.base import Pinnable, Sink, Source
from tailrace.source.contained import Contained
from tailrace.source.file import OpenFile
from tailrace.source.iterate import open_source

__all__ = [
    "Extent",
    "FileBlocks",
    "Piece",
    "RangeSource",
    "RangedSource",
]


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of a file or of another source from `start` up to `stop` (exclusive)."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def cut(self, length: int) -> Iterator[Extent]:
        """The same bytes in extents of this length; the last one may be shorter."""
        for start in range(self.start, self.stop, length):
            yield Extent(start, min(start + length, self.stop))


Piece: TypeAlias = "bytes | Extent"
"""A part of a body: bytes as they are, or an extent of a file or of another source."""


class FileBlocks(Iterator[bytes]):
    """The pieces of a body as blocks, for a sync source.

    Args:
        file: The extents are read from it. `close` closes it.
        pieces: In the order of the body.
        block_bytes: Bytes that are read at a time, at most.
    """

    def __init__(self, file: OpenFile, pieces: Iterable[Piece], block_bytes: int) -> None:
        self._file = file
        self._pieces = deque(pieces)
        self._block_bytes = block_bytes

    def __next__(self) -> bytes:
        if not self._pieces:
            raise StopIteration
        piece = self._pieces.popleft()
        if isinstance(piece, bytes):
            return piece
        stop = min(piece.start + self._block_bytes, piece.stop)
        if stop < piece.stop:
            self._pieces.appendleft(Extent(stop, piece.stop))
        return self._file.read(piece.start, stop)

    def close(self) -> None:
        self._pieces.clear()
        self._file.close()


@runtime_checkable
class RangeSource(Protocol):
    """What `FileResponse` can send in place of a file, with ranges and conditions.

    It may also have two attributes. `etag: str | None`, with or without its quotes, must change
    whenever the bytes change. `last_modified: float | None` is in seconds since the epoch. If it
    has neither, a client that lost its connection cannot continue, and starts from the beginning.
    """

    @property
    def size(self) -> int:
        """The number of all bytes, 0 or more; read once in each request."""

    def read(self, start: int, stop: int) -> Iterable[bytes] | AsyncIterable[bytes]:
        """The bytes from `start` up to `stop` (exclusive), in chunks: exactly `stop - start` bytes.

        It is called in the event loop, so it must not block. If it returns a sync iterable (a
        generator), that is iterated in a thread and may block. What it returns is closed at the
        end.
        """


class RangedSource:
    """A body whose extents come from a `RangeSource`.

    Args:
        ranges: Its `read` is called once for each extent.
        pieces: In the order of the body.
    """

    threaded = True
    closed = False

    def __init__(self, ranges: RangeSource, pieces: Sequence[Piece]) -> None:
        self._ranges = ranges
        self._pieces = pieces
        self._current: Source | None = None
        self._pins = False

    def pin_thread(self) -> None:
        """Read each extent in one thread, its cleanup too. Call this before `run`."""
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
    """A sink that takes exactly the bytes of an extent; fewer or more raise `WrongLength`."""

    def __init__(self, sink: Sink, extent: Extent) -> None:
        self._sink = sink
        self._extent = extent
        self._given = 0
        self.room = sink.room
        self.room_in_thread = sink.room_in_thread
        self.in_line = sink.in_line
        self.source_waits = sink.source_waits
        self.changed = sink.changed
        self.wake = sink.wake
        self.interrupted = sink.interrupted

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
