"""Sending files as a response's body: by the kernel where possible, by ordinary reads elsewhere."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tailrace import limits
from tailrace.connection import log
from tailrace.errors import TransferFailed
from tailrace.pump import StallClock
from tailrace.runtime import Descriptor, call_in_thread, file_threads
from tailrace.server.internals import CycleResponse
from tailrace.server.options import ServerOptions
from tailrace.server.transfer import ZERO_COPY, Transfer
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["FileSending", "open_path", "read", "read_cached"]


class FileSending:
    """Sends files as the body of one response, or as parts of its body.

    If anything fails, or the task is cancelled, the connection is cut: a file is never padded, and
    never ended as if it were complete.

    Args:
        response: The server's record of the response.
        buffer: The connection's.
        loop: The event loop.
        options: The settings.
        name: What log lines call the response.
    """

    __slots__ = ("_buffer", "_loop", "_name", "_options", "_response")

    def __init__(
        self,
        response: CycleResponse,
        buffer: WriteBuffer,
        loop: asyncio.AbstractEventLoop,
        options: ServerOptions,
        name: str,
    ) -> None:
        self._response = response
        self._buffer = buffer
        self._loop = loop
        self._options = options
        self._name = name

    async def send_path(self, path: str) -> None:
        """Send a whole file by its path, and end the response.

        If the file is longer than the content-length, the rest is left out.

        Raises:
            TransferFailed: The file cannot be opened or read, or is shorter than the
                content-length.

        Source: ASGI extensions, Path Send.
        """
        try:
            file = await open_path(path)
        except OSError as error:
            self._buffer.abort()
            raise TransferFailed(path, str(error), 0) from error
        try:
            await self._send(file, None if file.size is None else 0, None, more=False)
        finally:
            file.close()

    async def send_opened(
        self, file: Any, offset: int | None, count: int | None, *, more: bool
    ) -> None:
        """Send an open file, or a part of it; the caller closes it.

        Args:
            file: A descriptor, or a file object that has one.
            offset: Where to begin; None begins at the file's own position, and moves it.
            count: Bytes; None sends up to the end, or as much as the content-length allows.
            more: The response goes on after this file.

        Raises:
            TransferFailed: The file cannot be read, or is shorter than `count` or the
                content-length.
            RuntimeError: `count` is more than the content-length allows.

        Source: ASGI extensions, Zero Copy Send.
        """
        descriptor = file if isinstance(file, int) else file.fileno()
        name = f"descriptor {descriptor}"
        try:
            opened = Descriptor(descriptor, name, borrowed=True)
        except OSError as error:
            self._buffer.abort()
            raise TransferFailed(name, str(error), 0) from error
        moves = offset is None and opened.size is not None
        try:
            at = _position(file) if moves else offset
            sent = await self._send(opened, at, count, more=more)
            if moves:
                _move(file, sent)
        finally:
            opened.close()

    async def _send(
        self, file: Descriptor, at: int | None, count: int | None, *, more: bool
    ) -> int:
        """Send, and return how many bytes of the file were sent."""
        try:
            with _StallWatch(self._buffer, self._loop, self._options.send_timeout, self._name):
                if not await self._response.drained():
                    return 0
                if file.size is None or at is None:
                    return await self._send_unsized(file, at, count, more=more)
                return await self._send_sized(file, at, self._size(file, at, count, more), more)
        except BaseException:
            self._buffer.abort()
            raise

    def _size(self, file: Descriptor, at: int, count: int | None, more: bool) -> int:
        """How many bytes to send, checked against the file's size and the content-length."""
        assert file.size is not None
        there, room = max(file.size - at, 0), self._response.room
        size = there if count is None else count
        if room is not None and count is None:
            size = min(size, room)
        if size > there:
            raise TransferFailed(
                file.name, f"{size} bytes were asked for, but the file has only {there} there", 0
            )
        if room is not None and size > room:
            raise RuntimeError("Response content longer than Content-Length")
        if room is not None and size < room and not more:
            raise TransferFailed(
                file.name,
                f"the content-length is {room} bytes, but the file has only {size} there",
                0,
            )
        return size

    # A regular file

    async def _send_sized(self, file: Descriptor, at: int, size: int, more: bool) -> int:
        response, buffer = self._response, self._buffer
        data = read_cached(file.fileno(), size, at) if size <= limits.SMALL_FILE_BYTES else None
        if data is not None or not size:
            await response.forward_body(data or b"", more=more)
            buffer.given += size
            return size
        in_chunk = response.room is None
        if in_chunk:
            buffer.write(b"%x\r\n" % size)
        if await response.drained():
            await self._send_bytes(file, at, size)
        if await self._has_left():
            return size
        if in_chunk:
            buffer.write(b"\r\n")
        response.use(size)
        await response.forward_body(b"", more=more)
        return size

    async def _send_bytes(self, file: Descriptor, at: int, size: int) -> None:
        stop = at + size
        if self._buffer.direct and ZERO_COPY:
            transfer = Transfer(self._buffer, file, at, stop, self._loop)
            if await transfer.run():
                return
            at = transfer.at
        start = at
        while at < stop and not self._response.gone:
            data = await self._read(file, at, min(limits.COPY_BYTES, stop - at), at - start)
            if not data:
                raise TransferFailed(file.name, f"it ends at byte {at}", at - start)
            self._buffer.write(data)
            at += len(data)
            await self._response.drained()

    # What has no size: a pipe, a terminal, a device

    async def _send_unsized(
        self, file: Descriptor, at: int | None, count: int | None, *, more: bool
    ) -> int:
        response, sent = self._response, 0
        while count is None or sent < count:
            room = response.room
            if room == 0 or response.gone:
                break
            wanted = limits.COPY_BYTES if room is None else min(limits.COPY_BYTES, room)
            if count is not None:
                wanted = min(wanted, count - sent)
            data = await self._read(file, None if at is None else at + sent, wanted, sent)
            if not data:
                break
            await response.forward_body(data, more=True)
            sent += len(data)
        if await self._has_left():
            return sent
        missing = count is not None and sent < count
        if missing or (response.room and not more):
            raise TransferFailed(file.name, f"it ends after {sent} bytes", sent)
        await response.forward_body(b"", more=more)
        return sent

    async def _read(self, file: Descriptor, at: int | None, count: int, sent: int) -> bytes:
        try:
            return await read(file, at, count)
        except OSError as error:
            raise TransferFailed(file.name, str(error), sent) from error

    async def _has_left(self) -> bool:
        """Whether the client has left; wait until uvicorn knows it, which else logs an error."""
        if not self._response.gone and self._buffer.is_closing:
            self._buffer.abort()
            await self._buffer.lost()
        return self._response.gone


