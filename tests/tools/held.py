"""What a server's process holds, seen from outside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from tests.cli.running_serve import Running
from tests.tools.logged import logged
from tests.tools.tool import until

__all__ = ["descriptors_as_before", "threads_as_before"]

THREADS_END = 20.0
"""Seconds in which a thread ends that nobody needs; those of sources wait 10 s for work."""


def descriptors(pid: int) -> Counter[str]:
    """What each open descriptor leads to; sockets and pipes without their numbers."""
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since the directory was read
            name = os.readlink(link).partition(":[")[0]
            # The store of streams opens its readers when it needs them.
            if "/.tailrace/" not in name:
                found[name] += 1
    return found


def threads(pid: int) -> int:
    count: int = psutil.Process(pid).num_threads()
    return count


@contextmanager
def descriptors_as_before(server: Running) -> Iterator[None]:
    """After the block the server comes to have open what it had before it."""
    with as_before(server, descriptors):
        yield


@contextmanager
def threads_as_before(server: Running) -> Iterator[None]:
    """The same of its threads."""
    with as_before(server, threads):
        yield


@contextmanager
def as_before(server: Running, look: Callable[[int], object]) -> Iterator[None]:
    process = psutil.Process(server.process.pid)
    # It listens before its loop runs, and has all that it needs once it has answered.
    logged(server)
    connected = partial(process.net_connections, "tcp")
    assert until(connected, lambda now: all(one.status == "LISTEN" for one in now))
    before = look(process.pid)
    yield
    after = until(partial(look, process.pid), lambda now: now == before, THREADS_END)
    assert after == before
