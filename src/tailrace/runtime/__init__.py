"""What streaming needs of an event loop and of threads."""

from __future__ import annotations

from tailrace.runtime.call import call_in_thread
from tailrace.runtime.loop import Interruptible, Loop, Signal, context_for_thread, current_loop
from tailrace.runtime.single_flight import Flights
from tailrace.runtime.threads import (
    PinnedThread,
    Threads,
    Workers,
    file_threads,
    short_threads,
    source_threads,
)
from tailrace.runtime.turn import Rest, stepper
from tailrace.runtime.wheel import Wheel

__all__ = [
    "Flights",
    "Interruptible",
    "Loop",
    "PinnedThread",
    "Rest",
    "Signal",
    "Threads",
    "Wheel",
    "Workers",
    "call_in_thread",
    "context_for_thread",
    "current_loop",
    "file_threads",
    "short_threads",
    "source_threads",
    "stepper",
]
