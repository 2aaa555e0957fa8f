"""What yields, and who closes it."""

from tailrace.source.buffer import Buffer
from tailrace.source.iterate import AsyncSource, Sink, Source, SyncSource, open_source
from tailrace.source.loop import Interruptible, Loop, Signal, current_loop
from tailrace.source.threads import Threads, source_threads
from tailrace.source.turn import Rest, stepper

__all__ = [
    "AsyncSource",
    "Buffer",
    "Interruptible",
    "Loop",
    "Rest",
    "Signal",
    "Sink",
    "Source",
    "SyncSource",
    "Threads",
    "current_loop",
    "open_source",
    "source_threads",
    "stepper",
]
