"""The last changes of a live stream, with what each format has made of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from tailrace import limits
from tailrace.connection import Frame
from tailrace.live.format import Format, Piece
from tailrace.store import Chunk, Offset, Slice

__all__ = ["Entry", "Recent", "after"]

_ENTRY_BYTES: Final = 1024
"""Bytes that an entry costs beside its data: its objects."""


class Entry:
    """One change, framed once for each format that was asked for.

    Args:
        piece: The change.
    """

    __slots__ = ("_frames", "piece", "size")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.size = _ENTRY_BYTES + sum(len(chunk.data) for chunk in piece.chunks)
        """Bytes that it holds, about."""
        self._frames: dict[Format, Frame | None] | None = None

    def frame(self, format: Format) -> Frame | None:  # noqa: A002 - the word for it
        """Its bytes; None if the format has none for it."""
        frames = self._frames
        if frames is None:
            frames = self._frames = {}
        elif format in frames:
            return frames[format]
        data = format.frame(self.piece)
        frame = frames[format] = Frame(data) if data else None
        if frame is not None:
            self.size += frame.size + len(data)
        return frame


class Recent:
    """Changes that follow each other without a gap, the last ones of a stream; bounded in bytes.

    What it holds is counted when the next change comes: until then formats are asked for.
    """

    __slots__ = ("_entries", "_sizes", "size")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self.size = 0
        """Bytes that are held, about, but for those of the newest."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Add what follows the last one, and let go of the oldest."""
        entries, sizes = self._entries, self._sizes
        if entries:
            sizes.append(entries[-1].size)
            self.size += sizes[-1]
        entries.append(entry)
        while sizes and self.size + entry.size > limits.RECENT_BYTES:
            entries.popleft()
            self.size -= sizes.popleft()

    def at(self, offset: Offset) -> Entry | None:
        """What follows an offset; an entry of its own for one that is within a change."""
        found = None
        for entry in reversed(self._entries):  # who asks is hardly ever far behind
            start = entry.piece.start
            if start == offset:
                found = entry
            elif start.position < offset.position:
                if found is None and offset.position < entry.piece.end.position:
                    return _rest(entry.piece, offset)
                break
        return found


def _rest(piece: Piece, offset: Offset) -> Entry:
    rest = Slice(piece.info, offset, after(piece.chunks, offset))
    return Entry(Piece(rest, piece.now))


def after(chunks: Sequence[Chunk], offset: Offset) -> tuple[Chunk, ...]:
    """What of some chunks follows an offset."""
    rest = []
    for chunk in chunks:
        left = chunk.end.position - offset.position
        if left >= len(chunk.data):
            rest.append(chunk)
        elif left > 0:
            rest.append(Chunk(chunk.data[-left:], chunk.end))
    return tuple(rest)
