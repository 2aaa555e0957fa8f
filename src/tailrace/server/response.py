"""The `send` of one response: it takes more messages than uvicorn's, which does all the rest.

It also hands the connection over to a response that asks for it (`tailrace.attach`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Message, Scope, Send

from tailrace import limits
from tailrace.connection import Attached, Frame, leads_to
from tailrace.pump import name_of
from tailrace.server.file_sending import FileSending
from tailrace.server.internals import CycleResponse
from tailrace.server.options import ServerOptions
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["PATHSEND", "ZEROCOPYSEND", "AttachedConnection", "ResponseSender"]

PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"

_OF_THE_BODY = frozenset(
    {b"content-encoding", b"content-length", b"content-type", b"transfer-encoding"}
)
"""Header fields that say how the body is written."""


class ResponseSender:
    """Sends the response to one request.

    Args:
        response: The server's record of the response.
        buffer: The connection's.
        loop: The event loop.
        options: The settings.
        scope: The request's.
    """

    __slots__ = (
        *("_attached", "_expected", "_loop", "_options", "_buffer", "_response", "_scope"),
        "_sending",
    )

    def __init__(
        self,
        response: CycleResponse,
        buffer: WriteBuffer,
        loop: asyncio.AbstractEventLoop,
        options: ServerOptions,
        scope: Scope,
    ) -> None:
        self._response = response
        self._buffer = buffer
        self._loop = loop
        self._options = options
        self._scope = scope
        self._sending = False
        self._attached: AttachedConnection | None = None
        self._expected: list[Message] | None = None

    async def send(self, message: Message) -> None:
        """ASGI's `send`.

        If it is cancelled while it sends a file, the connection is cut: nobody knows how much of
        the file the client has. Any other message is sent whole, or not at all.

        Raises:
            RuntimeError: A file is being sent, or the connection is attached.
            TransferFailed: A file could not be sent whole; the connection is cut.
        """
        kind = message["type"]
        if self._sending:
            raise RuntimeError(f"{kind!r} was sent while a file is being sent")
        if self._attached is not None and not self._attached.released:
            raise RuntimeError(f"{kind!r} was sent while the connection is attached")
        if self._expected and message is self._expected[0]:
            del self._expected[0]
        if kind == "http.response.body":
            await self._send_body(message)
        elif kind in (PATHSEND, ZEROCOPYSEND):
            self._sending = True
            try:
                await self._send_file(message)
            finally:
                self._sending = False
        else:
            await self._response.forward(self._response.head(message))

    # Bodies

    async def _send_body(self, message: Message) -> None:
        body = message.get("body", b"")
        size = len(body)
        if size > limits.WRITE_PIECE_BYTES and message.get("more_body") and self._takes(body):
            await self._send_large(body, size)
        else:
            # The last part goes this way also if it is large: the server buffers all of it, so that
            # closing the endpoint's dependencies does not wait for the client.
            await self._response.forward(message)
            self._buffer.given += size

    def _takes(self, body: bytes) -> bool:
        """Whether the server would write this body unchanged; HEAD and mistakes are left to it."""
        response = self._response
        if not response.started or response.complete or response.gone or response.is_head:
            return False
        room = response.room
        return type(body) is bytes and (room is None or len(body) <= room)

    async def _send_large(self, body: bytes, size: int) -> None:
        response = self._response
        if not await response.drained():
            return
        if response.room is None:
            self._buffer.write(b"%x\r\n" % size, body, b"\r\n")
        else:
            response.use(size)
            self._buffer.write(body)
        await response.drained()

    # Files

    async def _send_file(self, message: Message) -> None:
        response = self._response
        pathsend = message["type"] == PATHSEND
        more = not pathsend and bool(message.get("more_body"))
        if not response.started or response.complete:
            await response.forward(message)  # the server raises an error that says what is wrong
        elif response.gone:
            return
        elif response.is_head:
            await response.forward_body(b"", more=more)
        else:
            name = name_of(self._scope)
            files = FileSending(response, self._buffer, self._loop, self._options, name)
            if pathsend:
                await files.send_path(message["path"])
            else:
                at, count = message.get("offset"), message.get("count")
                await files.send_opened(message["file"], at, count, more=more)

    # Attaching

    async def attach(self, send: Send, start: Message, first: bytes) -> Attached | None:
        """Hand over the connection, as `tailrace.connection.AttachOffer` describes it.

        First, `send` must be wrapped only by functions that are known to leave bodies alone (see
        `connection/middleware.py`). Then the very objects that were sent must have arrived here,
        with the same status and the same header fields about the body.
        """
        passes = leads_to(send, self.send)
        said = _of_the_body(start)
        message: Message = {"type": "http.response.body", "body": first, "more_body": True}
        self._expected = [start, message]
        await send(start)
        await send(message)
        arrived = not self._expected and message["body"] is first and _of_the_body(start) == said
        self._expected = None
        response = self._response
        open_ended = response.started and not response.complete and response.room is None
        if not (passes and arrived and open_ended) or response.is_head or self._buffer.is_closing:
            return None
        self._attached = AttachedConnection(self._buffer)
        return self._attached


def _of_the_body(start: Message) -> list[object]:
    headers = start.get("headers", ())
    fields = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    return [start["status"], [field for field in fields if field[0] in _OF_THE_BODY]]


class AttachedConnection:
    """A `tailrace.connection.Attached` for one connection.

    Args:
        buffer: The connection's.
    """

    __slots__ = ("_buffer",)

    def __init__(self, buffer: WriteBuffer) -> None:
        self._buffer: WriteBuffer | None = buffer

    @property
    def released(self) -> bool:
        """The connection was given back."""
        return self._buffer is None

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._buffer is None else self._buffer.buffered_bytes

    @property
    def closed(self) -> bool:
        return self._buffer is None or self._buffer.is_closing

    def write(self, frame: Frame) -> bool:
        buffer = self._buffer
        if buffer is None or buffer.dropped:
            return False
        if buffer.paused or not buffer.direct:
            if buffer.buffered_bytes + frame.size > limits.ATTACH_BUFFER_BYTES and buffer.paused:
                return False
            buffer.write(frame.chunk)
            return True
        return buffer.write_whole(frame.chunk)

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._buffer is None:
            return asyncio.get_running_loop().call_soon(call).cancel
        return self._buffer.on_drain(call)

    def release(self) -> None:
        self._buffer = None
