"""Writing to one connection: by its transport, or directly to its socket where that is possible.

A transport takes all that is written: it sends what fits into the socket and copies the rest. So
for a client that stalls, each batch would be in memory twice. Here bytes go to the socket first.
When it is full, one piece of the rest goes to the transport, which then says when the socket has
room again. What is left waits as views of the caller's own bytes: a message for a thousand clients
is in memory once, however many of them stall.

The transport's marks are set so that it is *paused* exactly while it holds bytes. So while it is
not paused, the socket may be written directly (by `sendfile`, too), and no byte overtakes another.

The number of a closed descriptor is soon used for another client. So only this class has the
socket's number, and uses it only while the connection is not lost. A loop reports the loss before
it closes the socket, and a connection that another protocol takes over counts as lost here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from tailrace import limits
from tailrace.connection import reset

try:
    import fcntl
    import termios
except ImportError:  # Windows, where no `WriteBuffer` is made: see `internals.why_unknown`
    pass

__all__ = ["Guest", "WriteBuffer"]

_MOST_PARTS = 64
"""Buffers in one `writev`; the kernel takes 1024, but more than 64 hardly ever wait."""


class Guest(Protocol):
    """What has a duplicate of the socket, and must close it when the connection is lost."""

    def lost(self) -> None:
        """Close the duplicate: the connection is lost. Called before the socket is closed."""


class WriteBuffer:
    """Writes to one connection, without ever waiting.

    Args:
        transport: asyncio's or uvloop's.
        loop: The event loop.
    """

    __slots__ = (
        "_calls",
        "_fd",
        "_loop",
        "_losses",
        "_paused_at",
        "_piece",
        "_progress",
        "_rest",
        "_rest_bytes",
        "_seen",
        "_seen_at",
        "_transport",
        "aborted",
        "closed",
        "cut_off",
        "direct",
        "dropped",
        "encrypted",
        "given",
        "guest",
        "paused",
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        connection = transport.get_extra_info("socket")
        self._fd: int = -1 if connection is None else connection.fileno()
        self.encrypted = transport.get_extra_info("sslcontext") is not None
        """The connection has TLS: neither side can end alone, and a close waits for the client."""
        self.direct = self._fd >= 0 and not self.encrypted
        """The socket may be written directly, since no TLS is in between."""
        # Under TLS all bytes go through the transport, so a piece is a whole record.
        self._piece = limits.STALLED_PIECE_BYTES if self.direct else limits.WRITE_PIECE_BYTES
        self.paused = False
        """The transport holds bytes that wait for the client."""
        self.closed = False
        """The connection is lost."""
        self.aborted = False
        """The client was dropped by `abort`."""
        self.cut_off: str | None = None
        """The reason that `abort` was given."""
        self.dropped = False
        """The connection is lost or was aborted: nothing can be written any more.

        Still False while the server closes in order because all was sent."""
        self.given = 0
        """Bytes that the socket or the transport took, without uvicorn's own heads and framing."""
        self.guest: Guest | None = None
        self._rest: deque[memoryview] = deque()
        self._rest_bytes = 0
        self._progress = 0
        self._paused_at = self._seen_at = 0.0
        self._seen = 0
        self._calls: list[Callable[[], None]] = []
        self._losses: list[Callable[[], None]] = []
        # asyncio's TLS pauses at "as much as the mark", sockets at "more than": 0 would pause TLS
        # for ever.
        transport.set_write_buffer_limits(high=int(self.encrypted), low=0)

    # Writing

    def write(self, *parts: bytes) -> None:
        """Write all parts, now or as soon as the client takes them; they are not copied.

        If the connection is closing, nothing is written. To close in order, first wait until
        nothing is left here (`on_drain`), as uvicorn's cycle does.
        """
        if self.is_closing:
            return
        wanted = sum(map(len, parts))
        if self.direct and not self.paused and not self._rest:
            sent = self._send(parts)
            if sent < wanted:
                self.write_later(*_without(parts, sent))
        else:
            self.write_later(*(memoryview(part) for part in parts if part))

    def write_later(self, *rest: memoryview) -> None:
        """Write what the socket did not take as soon as it has room."""
        self._rest.extend(rest)
        self._rest_bytes += sum(map(len, rest))
        self._advance()

    def _advance(self) -> None:
        rest = self._rest
        while rest and not self.paused and not self.dropped:
            if self._transport.is_closing():
                # It closes in order: the transport sends all that it has before it closes.
                self._transport.write(b"".join(rest))
                self.given += self._rest_bytes
                self._drop(self._rest_bytes)
                return
            if self.direct:
                parts = [rest[at] for at in range(min(len(rest), _MOST_PARTS))]
                self._drop(self._send(parts))
                if not rest:
                    return
            piece = rest[0][: self._piece]
            self.given += len(piece)
            # Copied, so that the transport does not keep the whole message for this piece.
            self._transport.write(bytes(piece))
            self._drop(len(piece))

    def write_whole(self, chunk: bytes) -> bool:
        """Write one part to a socket that may be written directly, and for which nothing waits.

        A shorter `write`, as it is called for each client of each broadcast message.

        Returns:
            False if the client is gone.
        """
        if self.is_closing:
            return False
        try:
            sent = os.write(self._fd, chunk)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone; the response learns it from the connection's loss
            self.abort()
            return False
        self.given += sent
        if sent != len(chunk):
            self.write_later(memoryview(chunk)[sent:])
        return True

    def sendfile(self, file: int, at: int, count: int) -> int:
        """Have the kernel send a part of a file, as much of it as the socket takes now.

        Returns:
            Bytes that were sent.

        Raises:
            BlockingIOError: The socket is full.
            OSError: The client is gone, or the file cannot be read.
        """
        sent = os.sendfile(self._descriptor(), file, at, count)
        self.given += sent
        return sent

    def duplicate(self) -> int:
        """A second descriptor of the socket, which the caller must close.

        Raises:
            OSError: The client is gone.
        """
        return os.dup(self._descriptor())

    def register_in(self, epoll: select.epoll, events: int) -> None:
        """Have an epoll watch the socket for events; it always reports errors and hang-ups.

        Raises:
            OSError: The client is gone.
        """
        epoll.register(self._descriptor(), events)

    def _descriptor(self) -> int:
        """The socket's descriptor, for one system call: the caller must not keep it."""
        if self.is_closing:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection is closing")
        return self._fd

    def _send(self, parts: list[memoryview] | tuple[bytes, ...]) -> int:
        try:
            # One part is usual, and `write` costs less than `writev`. A transport that closes in
            # order keeps its socket until it reports that the connection is lost.
            fd = self._fd
            sent = os.write(fd, parts[0]) if len(parts) == 1 else os.writev(fd, parts)
        except BlockingIOError:
            return 0
        except OSError:  # the client is gone; all that wait learn it from the connection's loss
            self.abort()
            return 0
        self.given += sent
        return sent

    def _drop(self, count: int) -> None:
        rest = self._rest
        self._rest_bytes -= count
        while count:
            first = rest[0]
            if count < len(first):
                rest[0] = first[count:]
                return
            count -= len(rest.popleft())

    # Called by the protocol

    def pause(self) -> None:
        """Note that the transport holds bytes."""
        if not self.paused:
            self.paused = True
            self._paused_at = self._loop.time()
            self._seen = self.progress

    def resume(self) -> bool:
        """Note that the transport holds nothing any more, and write what waits here.

        Returns:
            True if nothing waits any more; False if the transport holds the next piece.
        """
        self.paused = False
        self._advance()
        if self.paused:
            return False
        self._call_all()
        return True

    def lose(self) -> None:
        """Note that the connection is lost: closed, or taken over by another protocol."""
        if self.closed:
            return
        self.closed = True
        self.dropped = True
        self._rest.clear()
        self._rest_bytes = 0
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.lost()
        self._call_all()
        losses, self._losses = self._losses, []
        for call in losses:
            self._loop.call_soon(call)

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when nothing waits, or the connection is lost; soon if that is so now.

        Returns what takes the call back."""
        if self.closed or not (self.paused or self._rest):
            return self._loop.call_soon(call).cancel
        return _kept(call, self._calls)

    def on_lost(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when the connection is lost; soon if that is so now.

        Returns what takes the call back."""
        if self.closed:
            return self._loop.call_soon(call).cancel
        return _kept(call, self._losses)

    def _call_all(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            self._loop.call_soon(call)

    # What can be seen

    @property
    def written_bytes(self) -> int:
        """Bytes of bodies that were accepted for the client; it need not have them yet."""
        return self.given + self._rest_bytes

    @property
    def is_closing(self) -> bool:
        """Whether the connection is lost, was aborted, or is being closed."""
        return self.dropped or self._transport.is_closing()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait in this process."""
        if not self.paused:
            return self._rest_bytes
        return self._rest_bytes + self._transport.get_write_buffer_size()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client's system has not acknowledged."""
        return self.buffered_bytes + self._in_kernel()

    @property
    def progress(self) -> int:
        """Bytes that the client's system has acknowledged; never less than before.

        Heads are not counted, so while one is on its way this may not grow for as many bytes.
        """
        waiting = self._transport.get_write_buffer_size() if self.paused else 0
        self._progress = max(self._progress, self.given - waiting - self._in_kernel())
        return self._progress

    @property
    def stalled_since(self) -> float | None:
        """The loop's time since when bytes wait and none was acknowledged; None if none wait."""
        if not self.paused:
            return None
        progress = self.progress
        if progress != self._seen:
            self._seen, self._seen_at = progress, self._loop.time()
        return max(self._paused_at, self._seen_at)

    def _in_kernel(self) -> int:
        if self._fd < 0 or self.closed:
            return 0
        try:
            answer = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:  # this platform cannot be asked
            return 0
        return int.from_bytes(answer, "little")

    # The end

    def abort(self, reason: str | None = None) -> None:
        """Drop the client at once, with all that waits for it here and in the kernel.

        Args:
            reason: A word for access logs: "stalled".
        """
        if self.dropped:
            return
        self.dropped = self.aborted = True
        self.cut_off = reason
        reset(self._transport)

    async def lost(self) -> None:
        """Wait until the connection is lost."""
        if not self.closed:
            lost = asyncio.Event()
            self.on_lost(lost.set)
            await lost.wait()


def _kept(call: Callable[[], None], calls: list[Callable[[], None]]) -> Callable[[], None]:
    """Add a call to `calls`, and give a function that takes it back until it is made."""
    calls.append(call)

    def take_back() -> None:
        with suppress(ValueError):
            calls.remove(call)

    return take_back


def _without(parts: tuple[bytes, ...], count: int) -> list[memoryview]:
    """Views of the parts without the first `count` bytes."""
    rest = []
    for part in parts:
        if count >= len(part):
            count -= len(part)
        else:
            rest.append(memoryview(part)[count:])
            count = 0
    return rest
