"""Counts work instead of time: a count is the same on a slow machine and on a busy one."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import apsw

__all__ = ["Steps", "lines", "steps"]


def lines(call: Callable[[], object]) -> int:
    """How many lines of Python a call executes. A line in a loop counts each time. The work of C
    code within a line does not count."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    gc.collect()
    gc.disable()  # it could run other code's finalizers within the call
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


@dataclass
class Steps:
    """What SQLite has done for a connection.

    Args:
        count: How many instructions SQLite's virtual machine has executed.
        commits: How many transactions ended with `COMMIT`.
    """

    count: int = 0
    commits: int = 0


@contextmanager
def steps(connection: apsw.Connection) -> Iterator[Steps]:
    """Count the instructions that SQLite executes within the block."""
    done = Steps()

    def note(event: dict[str, Any]) -> None:
        done.count += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]
        done.commits += event["sql"] == "COMMIT"

    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, note)
    try:
        yield done
    finally:
        connection.trace_v2(0, None)
