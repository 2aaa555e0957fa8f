"""What yields, and who closes it."""

from __future__ import annotations

from tailrace.source.buffer import Buffer
from tailrace.source.file import Extent, FileBlocks, Opener, OpenFile, Piece, open_file, read_at
from tailrace.source.iterate import (
    AsyncSource,
    Pinnable,
    Sink,
    Source,
    SyncSource,
    is_rewindable,
    iterate_in_threads,
    open_source,
)
from tailrace.source.ranges import RangedSource, RangeSource
from tailrace.source.span import Span, SpanSource

__all__ = [
    "AsyncSource",
    "Buffer",
    "Extent",
    "FileBlocks",
    "OpenFile",
    "Opener",
    "Piece",
    "Pinnable",
    "RangeSource",
    "RangedSource",
    "Sink",
    "Source",
    "Span",
    "SpanSource",
    "SyncSource",
    "is_rewindable",
    "iterate_in_threads",
    "open_file",
    "open_source",
    "read_at",
]
