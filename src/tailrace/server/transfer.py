"""Sending a part of a file to a socket by the kernel (`sendfile`).

A transfer runs in callbacks of the event loop, not in a task: when the socket has room, the loop
calls `_step`, which sends what fits and returns. So a client costs one wake-up for each half
megabyte, and nothing at all while it is slow.

The loop watches a duplicate of the socket's descriptor. asyncio and uvloop both refuse to watch a
descriptor that belongs to a transport, and under uvloop the transport reads from it meanwhile.

**Waiting for the disk.** `sendfile` never waits for the client, but it waits for the disk, and
then the event loop and all clients wait, too. Linux has no non-blocking read of a file, but it says
whether a page is in the page cache (`preadv2` with RWF_NOWAIT, 0.6 µs). So one byte in every
128 KiB of the next step is asked for: 5 µs for a megabyte. If all are cached, the step is sent now.
If not, the file is *cold*: a thread reads the step into the cache, always one step ahead of the
client, by a `sendfile` to /dev/null. That waits for the disk and copies nothing (23 µs for a
megabyte that is cached already). A step that takes no longer than that makes the file warm again.

Not chosen: `mincore` tells the truth only to a process that may write the file; `posix_fadvise`
does not say when it is done; a read with RWF_NOWAIT costs the copy that zero copy avoids.

On file systems without RWF_NOWAIT (tmpfs, FUSE, NFS) every file is always cold, and also where
Python does not know the flag; there the thread reads the file instead. A page between two samples
may be missing: then the event loop waits for one read of the disk, and the time that it took makes
the file cold.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import ClassVar

from tailrace import limits
from tailrace.errors import TransferFailed
from tailrace.runtime import Descriptor, file_threads
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["ZERO_COPY", "PageCacheProbe", "Transfer"]

ZERO_COPY = sys.platform == "linux" and hasattr(os, "sendfile")
"""This platform's `sendfile` takes an offset and any regular file."""

_GONE = frozenset(
    {
        *(errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN),
        *(errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
    }
)
"""Errors of the socket when the client is gone; any other error is the file's."""

_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE})
"""The file system has no `sendfile`."""

_SAMPLE = 128 * 1024
"""Bytes between two samples of the page cache; the kernel reads ahead by at least as many."""

_WARM_SECONDS_PER_BYTE = 0.1e-3 / 2**20
"""Seconds per byte that the thread takes at most to read what is cached: four times as long as
measured. A fast SSD takes three times this."""

_WAITED = 0.005
"""A `sendfile` of what seemed to be cached has waited for the disk if it took more seconds."""

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
"""Only on Linux, where `sendfile` can also write to what is not a socket (/dev/null)."""

_READ_BYTES = 256 * 1024
"""Bytes of one read by the thread, where `sendfile` to /dev/null cannot be used."""


