"""What a stream sends, and in which order: the head, batches from the buffer, heartbeats, the tail.

It begins no task and waits for nothing but the client. Who drives it, and when, is the business of
the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tailrace import limits
from tailrace.framing import Codec, Framing
from tailrace.pump.deadlines import Due
from tailrace.pump.sending import Head, Sending
from tailrace.runtime import Loop
from tailrace.source import Buffer

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
        loop: The event loop.
    """

    __slots__ = (
        *("_buffer", "_codec", "_due", "_framing", "_head", "_loop", "_make_codec", "_sending"),
        *("_time", "busy", "started"),
    )

    def __init__(
        self,
        sending: Sending,
        head: Head,
        buffer: Buffer,
        framing: Framing,
        make_codec: Callable[[], Codec] | None,
        loop: Loop,
    ) -> None:
        self._sending = sending
        self._head = head
        self._buffer = buffer
        self._framing = framing
        # A compressor holds tens of kilobytes: it is made with the first bytes.
        self._make_codec = make_codec
        self._codec: Codec | None = None
        self._loop = loop
        self._time = loop.time
        self._due = Due.NOTHING
        self.busy = False
        """A batch is on its way; what is put meanwhile follows it."""
        self.started = False

    @property
    def has_work(self) -> bool:
        """Something can be sent."""
        return self._buffer.has_items or self._due is not Due.NOTHING

    def ask(self, due: Due) -> None:
        """Send what the clock asks for, unless something else goes out."""
        self._due = due

    async def send_ready(self) -> None:
        """Send what is there, until nothing is. Cancelled, it leaves the response unfinished."""
        buffer, sending = self._buffer, self._sending
        self.busy = True
        try:
            turn_ends = self._time() + limits.TURN_BUDGET
            if not self.started:
                if not self.has_work:
                    return
                await self._start()
            while True:
                batch = buffer.take()
                if batch:
                    await sending.write(batch if self._make_codec is None else self._encode(batch))
                elif self._due is Due.HEARTBEAT:
                    await sending.write(self._encode(self._framing.beat()))
                elif self._due is Due.PUSH:
                    await sending.push()
                else:
                    self._due = Due.NOTHING
                    return
                self._due = Due.NOTHING
                if self._time() >= turn_ends:
                    # Where `send` never waits, the others get their turn, and so does who cancels.
                    await self._loop.checkpoint()
                    turn_ends = self._time() + limits.TURN_BUDGET
        finally:
            self.busy = False

    async def finish(self, tail: FinalBytes) -> None:
        """Send what is still there, and the tail behind it."""
        buffer, sending = self._buffer, self._sending
        if not self.started:
            await self._start()
        rest = buffer.take()
        while buffer.has_items:
            await sending.write(self._encode(rest))
            rest = buffer.take()
        if tail.error is None:
            await sending.write(self._encode(rest + tail.frame, more=False), more=False)
            sending.finished = True
        else:
            await sending.write(self._encode(rest + tail.frame))
            sending.finished = True
            await sending.send_unsendable(tail.error)

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
