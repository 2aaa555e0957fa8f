"""A stretch of a file on its way to a socket, by the kernel.

It runs in the event loop's own callbacks, not in a task: when the socket has room, the loop calls
`_step`, which sends what fits and returns. So a client costs a wake-up for each half megabyte, and
nothing at all while it is slow.

The loop watches a duplicate of the socket's descriptor. asyncio and uvloop both refuse to watch
one that belongs to a transport, and under uvloop the transport reads from it all the while.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from time import monotonic
from typing import ClassVar

from tailrace import limits
from tailrace.errors import TransferFailed
from tailrace.server.opened import OpenedFile
from tailrace.server.pages import PageCacheProbe
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["ZERO_COPY", "Transfer"]

ZERO_COPY = sys.platform == "linux" and hasattr(os, "sendfile")
"""This platform's `sendfile` takes an offset and any regular file."""

_GONE = frozenset(
    {
        *(errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN),
        *(errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
    }
)
"""What a socket says of a client that is gone; anything else is the file's."""

_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE})
"""The file system has no `sendfile`."""


class Transfer:
    """Sends a stretch of a regular file. For one use.

    Args:
        buffer: Where to; not paused.
        file: What.
        start, stop: Offsets.
        loop: The event loop.
    """

    _under_way: ClassVar[int] = 0

    __slots__ = (
        "_buffer",
        "_cache",
        "_done",
        "_fd",
        "_file",
        "_loop",
        "_start",
        "_stop",
        "_watched",
        "at",
    )

    def __init__(
        self,
        buffer: WriteBuffer,
        file: OpenedFile,
        start: int,
        stop: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._buffer = buffer
        self._file = file
        self._stop = stop
        self._loop = loop
        self._cache = PageCacheProbe(file, stop, loop)
        self._done: asyncio.Future[None] = loop.create_future()
        self._fd: int | None = None
        self._watched = False
        self._start = self.at = start
        """The offset up to which it was sent."""

    async def run(self) -> bool:
        """Send it.

        Returns:
            True when all was sent, or when the client has left. False if this file cannot be sent
            in this way, from `at` on.

        Raises:
            TransferFailed: The file is shorter than it was, or cannot be read.
        """
        self._buffer.guest = self
        Transfer._under_way += 1
        try:
            self._step()
            await self._done
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise TransferFailed(self._file.name, str(error), self._sent) from error
        finally:
            Transfer._under_way -= 1
            self._buffer.guest = None
            self._let_go()
        return True

    @property
    def _sent(self) -> int:
        return self.at - self._start

    def lost(self) -> None:
        # Before the transport closes its own descriptor: as long as one is open, so is the
        # connection.
        self._let_go()
        self._finish(None)

    def _step(self) -> None:
        if self._done.done():
            return
        if self._cache.error is not None:
            self._finish(self._cache.error)
            return
        try:
            self._send()
        except (OSError, TransferFailed) as error:
            self._finish(error)

    def _send(self) -> None:
        at = self.at
        end = self._cache.ready(at, min(at + self._share(), self._stop))
        if end == at:
            self._unwatch()
            self._cache.fetch(at, self._step)
            return
        began = monotonic()
        try:
            sent = self._buffer.sendfile(self._file.fd, at, end - at)
        except BlockingIOError:
            self._watch()
            return
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._unwatch()
            self._buffer.abort()  # `lost` follows
            if self._buffer.closed:  # or was before
                self._finish(None)
            return
        self._cache.took(monotonic() - began)
        if not sent:
            raise TransferFailed(self._file.name, f"it ends at byte {at}", self._sent)
        self.at = at + sent
        if self.at == self._stop:
            self._finish(None)
        else:
            self._watch()

    def _share(self) -> int:
        least, most = limits.SENDFILE_BYTES
        return max(least, most // self._under_way)

    def _watch(self) -> None:
        if self._watched:
            return
        if self._fd is None:
            self._fd = self._buffer.duplicate()
        self._loop.add_writer(self._fd, self._step)
        self._watched = True

    def _unwatch(self) -> None:
        if self._watched:
            assert self._fd is not None
            self._loop.remove_writer(self._fd)
            self._watched = False

    def _let_go(self) -> None:
        self._cache.forget()
        self._unwatch()
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _finish(self, error: BaseException | None) -> None:
        self._unwatch()
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
