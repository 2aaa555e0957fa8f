"""Long-poll: an answer that waits until there is something to say.

It ends with the first of: data, the end of the stream, the time, the client's leaving, the
server's stopping. While it waits it holds two tasks and its place among a stream's watchers, all of
which go with it.

Source: Durable Streams 5.7.
"""

from __future__ import annotations

import anyio
from starlette.types import Receive

from tailrace.errors import TailraceError
from tailrace.fanout import Hub
from tailrace.protocol.command import Read
from tailrace.protocol.options import ProtocolOptions
from tailrace.pump import Ending, Farewell, registered
from tailrace.store import Slice, Where

__all__ = ["LongPoll"]


class LongPoll:
    """One long-poll.

    Args:
        hub: The live streams.
        command: What is to be read.
        receive: ASGI's, to learn that the client leaves.
        options: How long it waits, and how much it gets.
    """

    __slots__ = ("_command", "_error", "_hub", "_options", "_receive", "_waiting", "left")

    def __init__(self, hub: Hub, command: Read, receive: Receive, options: ProtocolOptions) -> None:
        self._hub = hub
        self._command = command
        self._receive = receive
        self._options = options
        self._waiting = anyio.CancelScope()
        self._error: TailraceError | None = None
        self.left = False
        """The client has left."""

    async def run(self) -> Slice:
        """What there is, or comes: empty if nothing came in time.

        Raises:
            StreamNotFound: The stream is not there, or was deleted meanwhile.
        """
        live = self._hub.join(self._command.path)  # first: what is read is known to all who wait
        try:
            piece = await self._read(self._command.where)
            if piece.chunks or piece.closed:
                return piece
            with registered(self):
                async with anyio.create_task_group() as group:
                    group.start_soon(self._listen)
                    piece = await self._wait(piece)
                    group.cancel_scope.cancel()
        finally:
            self._hub.leave(live)
        if self._error is not None:
            raise self._error
        return piece

    @property
    def lingers(self) -> float:
        """It answers at once."""
        return 0.0

    def say_farewell(self, farewell: Farewell) -> None:
        """The server stops: answer now."""
        self._waiting.cancel()

    def end(self, ending: Ending) -> None:
        """The server stops: answer now."""
        self._waiting.cancel()

    async def _read(self, where: Where) -> Slice:
        return await self._hub.read(self._command.path, where, self._options.read_bytes)

    async def _wait(self, piece: Slice) -> Slice:
        self._waiting.deadline = anyio.current_time() + self._options.long_poll_timeout
        with self._waiting:
            try:
                while not piece.chunks and not piece.closed:
                    await self._hub.wait(self._command.path, piece.end)
                    piece = await self._read(piece.end)
            except TailraceError as error:
                self._error = error  # not through the task group, which would wrap it
        return piece

    async def _listen(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                break
        self.left = True
        self._waiting.cancel()
