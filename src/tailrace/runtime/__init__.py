"""What streaming needs of an event loop and of threads."""

from __future__ import annotations

from tailrace.runtime.descriptor import Descriptor
from tailrace.runtime.loop import (
    CancelOnce,
    Loop,
    Signal,
    Task,
    context_for_thread,
    current_loop,
)
from tailrace.runtime.single_flight import SingleFlight
from tailrace.runtime.threads import (
    PinnedThread,
    Threads,
    Workers,
    call_in_thread,
    file_threads,
    short_threads,
    source_threads,
)
from tailrace.runtime.timer_wheel import TimerWheel
from tailrace.runtime.turn import Rest, stepper

__all__ = [
    "CancelOnce",
    "Descriptor",
    "Loop",
    "PinnedThread",
    "Rest",
    "Signal",
    "SingleFlight",
    "Task",
    "Threads",
    "TimerWheel",
    "Workers",
    "call_in_thread",
    "context_for_thread",
    "current_loop",
    "file_threads",
    "short_threads",
    "source_threads",
    "stepper",
]
