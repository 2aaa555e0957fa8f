"""A server that runs `tests.apps.live`, and what its tests ask of it."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests import rawhttp
from tests.rawhttp import Connection, Reply
from tests.servers import RunningServer, ServerName

__all__ = ["DEADLINE", "LiveServer", "new_key", "wait_until"]

DEADLINE = 15.0
"""Seconds until what must happen has happened; far more than it takes, for a busy machine."""

POLL = 0.02
"""Seconds between two questions."""

_numbers = itertools.count()


def new_key(what: str = "request") -> str:
    """A name that no other request has."""
    return f"{what}-{os.getpid()}-{next(_numbers)}"


def wait_until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    """Ask until it holds.

    Raises:
        AssertionError: It did not within `DEADLINE`; the message is what `what` gives then.
    """
    deadline = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(what())
        time.sleep(POLL)


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running server and the application's record."""

    name: ServerName
    server: RunningServer

    def connect(
        self, path: str = "", *, receive_buffer: int | None = None, **request: Any
    ) -> Connection:
        """A connection; with a path, that was sent."""
        connection = Connection(
            self.server.host, self.server.port, timeout=DEADLINE, receive_buffer=receive_buffer
        )
        if path:
            connection.send(path, **request)
        return connection

    def request(self, path: str, **request: Any) -> Reply:
        """One request on a connection of its own."""
        return rawhttp.request(self.server.host, self.server.port, path, **request)

    def ask(self, path: str, *, method: str = "GET") -> Any:
        """One question about the application, answered in JSON."""
        reply = self.request(path, method=method)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def release(self, key: str) -> None:
        """Open the gate at which a source waits."""
        self.ask(f"/release?of={key}", method="POST")

    def entries(self, key: str) -> list[str]:
        """What was noted of a request, in order."""
        entries: list[str] = self.ask(f"/record?of={key}")["entries"]
        return entries

    def produced(self, key: str) -> int:
        """Items that were taken from a source."""
        count: int = self.ask(f"/record?of={key}")["produced"]
        return count

    def wait_for(self, key: str, entry: str) -> list[str]:
        """Wait until something was noted of a request; all its notes."""
        wait_until(
            lambda: entry in self.entries(key),
            lambda: f"{key} has no {entry!r} but {self.entries(key)} under {self.name}",
        )
        return self.entries(key)

    def wait_until_stalled(self, key: str) -> None:
        """Wait until a source that never waits is held up by its client."""
        seen = [-1, -2]

        def holds() -> bool:
            seen.append(self.produced(key))
            return seen[-1] > 0 and seen[-1] == seen[-2] == seen[-3]

        wait_until(holds, lambda: f"{key} is never held up: {seen[-1]} items")
