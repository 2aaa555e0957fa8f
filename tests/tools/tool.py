"""Programs that people use as clients, run as people run them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

__all__ = ["DEADLINE", "running", "tool", "until"]

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds for what takes a few seconds on an idle machine."""


def tool(name: str) -> str:
    """The path of a program.

    Raises:
        RuntimeError: It is not installed. The test is not skipped, because then nobody would know
            whether it passes.
    """
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed: sh scripts/install-test-packages.sh")
    return path


@contextlib.contextmanager
def running(name: str, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program while the block runs, with its stdout and stderr in one pipe."""
    process = subprocess.Popen(
        [tool(name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def until(look: Callable[[], T], good: Callable[[T], bool], seconds: float = DEADLINE) -> T:
    """Call `look` until its result is good or the time is over. Returns the last result."""
    deadline = time.monotonic() + seconds
    while not good(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen
