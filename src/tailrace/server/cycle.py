"""uvicorn's request-response cycle: what it is to us, and what it has for its transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["CycleResponse", "CycleTransport"]


_CLOSE = (b"connection", b"close")


class CycleTransport:
    """A transport whose `close` is a question to the protocol.

    uvicorn closes a connection behind its last response, which would reset one on which a body is
    still coming; and behind an application that fails after its response, which would cut the next
    one.

    Args:
        transport: The connection's.
        closes: Called with this one, in place of a close.
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
        """The connection is lost, or another protocol's. (They would refer to each other.)"""
        self._closes = None


class CycleResponse:
    """What `tailrace.server.response.Response` says, of uvicorn's cycle."""

    __slots__ = ("_cycle", "forward")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self.forward: Callable[[Any], Awaitable[None]] = cycle.send

    @property
    def started(self) -> bool:
        return self._cycle.response_started

    @property
    def complete(self) -> bool:
        return self._cycle.response_complete

    @property
    def gone(self) -> bool:
        return self._cycle.disconnected

    @property
    def is_head(self) -> bool:
        return self._cycle.scope["method"] == "HEAD"

    @property
    def room(self) -> int | None:
        return None if self._cycle.chunked_encoding else self._cycle.expected_content_length

    def head(self, message: Message) -> Message:
        cycle = self._cycle
        if not (cycle.waiting_for_100_continue and cycle.more_body):
            return message
        # It asked whether to send the body, and this is the answer. What comes next may be that
        # body, or the next request: nobody can tell (RFC 9110 10.1.1).
        fields = [field for field in message.get("headers", ()) if field != _CLOSE]
        return {**message, "headers": [*fields, _CLOSE]}

    def use(self, count: int) -> None:
        if not self._cycle.chunked_encoding:
            self._cycle.expected_content_length -= count

    async def drained(self) -> bool:
        flow = self._cycle.flow
        if flow.write_paused and not self._cycle.disconnected:
            await flow.drain()
        return not self._cycle.disconnected
