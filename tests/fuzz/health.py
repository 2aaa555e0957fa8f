"""Requests a page of a server again and again, from a process of its own, and measures the answers.

    python -m tests.fuzz.health HOST PORT PATH

It ends when its standard input ends, and prints the result as one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.rawhttp import ReplyError, request
from tests.servers import ROOT

__all__ = ["Health", "watched"]

PERIOD = 0.02
"""Seconds between two requests."""


@dataclass(slots=True)
class Health:
    """How the server has answered; filled when the block of `watched` has ended."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)
    p50_ms: float = 0
    p99_ms: float = 0
    worst_ms: float = 0


@contextlib.contextmanager
def watched(host: str, port: int, path: str) -> Iterator[Health]:
    """Request the page while the block runs."""
    command = [sys.executable, "-m", "tests.fuzz.health", host, str(port), path]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        health = Health()
        try:
            yield health
            said, _ = process.communicate("", timeout=30)
            for name, value in json.loads(said).items():
                setattr(health, name, value)
        finally:
            process.kill()


def ask(host: str, port: int, path: str) -> Health:
    """Request the page until standard input ends."""
    health, took = Health(), []
    while not select.select([sys.stdin], [], [], PERIOD)[0]:
        began = time.perf_counter()
        try:
            status = request(host, port, path).status
        except (OSError, ReplyError) as error:
            health.failed.append(f"{type(error).__name__}: {error}")
            continue
        took.append((time.perf_counter() - began) * 1000)
        if status != 200:
            health.failed.append(str(status))
    took.sort()
    health.asked = len(took)
    if took:
        health.p50_ms = took[len(took) // 2]
        health.p99_ms = took[min(len(took) - 1, len(took) * 99 // 100)]
        health.worst_ms = took[-1]
    return health


if __name__ == "__main__":
    found = ask(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    print(json.dumps({name: getattr(found, name) for name in Health.__slots__}))  # noqa: T201
