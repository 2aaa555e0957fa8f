"""What an application under test records of its sources; a test reads it over HTTP.

Each request has a key, `?key=`. Its source notes "started" and "closed" under that key. The
application around it notes "returned" when the call of the response is over, and with `&watch=1`
also "client gone". So a test sees the order in which these happened. A source waits at the gate of
the same key until the test opens it.
"""

from __future__ import annotations

import contextvars
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace.connection import leaving_of

__all__ = ["Gate", "Gates", "Record", "Recorded", "gates", "record", "recorded"]

GATE_SECONDS = 60.0
"""Seconds after which a gate opens by itself, so that a failed test leaves no thread behind."""


class Record:
    """What happened to each key, in order."""

    def __init__(self) -> None:
        self.entries: defaultdict[str, list[str]] = defaultdict(list)
        self.produced: defaultdict[str, int] = defaultdict(int)

    def note(self, key: str, entry: str) -> None:
        self.entries[key].append(entry)

    def count(self, key: str) -> None:
        """Count one more item of the source."""
        self.produced[key] += 1


class Gate:
    """Something that tasks and threads can wait for. It is opened in the event loop."""

    def __init__(self) -> None:
        self._for_threads = threading.Event()
        self._for_tasks = anyio.Event()

    def open(self) -> None:
        self._for_threads.set()
        self._for_tasks.set()

    def wait_in_thread(self) -> None:
        self._for_threads.wait(GATE_SECONDS)

    async def wait(self) -> None:
        with anyio.move_on_after(GATE_SECONDS):
            await self._for_tasks.wait()


class Gates:
    """The gates by key; each is made at its first use."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}

    def of(self, key: str) -> Gate:
        return self._gates.setdefault(key, Gate())


record = Record()
gates = Gates()
request_key: contextvars.ContextVar[str] = contextvars.ContextVar("request_key", default="")


class Recorded:
    """A middleware that notes "returned" (and "client gone") for each request with a key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = parse_qs(scope.get("query_string", b"").decode())
        if "key" not in query:
            await self._app(scope, receive, send)
            return
        key = query["key"][0]
        request_key.set(key)
        try:
            if "watch" in query:
                async with leaving_of(scope, receive, send) as leaving:
                    leaving.on_left(partial(record.note, key, "client gone"))
                    await self._app(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            record.note(key, "returned")


@contextmanager
def recorded(key: str, *, in_task: bool) -> Iterator[None]:
    """Notes "started", and "closed" at the end; "closed elsewhere" in another task or context."""
    record.note(key, "started")
    began = place(in_task=in_task)
    try:
        yield
    finally:
        same = place(in_task=in_task) == began and request_key.get() == key
        record.note(key, "closed" if same else "closed elsewhere")


def place(*, in_task: bool) -> Any:
    return anyio.get_current_task().id if in_task else None
