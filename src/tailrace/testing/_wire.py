"""The connection between an application and its client: the request, and a window of body bytes.

All of it is in one event loop: each change is made at once, and then wakes every task that waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.datastructures import Headers

from tailrace.testing._asgi import MessageOrder, ResponseStart
from tailrace.testing.errors import ClientGone, ProtocolViolation

__all__ = ["Outcome", "Sent", "Wire"]


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that the server took from the application.

    Args:
        time: Seconds since the exchange was opened, by the event loop's clock.
        message: A copy of the message.
    """

    time: float
    message: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The message's body; empty for one that has none."""
        body: bytes = self.message.get("body", b"")
        return body


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the application's call ended.

    Args:
        complete: It had sent its whole response, whether or not the client was still there.
        error: What it raised; or the first `ProtocolViolation` of `send()`, if it caught that.
    """

    complete: bool
    error: Exception | None = None

    @property
    def truncated(self) -> bool:
        """Whether it ended before it had sent its whole response."""
        return not self.complete


class Wire:
    """The connection of one request, with the application's end and the client's end.

    Args:
        request: The chunks of the request's body.
        order: Checks what the application sends.
        window_bytes: While more than this many bytes are unread, `send()` waits.
        raise_after_leave: `send()` raises `ClientGone` once the client has left; otherwise it
            drops the message.
    """

    def __init__(
        self,
        request: Iterable[bytes],
        order: MessageOrder,
        *,
        window_bytes: int,
        raise_after_leave: bool,
    ) -> None:
        self.start: ResponseStart | None = None
        self.unread = bytearray()
        self.ended = False
        self.left = False
        self.half_closed = False
        self.outcome: Outcome | None = None
        self.violation: ProtocolViolation | None = None
        self.sends: list[Sent] = []
        self.dropped = 0
        self.waiting_sends = 0
        self._order = order
        self._window_bytes = window_bytes
        self._raise_after_leave = raise_after_leave
        self._request = deque(request or [b""])
        self._opened_at = anyio.current_time()
        self._changed = anyio.Event()

    # The application's end -----------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        """The request's chunks; then, when the exchange is over for the server, `http.disconnect`.

        It is over when the client has left or shut its sending side, or when the response is
        complete (as in uvicorn).
        """
        if self._request and not self._over_for_server():
            body = self._request.popleft()
            return {"type": "http.request", "body": body, "more_body": bool(self._request)}
        await self.until(self._over_for_server)
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message.

        As in uvicorn, it waits while the window is full, and then takes a message of any size. If
        there is room, it does not yield to the event loop. So an application that waits for nothing
        else lets no other task run.
        """
        await self._room()
        if self.left and self._raise_after_leave:
            raise ClientGone("the client has left")
        try:
            body = self._order.accept(message)
        except ProtocolViolation as violation:
            self.violation = self.violation or violation
            raise
        if self.left:
            self.dropped += 1
            return
        self.sends.append(Sent(round(anyio.current_time() - self._opened_at, 9), dict(message)))
        self.start = self._order.start
        self.unread += body
        self.ended = self._order.complete
        self._tell()

    def finish(self, error: Exception | None, *, answer_errors: bool) -> None:
        """Record that the application's call has ended.

        Args:
            error: What it raised.
            answer_errors: Give the client a 500, as servers do, if no response was begun.
        """
        self.outcome = Outcome(self._order.complete, error or self.violation)
        if answer_errors and self.start is None and not self.left:
            self.start = ResponseStart(500, Headers({"content-type": "text/plain; charset=utf-8"}))
            self.unread += b"Internal Server Error"
            self.ended = True
        self._tell()

    async def _room(self) -> None:
        self.waiting_sends += 1
        try:
            await self.until(lambda: self.left or len(self.unread) <= self._window_bytes)
        finally:
            self.waiting_sends -= 1

    def _over_for_server(self) -> bool:
        return self.left or self.half_closed or self._order.complete

    # The client's end ----------------------------------------------------------------------------

    def take(self, most: int) -> bytes:
        """Take up to `most` of the unread bytes, which makes room in the window."""
        chunk = bytes(self.unread[:most])
        del self.unread[:most]
        self._tell()
        return chunk

    def leave(self) -> None:
        """Close the connection, as the client."""
        self.left = True
        self.unread.clear()
        self._tell()

    def half_close(self) -> None:
        """Shut the client's sending side."""
        self.half_closed = True
        self._tell()

    def nothing_follows(self) -> bool:
        """Whether no more bytes can come."""
        return self.ended or self.left or self.outcome is not None

    # Both ----------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; if it holds already, return without a checkpoint."""
        while not condition():
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
