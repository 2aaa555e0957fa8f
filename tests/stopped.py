"""Processes that stand still while the test goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

__all__ = ["stop_without_lock"]


def stop_without_lock(pid: int, file: Path | str) -> None:
    """Stop a process while it does not hold the lock of a store: others would wait for it in vain.

    Args:
        pid: Of the process; SIGCONT lets it go on.
        file: Of the store.
    """
    import fcntl

    with open(f"{file}-lock", "rb") as lock:
        for _ in range(200):
            os.kill(pid, signal.SIGSTOP)
            _await_stop(pid)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(lock, fcntl.LOCK_UN)
            except BlockingIOError:
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.01)
            else:
                return
    raise AssertionError("it holds the lock all the time")


def _await_stop(pid: int) -> None:
    """Wait until each thread stands still: the signal reaches one that runs a moment later."""
    tasks = Path(f"/proc/{pid}/task")
    while any(_state(task) != "T" for task in tasks.iterdir()):
        time.sleep(0.001)


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]
