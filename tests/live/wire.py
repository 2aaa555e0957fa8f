"""The client of a live response. A test tells it to stop reading, and to go on.

With `attach` it also does what our server protocol does: it hands the connection over, with the
same bound for bytes that wait. `waiting_bytes` are those; what the client has received is `body`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Send

from tailrace import limits
from tailrace.connection import ATTACH, CONNECTION, Attached, Frame
from tailrace.runtime import current_loop

__all__ = ["Wire"]


class Wire:
    """One request and its client.

    Args:
        app: The application that answers the request.
        attach: The server hands its connections over.
        path, method: Of the request.
        offered: The server gives the application its connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        attach: bool,
        path: str = "/",
        method: str = "GET",
        offered: bool = False,
    ) -> None:
        self._app = app
        self._loop = current_loop()
        self._attach = attach
        self._waiting = bytearray()
        self._reading = True
        self._left = anyio.Event()
        self._drained = anyio.Event()
        self._calls: list[Callable[[], None]] = []
        self._losses: list[Callable[[], None]] = []
        self._released = True
        self._asked = False
        self.task = anyio.CancelScope()
        """The scope of the request's task. A test cancels it, as a server does that stops."""
        self.body = bytearray()
        """What the client has received."""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.complete = False
        """The response is complete."""
        self.error: BaseException | None = None
        """What the application raised."""
        self.over = False
        """The application has returned, or raised."""
        self.aborted: str | None = None
        self.frames: list[Frame] = []
        """Frames that were written to the attached connection."""
        self.wakes = 0
        """How often the event loop has run the task."""
        self._stalled_since: float | None = None
        extensions: dict[str, Any] = {ATTACH: _Offer(self)} if attach else {}
        if offered:
            extensions[CONNECTION] = self
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [],
            "extensions": extensions,
        }

    async def run(self) -> None:
        """Run the application, as the request's task."""
        try:
            with self.task:
                await self._counted(self._app(self.scope, self._receive, self._send))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        finally:
            self.over = True

    @types.coroutine
    def _counted(self, call: Any) -> Generator[Any, Any, None]:
        take, value = call.send, None
        with suppress(StopIteration):
            while True:
                waiting = take(value)
                self.wakes += 1
                try:
                    take, value = call.send, (yield waiting)
                except BaseException as error:  # noqa: BLE001 - thrown into the call
                    take, value = call.throw, error

    # What the client does

    def stall(self) -> None:
        """Stop reading."""
        self._reading = False

    def go_on(self) -> None:
        """Read what waits, and go on reading."""
        self._reading = True
        self._take()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()
        losses, self._losses = self._losses, []
        for call in losses:
            self._loop.call_from_thread(call)
        self._stalled_since = None
        self._waiting.clear()
        self._take()

    @property
    def waiting_bytes(self) -> int:
        """How many bytes were written and not read yet."""
        return len(self._waiting)

    def _take(self) -> None:
        self.body += self._waiting
        self._waiting.clear()
        self._stalled_since = None
        self._drained.set()
        calls, self._calls = self._calls, []
        for call in calls:
            self._loop.call_from_thread(call)

    # What the server does

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        assert self._released, "an ordinary message while the connection is attached"
        assert not self.complete, "a message after the end"
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert self.status is not None
        await self._room()
        self._write(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        await self._room()

    async def _room(self) -> None:
        """Wait as uvicorn does: until no more bytes wait than the high-water mark."""
        most = 0 if self._attach else limits.ATTACH_BUFFER_BYTES
        if len(self._waiting) > most and not self._left.is_set():
            self._drained = anyio.Event()
            await self._drained.wait()

    def _write(self, data: bytes) -> None:
        if self._left.is_set():
            return
        self._waiting += data
        if self._reading:
            self._take()
        elif self._stalled_since is None and self._waiting:
            self._stalled_since = self._loop.time()

    # `tailrace.connection.Attached`

    @property
    def buffered_bytes(self) -> int:
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        return self._left.is_set() or self._released

    def write(self, frame: Frame) -> bool:
        assert not self._released
        if self._left.is_set():
            return False
        if self._waiting and len(self._waiting) + frame.size > limits.ATTACH_BUFFER_BYTES:
            return False
        self.frames.append(frame)
        self._write(frame.data)
        return True

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        if not self._waiting:
            self._loop.call_from_thread(call)
            return lambda: None
        self._calls.append(call)
        return lambda: self._calls.remove(call) if call in self._calls else None

    def release(self) -> None:
        self._released = True

    # `tailrace.connection.ServerConnection`

    def on_lost(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._left.is_set():
            self._loop.call_from_thread(call)
            return lambda: None
        self._losses.append(call)
        return lambda: self._losses.remove(call) if call in self._losses else None

    @property
    def stalled_since(self) -> float | None:
        return self._stalled_since

    @property
    def progress(self) -> int:
        return len(self.body)

    @property
    def lost(self) -> bool:
        return self._left.is_set()

    def abort(self, reason: str | None = None) -> None:
        self.aborted = reason or "aborted"
        self.leave()


class _Offer:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def attach(self, send: Send, start: Message, first: bytes) -> Attached | None:
        assert first
        await send(start)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        self._wire._released = False
        return self._wire
