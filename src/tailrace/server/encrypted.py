"""The end of a connection under TLS.

TLS ends with a word from each side, and an event loop waits for the client's for half a minute.
A client that keeps its connections in a pool does not read while it has nothing to ask, so it says
none, and holds a server that stops. Nobody has to wait for that word: it only tells whether the
client had more to say.

Source: RFC 8446 6.1.
"""

from __future__ import annotations

import asyncio

from tailrace import limits
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["end_soon"]


def end_soon(
    buffer: WriteBuffer, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
) -> None:
    """See that a connection ends that is being closed, as soon as its client has all.

    Args:
        buffer: The way out; nothing is done where it is not encrypted.
        transport: It was told to close.
        loop: The event loop.
    """
    if buffer.encrypted:
        loop.call_later(limits.TLS_CLOSE_TIMEOUT, _end, buffer, transport, loop)


def _end(
    buffer: WriteBuffer, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
) -> None:
    if buffer.closed:
        return
    if buffer.unsent_bytes:  # the event loop's own time for this is still running
        end_soon(buffer, transport, loop)
    else:
        transport.abort()