class Transfer:
    """Sends a part of a regular file; each object can be used once.

    Args:
        buffer: The connection's; not paused.
        file: A regular file.
        start, stop: Offsets in the file; `stop` is not sent.
        loop: The event loop.
    """

    _under_way: ClassVar[int] = 0

    __slots__ = (
        "_buffer",
        "_cache",
        "_done",
        "_fd",
        "_file",
        "_has_writer",
        "_loop",
        "_start",
        "_stop",
        "at",
    )

    def __init__(
        self,
        buffer: WriteBuffer,
        file: Descriptor,
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
        self._has_writer = False
        self._start = self.at = start
        """The offset up to which the file was sent."""

    async def run(self) -> bool:
        """Send the part.

        Returns:
            True when all of it was sent, or the client has left. False if the file system has no
            `sendfile`: what begins at `at` must be sent in another way.

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
        # The transport closes its own descriptor next; as long as the duplicate is open, so is the
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
            sent = self._buffer.sendfile(self._file.fileno(), at, end - at)
        except BlockingIOError:
            self._watch()
            return
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._unwatch()
            self._buffer.abort()  # `lost` follows
            if self._buffer.closed:  # `lost` was called before
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
        if self._has_writer:
            return
        if self._fd is None:
            self._fd = self._buffer.duplicate()
        self._loop.add_writer(self._fd, self._step)
        self._has_writer = True

    def _unwatch(self) -> None:
        if self._has_writer:
            assert self._fd is not None
            self._loop.remove_writer(self._fd)
            self._has_writer = False

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


class PageCacheProbe:
    """Says what of a file is in the page cache, and has a thread read the rest into it.

    Args:
        file: A regular file.
        stop: The offset where the transfer ends.
        loop: The event loop.
    """

    __slots__ = (
        "_blind",
        "_byte",
        "_cold",
        "_fetched",
        "_file",
        "_loop",
        "_reading",
        "_step",
        "_stop",
        "_then",
        "error",
    )

    def __init__(self, file: Descriptor, stop: int, loop: asyncio.AbstractEventLoop) -> None:
        self._file = file
        self._stop = stop
        self._loop = loop
        self._cold = self._blind = _NOWAIT is None
        self._byte = [bytearray(1)]
        self._step = limits.READ_AHEAD_BYTES[0]
        self._fetched = 0
        """The offset up to which a thread has read."""
        self._reading = False
        self.error: Exception | None = None
        """What the thread's last read raised."""
        self._then: Callable[[], None] | None = None

    def ready(self, at: int, end: int) -> int:
        """The offset up to which can be sent now, from `at` (nothing) to `end`."""
        if at < self._fetched:
            if self._cold and not self._reading and self._fetched < self._stop:
                self._read(self._fetched)  # one step ahead of the client, no more
            return min(end, self._fetched)
        if not self._cold and self._is_cached(at, end):
            return end
        return at

    def fetch(self, at: int, then: Callable[[], None]) -> None:
        """Have a thread read the next step, then call `then`: for when `ready` gave `at`."""
        self._cold = True
        self._then = then
        if not self._reading:
            self._read(at)

    def forget(self) -> None:
        """Call nothing any more: the transfer is over."""
        self._then = None

    def took(self, seconds: float) -> None:
        """Note how long it took to send what seemed to be cached."""
        if seconds > _WAITED:
            self._cold = True

    def _is_cached(self, at: int, end: int) -> bool:
        assert _NOWAIT is not None
        fd, byte = self._file.fileno(), self._byte
        try:
            for offset in range(at, end, _SAMPLE):
                os.preadv(fd, byte, offset, _NOWAIT)
            os.preadv(fd, byte, end - 1, _NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            self._blind = True
            return False
        return True

    def _read(self, at: int) -> None:
        stop = min(at + self._step, self._stop)
        self._step = min(self._step * 2, limits.READ_AHEAD_BYTES[1])
        self._reading = True
        file, loop = self._file, self._loop

        def job() -> None:
            began, error = monotonic(), None
            try:
                with file.use() as number:
                    read_into_cache(number, at, stop)
            except (OSError, ValueError) as failure:  # ValueError: the transfer is over
                error = failure
            took = monotonic() - began
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._read_until, stop, stop - at, took, error)

        file_threads.submit(job)

    def _read_until(self, stop: int, size: int, took: float, error: Exception | None) -> None:
        self._reading = False
        self._fetched = stop
        self.error = error
        if took < size * _WARM_SECONDS_PER_BYTE and not self._blind:
            self._cold = False
        then, self._then = self._then, None
        if then is not None:
            then()


def read_into_cache(fd: int, at: int, stop: int) -> None:
    """Read a part of a file into the page cache, up to the file's end at most. Blocks."""
    if _NOWAIT is None:
        while at < stop and (data := os.pread(fd, min(_READ_BYTES, stop - at), at)):
            at += len(data)
        return
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        while at < stop and (got := os.sendfile(nowhere, fd, at, stop - at)):
            at += got
    finally:
        os.close(nowhere)
