"""The sending half of the pump: batches from the buffer, out through ASGI's `send`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio.lowlevel
from starlette.types import Message, Scope, Send

from tailrace import limits
from tailrace.connection.stats import counters
from tailrace.framing import Codec, Framing
from tailrace.pump.deadlines import Deadlines
from tailrace.semantics import ResponseFields
from tailrace.source import Buffer, Span

__all__ = ["Delivery", "Head", "Tail", "Unsendable", "name_of"]


@dataclass(frozen=True, slots=True)
class Head:
    """The start of a response, decided before the first item is there.

    Args:
        status: The HTTP status.
        headers: Raw headers.
        name: What log lines call the stream; printable.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    name: str

    def message(self) -> Message:
        fields = ResponseFields(self.headers)
        return {"type": "http.response.start", "status": self.status, "headers": fields}


def name_of(scope: Scope) -> str:
    """What log lines call a response; printable, whatever the client sent."""
    return f"{scope.get('method', 'GET')} {ascii(scope.get('path', ''))[1:-1]}"


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a response.

    Args:
        frame: The last bytes; may be empty.
        complete: The response ends cleanly. False leaves it unfinished, so that the server cuts the
            connection and the client can tell.
        unsendable: Sent after the frame, where a middleware would end the response in order.
    """

    frame: bytes
    complete: bool
    unsendable: Unsendable | None = None


class Unsendable:
    """A body that raises an error in whoever looks at it.

    Starlette's BaseHTTPMiddleware learns too late that the application behind it has failed: by
    then it has ended the response in order. But it looks whether a body is empty before it passes
    it on, and so raises the source's own error while the response is still open.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __bool__(self) -> bool:
        raise self._error

    def __len__(self) -> int:
        raise self._error


class Delivery:
    """Sends one response, batch by batch, each when the one before was taken.

    Args:
        send: ASGI's.
        head: The start.
        buffer: Where frames come from.
        framing: For the heartbeat.
        make_codec: Makes the compressor, or None.
        deadlines: Told of each write.
        time: The loop's clock.
        wrote: Called after each write.
    """

    def __init__(
        self,
        send: Send,
        head: Head,
        buffer: Buffer,
        framing: Framing,
        make_codec: Callable[[], Codec] | None,
        deadlines: Deadlines,
        time: Callable[[], float],
        wrote: Callable[[], None],
    ) -> None:
        self._send = send
        self._head = head
        self._buffer = buffer
        self._framing = framing
        # A compressor holds tens of kilobytes: it is made with the first bytes.
        self._make_codec = make_codec
        self._codec: Codec | None = None
        self._deadlines = deadlines
        self._time = time
        self._wrote = wrote
        self._look_at = 0.0
        self._start_due = False
        self._push_due = False
        self._beat_due = False
        self._tail: Tail | None = None
        self.started = False
        self.finished = False

    # Told from outside; each wakes `run`

    def start_now(self) -> None:
        """Send the status line, though no item is there yet."""
        self._start_due = True
        self._buffer.wake_consumer()

    def withhold(self) -> None:
        """Send no status line, if it has not begun: an ordinary error response goes out instead."""
        self._start_due = False

    def push_head(self) -> None:
        """Send an empty body behind a head that went out alone."""
        self._push_due = True
        self._buffer.wake_consumer()

    def beat(self) -> None:
        """Send a heartbeat, unless something else is on its way."""
        self._beat_due = True
        self._buffer.wake_consumer()

    def finish(self, tail: Tail) -> None:
        """Send what is still in the buffer, then the tail, and return."""
        self._tail = tail
        self._buffer.wake_consumer()

    # The loop

    async def run(self) -> None:
        """Send everything until the tail. Cancelled, it leaves the response unfinished."""
        buffer = self._buffer
        while not (buffer.has_frames or self._start_due or self._tail is not None):
            await buffer.ready()
        await self._start()
        while True:
            batch = buffer.take()
            if isinstance(batch, Span):
                await self._write_span(batch)
            elif batch:
                await self._write(batch)
            elif self._tail is not None:
                break
            elif self._beat_due:
                await self._write(self._framing.beat())
            elif self._push_due:
                await self._push()
            else:
                await buffer.ready()
                continue
            self._beat_due = self._push_due = False
            await self._look_for_cancellation()
        await self._end(self._tail)
        self.finished = True

    async def _look_for_cancellation(self) -> None:
        # A task that is woken in each turn of the loop is never found waiting, and so never
        # cancelled on asyncio, as long as `send` does not wait either.
        now = self._time()
        if now >= self._look_at:
            self._look_at = now + limits.TURN_BUDGET
            await anyio.lowlevel.checkpoint_if_cancelled()

    async def _start(self) -> None:
        self.started = True
        self._deadlines.begun()
        self._deadlines.writing(0, self._time())
        await self._send(self._head.message())
        # A frame without bytes asks for the head to be sent now.
        asked = self._buffer.has_frames or self._deadlines.needs_push(self._time())
        if asked and not self._buffer.size:
            await self._push()
        self._deadlines.written(self._time())

    async def _push(self) -> None:
        # Some servers and middlewares keep the head back until a body comes.
        self._deadlines.pushed()
        self._deadlines.writing(0, self._time())
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        self._deadlines.written(self._time())

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        if self._make_codec is not None:
            self._codec, self._make_codec = self._make_codec(), None
        if self._codec is not None:
            data = self._codec.compress(data) if data else b""
            if not more:
                data += self._codec.finish()
        self._deadlines.writing(len(data), self._time())
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._deadlines.written(self._time())
        counters.bytes_sent += len(data)
        self._wrote()

    async def _write_span(self, span: Span) -> None:
        message = span.begin()
        self._deadlines.writing(len(span), self._time())
        try:
            await self._send(message)
        finally:
            span.end()
        self._deadlines.written(self._time())
        counters.bytes_sent += len(span)
        self._wrote()

    async def _end(self, tail: Tail) -> None:
        if tail.complete:
            await self._write(tail.frame, more=False)
            return
        await self._write(tail.frame)
        if tail.unsendable is not None:
            message = {"type": "http.response.body", "body": tail.unsendable, "more_body": True}
            # Raised here it met something else on its way; the response's own raise must do then.
            with suppress(Exception):
                await self._send(message)
