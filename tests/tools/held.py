"""The descriptors and threads of a server's process, seen from outside."""

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
"""Seconds in which unused threads must end. Those for sources wait 10 s for work."""


def descriptors(pid: int) -> Counter[str]:
    """The targets of all open descriptors, counted; sockets and pipes are without their numbers."""
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed after the directory was read
            name = os.readlink(link).partition(":[")[0]
            # Not counted: the store opens its own files when it needs them.
            if "/.tailrace/" not in name:
                found[name] += 1
    return found


def threads(pid: int) -> int:
    count: int = psutil.Process(pid).num_threads()
    return count


@contextmanager
def descriptors_as_before(server: Running) -> Iterator[None]:
    """Check that the server soon has the same open descriptors after the block as before it."""
    with as_before(server, descriptors):
        yield


@contextmanager
def threads_as_before(server: Running) -> Iterator[None]:
    """Check that the server soon has as many threads after the block as before it."""
    with as_before(server, threads):
        yield


@contextmanager
def as_before(server: Running, look: Callable[[int], object]) -> Iterator[None]:
    process = psutil.Process(server.process.pid)
    # The server listens before its loop runs. When it has answered, all that it needs is open.
    logged(server)
    connected = partial(process.net_connections, "tcp")
    assert until(connected, lambda now: all(one.status == "LISTEN" for one in now))
    before = look(process.pid)
    yield
    after = until(partial(look, process.pid), lambda now: now == before, THREADS_END)
    assert after == before
