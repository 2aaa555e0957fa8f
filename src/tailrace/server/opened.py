"""A file that is open to be sent, and whose descriptor stays open while a thread reads from it.

A disk that hangs holds its thread for as long as it likes, and the transfer that asked may be over
by then. Were the descriptor closed, its number would soon mean another file, and the thread would
read that one. So the last who uses it closes it.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from tailrace.runtime import file_threads

__all__ = ["OpenedFile", "in_thread"]

T = TypeVar("T")

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""Non-blocking, so that a FIFO without a writer does not hold the thread that opens it."""


class OpenedFile:
    """A descriptor to read from.

    Args:
        descriptor: An open descriptor; closed by `close`, unless it is borrowed.
        name: What messages call it.
        borrowed: It belongs to somebody else, who may close it as soon as the transfer is over.
    """

    __slots__ = ("_closing", "_fd", "_lock", "_owned", "_users", "name", "size")

    def __init__(self, descriptor: int, name: str, *, borrowed: bool = False) -> None:
        self._fd = descriptor
        self._owned = not borrowed
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False
        self.name = name
        status = os.fstat(descriptor)
        self.size: int | None = status.st_size if stat.S_ISREG(status.st_mode) else None
        """Bytes of a regular file; None for what has no size that can be trusted."""

    @classmethod
    async def at(cls, path: str) -> OpenedFile:
        """Open a path, in a thread: looking a name up may need the disk.

        Raises:
            OSError: It cannot be opened.
        """
        opening = in_thread(lambda: cls(os.open(path, _FLAGS), path))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_result)
            raise

    @property
    def fd(self) -> int:
        return self._fd

    def in_use(self) -> int:
        """A descriptor that stays what it is until `unused` is called; for a thread."""
        with self._lock:
            if not self._owned:
                self._fd = os.dup(self._fd)
                self._owned = True
            self._users += 1
            return self._fd

    def unused(self) -> None:
        """The thread is done; called from it."""
        with self._lock:
            self._users -= 1
            last = self._closing and not self._users
        if last:
            os.close(self._fd)

    def close(self) -> None:
        """No more reads will begin."""
        with self._lock:
            last = self._owned and not self._closing and not self._users
            self._closing = True
        if last:
            os.close(self._fd)

    async def read(self, at: int | None, count: int) -> bytes:
        """Read up to so many bytes without blocking the event loop; b"" at the end.

        Args:
            at: The offset; None reads on where the descriptor stands: a pipe, a terminal.
            count: More than 0.
        """
        if at is None:
            return await self._read_on(count)
        data = read_cached(self._fd, count, at)
        return data if data is not None else await self._in_thread(os.pread, count, at)

    async def _read_on(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        # A descriptor of our own: the loop refuses one that it watches for somebody else.
        watched = os.dup(self._fd)
        readable: asyncio.Future[None] = loop.create_future()

        def can_be_read() -> None:
            if not readable.done():
                readable.set_result(None)

        try:
            loop.add_reader(watched, can_be_read)
        except PermissionError:  # epoll's word for what is always readable: /dev/zero
            os.close(watched)
            return await self._in_thread(os.read, count)
        try:
            await readable
        finally:
            loop.remove_reader(watched)
            os.close(watched)
        return os.read(self._fd, count)

    async def _in_thread(self, read: Callable[..., bytes], *args: int) -> bytes:
        fd = self.in_use()

        def work() -> bytes:
            try:
                return read(fd, *args)
            finally:
                self.unused()

        return await in_thread(work)


def read_cached(fd: int, count: int, at: int) -> bytes | None:
    """Bytes that are in the page cache, all of those asked for or up to the end; None otherwise."""
    flags = getattr(os, "RWF_NOWAIT", None)
    if flags is None:
        return None
    buffer = bytearray(count)
    try:
        got = os.preadv(fd, [buffer], at, flags)
    except OSError:  # not all there, or a file system that cannot tell
        return None
    # Less than asked for is the end of the file, or the end of what is in the cache.
    return bytes(buffer) if got == count else None


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """What `work` gives, done in a thread that serves no endpoint."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(call: Callable[[Any], None], value: Any) -> None:
        if not result.done():
            call(value)

    def job() -> None:
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
            told: tuple[Callable[[Any], None], Any] = (result.set_exception, error)
        else:
            told = (result.set_result, value)
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(tell, *told)

    file_threads.submit(job)
    return result


def _close_result(opening: asyncio.Future[OpenedFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
