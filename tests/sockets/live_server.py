"""A server that runs `tests.apps.live`, and the questions that tests ask of that application."""

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
"""Seconds that a test waits for something that must happen; long, because machines may be busy."""

POLL = 0.02
"""Seconds between two checks."""

_numbers = itertools.count()


def new_key(what: str = "request") -> str:
    """A name that no other request has, by which `tests.apps.live` keeps its record."""
    return f"{what}-{os.getpid()}-{next(_numbers)}"


def wait_until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait until `holds` returns True.

    Raises:
        AssertionError: It did not within `DEADLINE`; the message is the result of `what`.
    """
    deadline = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(what())
        time.sleep(POLL)


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running server, and what its application has recorded of each request."""

    name: ServerName
    server: RunningServer

    def connect(
        self, path: str = "", *, receive_buffer: int | None = None, **request: Any
    ) -> Connection:
        """A new connection. With a path, a request for it was sent."""
        connection = Connection(
            self.server.host, self.server.port, timeout=DEADLINE, receive_buffer=receive_buffer
        )
        if path:
            connection.send(path, **request)
        return connection

    def request(self, path: str, **request: Any) -> Reply:
        """Send one request on a connection of its own, and read the response."""
        return rawhttp.request(self.server.host, self.server.port, path, **request)

    def ask(self, path: str, *, method: str = "GET") -> Any:
        """Ask the application something that it answers in JSON."""
        reply = self.request(path, method=method)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def release(self, key: str) -> None:
        """Let the source of this request go on, which waits for it."""
        self.ask(f"/release?of={key}", method="POST")

    def entries(self, key: str) -> list[str]:
        """What the application has noted of a request, in order."""
        entries: list[str] = self.ask(f"/record?of={key}")["entries"]
        return entries

    def produced(self, key: str) -> int:
        """How many items were taken from the source of a request."""
        count: int = self.ask(f"/record?of={key}")["produced"]
        return count

    def wait_for(self, key: str, entry: str) -> list[str]:
        """Wait until `entry` was noted of a request. Returns all that was noted."""
        wait_until(
            lambda: entry in self.entries(key),
            lambda: f"{key} has no {entry!r} but {self.entries(key)} under {self.name}",
        )
        return self.entries(key)

    def wait_until_stalled(self, key: str) -> None:
        """Wait until the client holds up a source: three checks find the same number of items."""
        seen = [-1, -2]

        def holds() -> bool:
            seen.append(self.produced(key))
            return seen[-1] > 0 and seen[-1] == seen[-2] == seen[-3]

        wait_until(holds, lambda: f"{key} is never held up: {seen[-1]} items")
