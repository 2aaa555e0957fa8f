"""Whether the other threads of this process are at rest.

The theory. A thread blocks (in a lock, in `time.sleep`, in a read), or it runs, or it could run and
waits for a processor or for Python's lock. Only the first is rest. From inside Python the last two
look like the first, so the kernel is asked: each thread's state, and the nanoseconds that it has
run. If across a short sleep, which hands out Python's lock, no thread is running or waiting for a
disk and none has run, then all of them block, however loaded the machine is.

Where the kernel does not tell (not Linux), the place where each thread stands in its code has to
do, and a loaded machine may let this return too early.
"""

from __future__ import annotations

import os
import sys
import threading
import time

__all__ = ["let_threads_run"]

_NAP = 0.00005
"""Seconds of a look; what counts is that Python's lock is handed out meanwhile."""

_LONG_NAP = 0.001
"""The same where only the code's position tells."""

_HAS_SCHEDSTAT = os.path.exists("/proc/self/schedstat")

Activity = dict[int, tuple[str, str]]


def let_threads_run(until: float) -> None:
    """Block this thread while others run.

    Args:
        until: When to give up, by `time.monotonic`.
    """
    before = _activity()
    while before and time.monotonic() < until:
        time.sleep(_NAP if _HAS_SCHEDSTAT else _LONG_NAP)
        after = _activity()
        if after == before and not any(state in "RD" for state, _ in after.values()):
            return
        before = after


def _activity() -> Activity:
    """The state of each other thread, and something that changes when it runs."""
    me = threading.get_ident()
    others = [thread for thread in threading.enumerate() if thread.ident != me]
    if not others:
        return {}
    read = _by_kernel if _HAS_SCHEDSTAT else _by_position
    return {id(thread): read(thread) for thread in others}


def _by_kernel(thread: threading.Thread) -> tuple[str, str]:
    folder = f"/proc/self/task/{thread.native_id}"
    try:
        # The name in parentheses may hold anything; the state follows the last of them.
        state = _read(f"{folder}/stat").rpartition(")")[2].split()[0]
        ran = _read(f"{folder}/schedstat").split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X", ""  # it has just ended
    return state, ran


def _by_position(thread: threading.Thread) -> tuple[str, str]:
    frame = sys._current_frames().get(thread.ident or 0)
    return "S", "" if frame is None else f"{id(frame)} {frame.f_lasti}"


def _read(path: str) -> str:
    # Not `open`: this is done for every thread at every look.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1024).decode("latin-1")
    finally:
        os.close(descriptor)
