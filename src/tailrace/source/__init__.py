"""What yields, and who closes it."""

from tailrace.source.buffer import Buffer
from tailrace.source.call import call_in_thread
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
from tailrace.source.loop import Interruptible, Loop, Signal, current_loop
from tailrace.source.ranges import RangedSource, RangeSource
from tailrace.source.span import Span, SpanSource
from tailrace.source.threads import Threads, file_threads, short_threads, source_threads
from tailrace.source.turn import Rest, stepper

__all__ = [
    "AsyncSource",
    "Buffer",
    "Extent",
    "FileBlocks",
    "Interruptible",
    "Loop",
    "OpenFile",
    "Opener",
    "Piece",
    "Pinnable",
    "RangeSource",
    "RangedSource",
    "Rest",
    "Signal",
    "Sink",
    "Source",
    "Span",
    "SpanSource",
    "SyncSource",
    "Threads",
    "call_in_thread",
    "current_loop",
    "file_threads",
    "is_rewindable",
    "iterate_in_threads",
    "open_file",
    "open_source",
    "read_at",
    "short_threads",
    "source_threads",
    "stepper",
]
