"""Long-poll: an answer that waits until there is something to say.

It ends with the first of: data, the end of the stream, the time, the client's leaving, the
server's stopping. While it waits it holds its place among a stream's watchers, which goes with it.

Source: Durable Streams 5.7.
"""

from __future__ import annotations

import anyio
from starlette.types import Receive, Scope, Send

from tailrace.connection import Ending, OpenResponse
from tailrace.live import Hub
from tailrace.protocol.command import Get
from tailrace.protocol.options import ProtocolOptions
from tailrace.store import Slice, Where

__all__ = ["LongPoll"]


class LongPoll:
    """One long-poll.

    Args:
        hub: The live streams.
        command: What is to be read.
        options: How long it waits, and how much it gets.
        scope, receive, send: ASGI's.
    """

    __slots__ = ("_command", "_hub", "_options", "_response", "_waiting")

    lingers = 0.0
    """It answers at once when the server stops."""

    def __init__(
        self,
        hub: Hub,
        command: Get,
        options: ProtocolOptions,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._hub = hub
        self._command = command
        self._options = options
        self._response = OpenResponse(self, scope, receive, send)
        self._waiting = anyio.CancelScope()

    @property
    def left(self) -> bool:
        """The client has left."""
        return self._response.ending is Ending.LEFT

    def told(self) -> None:
        """The client has left, or the server stops: wait no longer."""
        self._waiting.cancel()

    async def run(self) -> Slice:
        """What there is, or comes: empty if nothing came in time.

        Raises:
            StreamNotFound: The stream is not there, or was deleted meanwhile.
        """
        live = self._hub.join(self._command.path)  # first: what is read is known to all who wait
        try:
            part = await self._read(self._command.where)
            if part.chunks or part.closed:
                return part
            async with self._response:
                part = await self._wait(part)
        finally:
            self._hub.leave(live)
        return part

    async def _read(self, where: Where) -> Slice:
        return await self._hub.read(self._command.path, where, self._options.read_bytes)

    async def _wait(self, part: Slice) -> Slice:
        self._waiting.deadline = anyio.current_time() + self._options.long_poll_timeout
        with self._waiting:
            while not part.chunks and not part.closed:
                await self._hub.wait(self._command.path, part.end)
                part = await self._read(part.end)
        return part
