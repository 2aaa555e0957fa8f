"""Sources: what yields the items of a stream, in a task or in threads, and is closed after it."""

from __future__ import annotations

from tailrace.source.base import Iteration, Pinnable, Sink, Source
from tailrace.source.buffer import Buffer, ByteQueue
from tailrace.source.file import Opener, OpenFile, open_file, read_at
from tailrace.source.iterate import AsyncSource, open_source
from tailrace.source.pieces import (
    Extent,
    FileBlocks,
    Piece,
    RangedSource,
    RangeSource,
)
from tailrace.source.sync import SyncSource, is_rewindable, iterate_in_threads

__all__ = [
    "AsyncSource",
    "Buffer",
    "ByteQueue",
    "Extent",
    "FileBlocks",
    "Iteration",
    "OpenFile",
    "Opener",
    "Piece",
    "Pinnable",
    "RangeSource",
    "RangedSource",
    "Sink",
    "Source",
    "SyncSource",
    "is_rewindable",
    "iterate_in_threads",
    "open_file",
    "open_source",
    "read_at",
]