def _position(file: Any) -> int:
    # Ask the file object: its descriptor is further on, behind what the object has buffered.
    if isinstance(file, int):
        return os.lseek(file, 0, os.SEEK_CUR)
    position: int = file.tell()
    return position


def _move(file: Any, count: int) -> None:
    if isinstance(file, int):
        os.lseek(file, count, os.SEEK_CUR)
    else:
        file.seek(count, os.SEEK_CUR)


class _StallWatch:
    """A context in which a client is cut off if it takes nothing for `timeout` seconds.

    Args:
        buffer: The connection's.
        loop: The event loop.
        timeout: Seconds; None: no limit.
        name: What log lines call the response.
    """

    __slots__ = ("_alarm", "_buffer", "_clock", "_loop", "_name")

    def __init__(
        self, buffer: WriteBuffer, loop: asyncio.AbstractEventLoop, timeout: float | None, name: str
    ) -> None:
        self._buffer = buffer
        self._loop = loop
        self._clock = StallClock(timeout)
        self._name = name
        self._alarm: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._clock.wait(self._loop.time())
        self._look()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _look(self) -> None:
        clock, now = self._clock, self._loop.time()
        if not self._buffer.unsent_bytes:
            clock.wait(now)  # nothing waits for the client: the disk is slow
        if clock.is_stalled(now, -self._buffer.progress):
            log.info("%s: client cut off: stalled", self._name)
            self._buffer.abort("stalled")
        elif (again := clock.look_again(now)) < math.inf:
            self._alarm = self._loop.call_at(again, self._look)


# Reading without blocking the event loop ----------------------------------------------------------

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""Non-blocking, so that a FIFO without a writer does not hold the thread that opens it."""


async def open_path(path: str) -> Descriptor:
    """Open a file for reading, in a thread: looking up the path may wait for the disk.

    Raises:
        OSError: The file cannot be opened.
    """
    return await call_in_thread(
        lambda: Descriptor(os.open(path, _FLAGS), path),
        threads=file_threads,
        discard=Descriptor.close,
    )


async def read(file: Descriptor, at: int | None, count: int) -> bytes:
    """Read up to `count` bytes without blocking the event loop; b"" at the end of the file.

    Args:
        file: The file.
        at: The offset; None reads from the descriptor's own position, as a pipe or terminal needs.
        count: More than 0.

    Raises:
        OSError: The file cannot be read.
    """
    if at is None:
        return await _read_on(file, count)
    data = read_cached(file.fileno(), count, at)
    return data if data is not None else await _read_in_thread(file, os.pread, count, at)


def read_cached(fd: int, count: int, at: int) -> bytes | None:
    """Read `count` bytes from the page cache; None if not all of them are there."""
    flags = getattr(os, "RWF_NOWAIT", None)
    if flags is None:
        return None
    buffer = bytearray(count)
    try:
        got = os.preadv(fd, [buffer], at, flags)
    except OSError:  # nothing of it is there, or the file system cannot tell
        return None
    # Fewer bytes mean the end of the file, or the end of what is in the cache.
    return bytes(buffer) if got == count else None


async def _read_on(file: Descriptor, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    # A duplicate: the loop cannot watch one descriptor for two callers.
    watched = os.dup(file.fileno())
    readable = asyncio.Event()
    try:
        loop.add_reader(watched, readable.set)
    except PermissionError:  # what epoll answers for a file that is always readable (/dev/zero)
        os.close(watched)
        return await _read_in_thread(file, os.read, count)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)
    return os.read(file.fileno(), count)


async def _read_in_thread(file: Descriptor, call: Callable[..., bytes], *args: int) -> bytes:
    def work() -> bytes:
        with file.use() as number:
            return call(number, *args)

    return await call_in_thread(work, threads=file_threads)
