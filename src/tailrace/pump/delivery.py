"""The sending half of a stream: batches from the buffer, each when the one before was taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio.lowlevel

from tailrace import limits
from tailrace.framing import Codec, Framing
from tailrace.pump.deadlines import Due
from tailrace.pump.sending import Head, Sending
from tailrace.source import Buffer, Span

__all__ = ["Delivery", "FinalBytes"]


@dataclass(frozen=True, slots=True)
class FinalBytes:
    """The end of a response.

    Args:
        frame: The last bytes; may be empty.
        error: None: the response ends in order. Otherwise it is left unfinished, so that the server
            cuts the connection and the client can tell.
    """

    frame: bytes
    error: BaseException | None = None


class Delivery:
    """Sends one stream.

    Args:
        sending: To the client.
        head: The start.
        buffer: Where frames come from.
        framing: For the heartbeat.
        make_codec: Makes the compressor, or None.
        time: The loop's clock.
    """

    __slots__ = (
        *("_buffer", "_codec", "_due", "_framing", "_head", "_look_at", "_make_codec", "_sending"),
        *("_tail", "_time", "started"),
    )

    def __init__(
        self,
        sending: Sending,
        head: Head,
        buffer: Buffer,
        framing: Framing,
        make_codec: Callable[[], Codec] | None,
        time: Callable[[], float],
    ) -> None:
        self._sending = sending
        self._head = head
        self._buffer = buffer
        self._framing = framing
        # A compressor holds tens of kilobytes: it is made with the first bytes.
        self._make_codec = make_codec
        self._codec: Codec | None = None
        self._time = time
        self._look_at = 0.0
        self._due = Due.NOTHING
        self._tail: FinalBytes | None = None
        self.started = False

    # Told from outside; each wakes `run`

    def send(self, due: Due) -> None:
        """Send what the clock asks for, unless something else is on its way."""
        self._due = due
        self._buffer.wake_consumer()

    def withhold(self) -> None:
        """Send no status line, if it has not begun: an ordinary error response goes out instead."""
        self._due = Due.NOTHING

    def finish(self, tail: FinalBytes) -> None:
        """Send what is still in the buffer, then the tail, and return."""
        self._tail = tail
        self._buffer.wake_consumer()

    def over(self) -> None:
        """Forget the tail: by its traceback, its error leads to the stream and so back to here."""
        self._tail = None

    # The loop

    async def run(self) -> None:
        """Send everything until the tail. Cancelled, it leaves the response unfinished."""
        buffer, sending = self._buffer, self._sending
        while not (buffer.has_items or self._due is Due.START or self._tail is not None):
            await buffer.ready()
        await self._start()
        while True:
            batch = buffer.take()
            if isinstance(batch, Span):
                await sending.write_span(batch)
            elif batch:
                await sending.write(batch if self._make_codec is None else self._encode(batch))
            elif self._tail is not None:
                break
            elif self._due is Due.HEARTBEAT:
                await sending.write(self._encode(self._framing.beat()))
            elif self._due is Due.PUSH:
                await sending.push()
            else:
                await buffer.ready()
                continue
            self._due = Due.NOTHING
            await self._look_for_cancellation()
        await self._end(self._tail)

    async def _look_for_cancellation(self) -> None:
        # A task that is woken in each turn of the loop is never found waiting, and so never
        # cancelled on asyncio, as long as `send` does not wait either.
        now = self._time()
        if now >= self._look_at:
            self._look_at = now + limits.TURN_BUDGET
            await anyio.lowlevel.checkpoint_if_cancelled()

    async def _start(self) -> None:
        self.started = True
        await self._sending.start(self._head.message())
        # A frame without bytes asks for the head to be sent now.
        asked = self._buffer.has_items or self._sending.clock.needs_push(self._time())
        if asked and not self._buffer.size:
            await self._sending.push()

    def _encode(self, data: bytes, *, more: bool = True) -> bytes:
        if self._make_codec is None:
            return data
        if self._codec is None:
            self._codec = self._make_codec()
        data = self._codec.compress(data) if data else b""
        return data if more else data + self._codec.finish()

    async def _end(self, tail: FinalBytes) -> None:
        if tail.error is None:
            await self._sending.write(self._encode(tail.frame, more=False), more=False)
            self._sending.finished = True
        else:
            await self._sending.write(self._encode(tail.frame))
            self._sending.finished = True
            await self._sending.send_unsendable(tail.error)
