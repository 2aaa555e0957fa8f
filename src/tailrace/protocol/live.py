"""Long-poll: an answer that waits until there is something to say.

It ends with the first of: data, the end of the stream, the time, the client's leaving, the
server's stopping. While it waits it holds its place among a stream's watchers, which goes with it.

Source: Durable Streams 5.7.
"""

from __future__ import annotations

import anyio

from tailrace.connection import Ending, Farewell, Leaving, registered
from tailrace.live import Hub
from tailrace.protocol.command import Read
from tailrace.protocol.options import ProtocolOptions
from tailrace.store import Slice, Where

__all__ = ["LongPoll"]


class LongPoll:
    """One long-poll.

    Args:
        hub: The live streams.
        command: What is to be read.
        leaving: Of the request.
        options: How long it waits, and how much it gets.
    """

    __slots__ = ("_command", "_hub", "_leaving", "_options", "_waiting", "left")

    def __init__(self, hub: Hub, command: Read, leaving: Leaving, options: ProtocolOptions) -> None:
        self._hub = hub
        self._command = command
        self._leaving = leaving
        self._options = options
        self._waiting = anyio.CancelScope()
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
            async with self._leaving:
                take_back = self._leaving.on_left(self._has_left)
                try:
                    with registered(self):
                        piece = await self._wait(piece)
                finally:
                    take_back()
        finally:
            self._hub.leave(live)
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
            while not piece.chunks and not piece.closed:
                await self._hub.wait(self._command.path, piece.end)
                piece = await self._read(piece.end)
        return piece

    def _has_left(self) -> None:
        self.left = True
        self._waiting.cancel()
