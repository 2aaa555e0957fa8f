"""The way out of one connection: the transport, and its socket where that can be written directly.

A transport takes everything: it sends what fits into the socket and copies the rest. For a client
that stalls this holds each batch a second time. So bytes go to the socket first, and only when it
is full one piece of the rest goes to the transport, which then tells when the socket has room
again. What waits besides are views of the caller's own bytes: a message for a thousand clients is
held once, however many of them stall.

The transport's marks are set so that it is *paused* exactly while it holds anything. Thereby
"paused" is the one fact that orders everything: not paused, the socket may be written directly
(`sendfile` too) and nothing is overtaken.

The number of a descriptor that was closed is soon another client's. So only this class has
the number, and it uses it only while the connection is not lost: a loop tells so before it closes
the socket, and a connection that another protocol takes over is lost for this one as well.
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
except ImportError:  # Windows, where nobody writes to a socket by its number: see `uvicorn.py`
    pass

__all__ = ["Guest", "WriteBuffer"]

_MOST_PARTS = 64
"""Buffers in one `writev`; the kernel takes 1024, more than these are hardly ever there."""


class Guest(Protocol):
    """What uses the socket itself and must let go when the connection is lost."""

    def lost(self) -> None:
        """The connection is gone; called before its descriptor is closed."""


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
        """TLS: the client cannot end its side alone, and a close waits for its word."""
        self.direct = self._fd >= 0 and not self.encrypted
        """The bytes on the socket are the response's own: it may be written directly."""
        # Encrypted, everything goes out piece by piece: then by whole records.
        self._piece = limits.STALLED_PIECE_BYTES if self.direct else limits.WRITE_PIECE_BYTES
        self.paused = False
        """Something waits here for the client."""
        self.closed = False
        """The connection is lost."""
        self.aborted = False
        """The client was dropped by us."""
        self.cut_off: str | None = None
        """Why the client was dropped by us, in a word that was given for it."""
        self.dropped = False
        """The connection is lost or was aborted: nothing can be written any more.

        False where all was sent and we close in order."""
        self.given = 0
        """Bytes that the socket or the transport took, but for what the server wrote itself."""
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

        What is written to a connection that is closing goes nowhere. Whoever closes it in order
        waits first until nothing waits here (`on_drain`), as uvicorn's cycle does.
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
        """Write what the socket did not take, as soon as it does."""
        self._rest.extend(rest)
        self._rest_bytes += sum(map(len, rest))
        self._advance()

    def _advance(self) -> None:
        rest = self._rest
        while rest and not self.paused and not self.dropped:
            if self._transport.is_closing():
                # In order: what the transport has once, it sends before it closes.
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
            # A copy, so that the piece does not keep the whole message when the rest has gone.
            self._transport.write(bytes(piece))
            self._drop(len(piece))

    def write_whole(self, chunk: bytes) -> bool:
        """Write one part, where the socket may be written directly and nothing waits.

        What `write` does, without its detours: called for each client of each message.

        Returns:
            False if the client is gone.
        """
        if self.is_closing:
            return False
        try:
            sent = os.write(self._fd, chunk)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone; the response is told by the connection's loss
            self.abort()
            return False
        self.given += sent
        if sent != len(chunk):
            self.write_later(memoryview(chunk)[sent:])
        return True

    def sendfile(self, file: int, at: int, count: int) -> int:
        """Have the kernel send a part of a file, as much of it as the socket takes.

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
        """A descriptor of the same socket, the caller's to close.

        Raises:
            OSError: The client is gone.
        """
        return os.dup(self._descriptor())

    def register_in(self, epoll: select.epoll, events: int) -> None:
        """Have events of the socket told; the kernel tells of a loss in any case.

        Raises:
            OSError: The client is gone.
        """
        epoll.register(self._descriptor(), events)

    def _descriptor(self) -> int:
        """The socket's number, for one call of the system; nobody keeps it."""
        if self.is_closing:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection is closing")
        return self._fd

    def _send(self, parts: list[memoryview] | tuple[bytes, ...]) -> int:
        try:
            # One part is the usual, and `write` is the cheaper of the two. A transport that closes
            # in order keeps its socket until we are told that the connection is lost.
            fd = self._fd
            sent = os.write(fd, parts[0]) if len(parts) == 1 else os.writev(fd, parts)
        except BlockingIOError:
            return 0
        except OSError:  # the client is gone; whoever waits is told by the connection's loss
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

    # Told by the protocol

    def pause(self) -> None:
        """The transport holds bytes."""
        if not self.paused:
            self.paused = True
            self._paused_at = self._loop.time()
            self._seen = self.progress

    def resume(self) -> bool:
        """The transport holds nothing any more.

        Returns:
            True if nothing waits at all; False if the next piece of a rest does.
        """
        self.paused = False
        self._advance()
        if self.paused:
            return False
        self._call_all()
        return True

    def lose(self) -> None:
        """The connection is lost: closed, or taken over by another protocol. Once."""
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
        """Call once when nothing waits, or the connection is lost; soon if that is so now."""
        if self.closed or not (self.paused or self._rest):
            return self._loop.call_soon(call).cancel
        return _kept(call, self._calls)

    def on_lost(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when the connection is lost; soon if that is so now."""
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
        """Bytes of bodies that were taken for the client, whether it has them yet or not."""
        return self.given + self._rest_bytes

    @property
    def is_closing(self) -> bool:
        """Lost, or about to be."""
        return self.dropped or self._transport.is_closing()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait in this process."""
        if not self.paused:
            return self._rest_bytes
        return self._rest_bytes + self._transport.get_write_buffer_size()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client's side has not acknowledged."""
        return self.buffered_bytes + self._in_kernel()

    @property
    def progress(self) -> int:
        """Bytes that the client's side has acknowledged; never less than before.

        Status lines and headers are not counted, so while one is on its way this may stand still
        for as many bytes.
        """
        waiting = self._transport.get_write_buffer_size() if self.paused else 0
        self._progress = max(self._progress, self.given - waiting - self._in_kernel())
        return self._progress

    @property
    def stalled_since(self) -> float | None:
        """The loop's time since when nothing was acknowledged though something waits here."""
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
        """Drop the client at once, with all that waits for it here and in the kernel."""
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
    """Keep a call for later; what takes it back, as long as it is not due."""
    calls.append(call)

    def take_back() -> None:
        with suppress(ValueError):
            calls.remove(call)

    return take_back


def _without(parts: tuple[bytes, ...], count: int) -> list[memoryview]:
    """Views of what is left of the parts without their first bytes."""
    rest = []
    for part in parts:
        if count >= len(part):
            count -= len(part)
        else:
            rest.append(memoryview(part)[count:])
            count = 0
    return rest
