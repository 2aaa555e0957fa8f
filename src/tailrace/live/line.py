"""The line to one client: what is sent the ordinary way, how long that has waited, and its end."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from starlette.types import Message, Scope, Send

from tailrace.connection import (
    CONNECTION,
    Attached,
    Connection,
    Leaving,
    ServerConnection,
    attach_offer,
    counters,
    extensions_of,
)
from tailrace.pump import Unsendable, name_of
from tailrace.runtime import CancelOnce, Loop

__all__ = ["Line"]

T = TypeVar("T")


class Line:
    """A request's `send`, which another task can interrupt.

    Args:
        loop: The event loop.
        scope, send: ASGI's.
        leaving: Of the request.
    """

    __slots__ = ("_loop", "_scope", "_send", "_sending", "_since", "_unsent", "leaving", "lost")

    def __init__(self, loop: Loop, scope: Scope, send: Send, leaving: Leaving) -> None:
        self._loop = loop
        self._scope = scope
        self._send = send
        self._sending: CancelOnce | None = None
        self._since: float | None = None
        self._unsent: int | None = None
        self.leaving = leaving
        self.lost = False
        """The client has left, as `send` has told."""

    @property
    def name(self) -> str:
        """What log lines call the response."""
        return name_of(self._scope)

    @property
    def is_sending(self) -> bool:
        """Something waits for the client."""
        return self._sending is not None

    @property
    def connection(self) -> ServerConnection | None:
        """The connection, where the server lets it be seen."""
        offered: ServerConnection | None = extensions_of(self._scope).get(CONNECTION)
        return offered

    async def start(self, start: Message, data: bytes) -> Attached | None:
        """Send the start and the first bytes.

        Returns:
            The connection, if the server hands it over.
        """
        attached = None
        offer = attach_offer(self._scope)
        if offer is not None and data:
            attached = await self._through(offer.attach(self._send, start, data))
            counters.bytes_sent += len(data)
        else:
            await self._through(self._send(start))
            await self.send(data, more=True)
        return attached

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body."""
        await self._through(self._send(_body(data, more=more)))
        counters.bytes_sent += len(data)

    async def fail(self, error: Exception) -> NoReturn:
        """Leave the response unfinished, so that the client can tell."""
        if Connection(self._scope, self.leaving.receive, self._send).ends_in_order:
            with suppress(Exception):
                await self._send(_body(Unsendable(error), more=True))
        raise error

    def interrupt(self) -> None:
        """Wait no longer for what is being sent."""
        if self._sending is not None:
            self._sending.cancel()

    def abort(self, reason: str) -> None:
        """Drop the client, as far as the server lets us."""
        Connection(self._scope, self.leaving.receive, self._send).abort(reason)

    def stalled_since(self, now: float) -> float | None:
        """Since when the client has taken nothing though something waits for it."""
        connection = self.connection
        if connection is not None:
            return connection.stalled_since
        if self._since is not None:
            unsent = Connection(self._scope, self.leaving.receive, self._send).unsent
            if unsent is not None and unsent != self._unsent:
                if self._unsent is not None:
                    self._since = now
                self._unsent = unsent
        return self._since

    async def _through(self, sending: Awaitable[T]) -> T | None:
        self._since, self._unsent = self._loop.time(), None
        try:
            with self._loop.cancel_once() as self._sending:
                return await sending
        except Exception as error:
            if not await self.leaving.explains(error):
                raise
            self.lost = True
        finally:
            self._sending = self._since = None
        return None


def _body(data: Any, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
