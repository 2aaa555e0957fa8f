"""`tailrace demo` as a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import stop

__all__ = ["TAILRACE", "RunningDemo", "running_demo"]

TAILRACE = Path(sys.executable).with_name("tailrace")

START_DEADLINE = 20.0
"""Seconds in which the demo must print its address. It takes 1 s, and more on a busy machine."""


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """A demo that accepts connections.

    Attributes:
        said: Its first line on stdout.
        url: The address in that line, without a slash at its end.
    """

    process: subprocess.Popen[str]
    said: str
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextlib.contextmanager
def running_demo(port: int = 0, store: str | None = None) -> Iterator[RunningDemo]:
    """The demo while the block runs, on a free port unless one is given.

    Args:
        port: The port on which it listens; 0 is any free one.
        store: The URL of its store; None is a file that is deleted with it.

    Raises:
        RuntimeError: It ended, or printed nothing in time; the message has its output.
    """
    folder = tempfile.TemporaryDirectory(prefix="tailrace-demo-")
    store = store or f"sqlite:///{folder.name}/tour.db"
    process = subprocess.Popen(
        [TAILRACE, "demo", "--port", str(port), "--store", store],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_interruptible,
    )
    try:
        said = first_line(process)
        yield RunningDemo(process, said, next(word for word in said.split() if "://" in word))
    finally:
        stop(process)
        folder.cleanup()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _interruptible() -> None:
    # A job in the background of a shell ignores SIGINT, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    ready, _, _ = select.select([process.stdout], [], [], START_DEADLINE)
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        raise RuntimeError(f"the demo did not start: {process.stderr.read()}")
    return line
