"""What sending needs of a server's own record of a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.types import Message

__all__ = ["Response", "body_message"]


class Response(Protocol):
    """A response as the server keeps it."""

    forward: Callable[[Any], Awaitable[None]]
    """The server's own `send`."""

    @property
    def started(self) -> bool:
        """The status line was sent."""

    @property
    def complete(self) -> bool:
        """The last message was sent."""

    @property
    def gone(self) -> bool:
        """The connection is lost."""

    @property
    def is_head(self) -> bool:
        """The request was HEAD: there is no body."""

    @property
    def room(self) -> int | None:
        """Bytes that the content-length leaves; None for a body in chunks."""

    def head(self, message: Message) -> Message:
        """What is given to the server, of a message that is no body: of the head."""

    def use(self, count: int) -> None:
        """So many bytes of the body were written past the server."""

    async def drained(self) -> bool:
        """Wait until nothing is buffered for the client; False if it has left."""


def body_message(body: bytes, *, more: bool) -> Message:
    """ASGI's message for a part of a body."""
    return {"type": "http.response.body", "body": body, "more_body": more}
