"""What yields, and who closes it."""

from tailrace.source.buffer import Buffer
from tailrace.source.call import call_in_thread
from tailrace.source.file import Extent, FileBlocks, Opener, OpenFile, Piece, open_file
from tailrace.source.iterate import (
    AsyncSource,
    Sink,
    Source,
    SyncSource,
    is_rewindable,
    open_source,
)
from tailrace.source.loop import Interruptible, Loop, Signal, current_loop
from tailrace.source.ranges import RangedSource, RangeSource
from tailrace.source.span import Span, SpanSource
from tailrace.source.threads import Threads, source_threads
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
    "is_rewindable",
    "open_file",
    "open_source",
    "source_threads",
    "stepper",
]
