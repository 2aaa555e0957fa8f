"""What this package uses of uvicorn's internals, and which versions of uvicorn have it.

uvicorn's protocol calls `self.app(scope, receive, send)` with bound methods of its request-response
cycle. The cycle has the attributes that are named in `_CYCLE`, and waits for `flow.drain()` before
it writes. A new minor version of uvicorn is tested before it is added here."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import uvicorn
from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tailrace.connection import log

__all__ = ["CycleResponse", "CycleTransport", "Flow", "is_known", "why_unknown"]

OLDEST = (0, 40)
NEWEST = (0, 54)
"""The oldest and the newest minor version with which this file is tested."""

_CYCLE = frozenset(
    {
        *("chunked_encoding", "disconnected", "expected_content_length", "flow", "keep_alive"),
        *("more_body", "response_complete", "response_started", "scope", "transport"),
        "waiting_for_100_continue",
    }
)
_PROTOCOL = frozenset(
    {"app", "connections", "cycle", "loop", "scope", "server_state", "tasks", "transport"}
)
_CLOSE = (b"connection", b"close")


def why_unknown(version: str = uvicorn.__version__) -> str | None:
    """Why this uvicorn cannot be extended on this system; None if it can."""
    if not hasattr(os, "sendfile"):
        return "it runs on Windows"
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        oldest, newest = (".".join(map(str, end)) for end in (OLDEST, NEWEST))
        return f"it is version {version}, and {oldest} to {newest} were tested"
    made = (
        (HttpToolsProtocol, _PROTOCOL),
        (RequestResponseCycle, _CYCLE),
        (FlowControl, frozenset({"read_paused", "write_paused"})),
    )
    for kind, names in made:
        missing = names - set(kind.__init__.__code__.co_names)
        if missing:
            return f"its {kind.__name__} has no {', '.join(sorted(missing))}"
    return None


@cache
def is_known() -> bool:
    """Whether this uvicorn can be extended; if not, a warning is logged once."""
    reason = why_unknown()
    if reason is not None:
        log.warning(
            "tailrace.server does not know this uvicorn (%s): it serves as plain uvicorn does, "
            "without zero copy, attached streams and drain at shutdown",
            reason,
        )
    return reason is None


class Flow(FlowControl):
    """uvicorn's flow control; while we hold it, `receive` cannot make the connection read again."""

    held = False
    """Reading is paused by us: input that is not parsed yet is kept."""
    asked = False
    """Reading is paused by uvicorn: a large part of a body waits for the application."""

    def hold(self) -> None:
        self.held = True
        super().pause_reading()

    def let_go(self) -> None:
        self.held = False

    def pause_reading(self) -> None:
        self.asked = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self.asked = False
        self.resume_unless_asked()

    def resume_unless_asked(self) -> None:
        if not (self.held or self.asked):
            super().resume_reading()


class CycleTransport:
    """The transport that a cycle gets; its `close` calls the protocol instead.

    uvicorn closes a connection after its last response, which would reset it while a body is still
    coming; and after an application that fails behind its response, which would cut the next one.

    Args:
        transport: The connection's.
        closes: Called with this object instead of a close.
    """

    __slots__ = ("_closes", "is_closing", "write")

    def __init__(
        self, transport: asyncio.Transport, closes: Callable[[CycleTransport], None]
    ) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self._closes: Callable[[CycleTransport], None] | None = closes

    def close(self) -> None:
        if self._closes is not None:
            self._closes(self)

    def end(self) -> None:
        """Forget the protocol when the connection is lost or taken over: it refers to us, too."""
        self._closes = None


class CycleResponse:
    """The server's record of one response: the part of uvicorn's cycle that sending needs."""

    __slots__ = ("_cycle", "forward")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self.forward: Callable[[Any], Awaitable[None]] = cycle.send
        """The server's own `send`."""

    async def forward_body(self, body: bytes, *, more: bool) -> None:
        """Send a part of the body by the server's own `send`.

        Args:
            more: It is not the last part.
        """
        await self.forward({"type": "http.response.body", "body": body, "more_body": more})

    @property
    def started(self) -> bool:
        """The status line was sent."""
        return self._cycle.response_started

    @property
    def complete(self) -> bool:
        """The last message was sent."""
        return self._cycle.response_complete

    @property
    def gone(self) -> bool:
        """The connection is lost."""
        return self._cycle.disconnected

    @property
    def is_head(self) -> bool:
        """The request was HEAD: there is no body."""
        return self._cycle.scope["method"] == "HEAD"

    @property
    def room(self) -> int | None:
        """Bytes of the content-length that are still to be sent; None for a body in chunks."""
        return None if self._cycle.chunked_encoding else self._cycle.expected_content_length

    def head(self, message: Message) -> Message:
        """The start of a response as the server gets it, with `connection: close` if need be."""
        cycle = self._cycle
        if not (cycle.waiting_for_100_continue and cycle.more_body):
            return message
        # The client asked whether to send the body, and this is the answer. What comes next may be
        # that body or the next request: nobody can tell (RFC 9110 10.1.1).
        fields = [field for field in message.get("headers", ()) if field != _CLOSE]
        return {**message, "headers": [*fields, _CLOSE]}

    def use(self, count: int) -> None:
        """Count bytes of the body that were written past the server's `send`."""
        if not self._cycle.chunked_encoding:
            self._cycle.expected_content_length -= count

    async def drained(self) -> bool:
        """Wait until nothing is buffered for the client; False if it has left."""
        flow = self._cycle.flow
        if flow.write_paused and not self._cycle.disconnected:
            await flow.drain()
        return not self._cycle.disconnected
