"""A part of a file on its way to a socket, by the kernel.

It runs in the event loop's own callbacks, not in a task: when the socket has room, the loop calls
`_step`, which sends what fits and returns. So a client costs a wake-up for each half megabyte, and
nothing at all while it is slow.

The loop watches a duplicate of the socket's descriptor. asyncio and uvloop both refuse to watch
one that belongs to a transport, and under uvloop the transport reads from it all the while.

**Waiting for the disk.** `sendfile` never waits for the client, but it waits for the disk, and with
it the event loop and all clients. There is no non-blocking read of a file; what can be asked is
whether a page is in the page cache (`preadv2` with RWF_NOWAIT, 0.6 µs). So every 128 KiB of the
next step is asked for one byte, 5 µs for a megabyte. If all are there it can be sent now. If not,
the file is *cold*: a thread reads the step into the cache by a `sendfile` to /dev/null, which waits
for the disk and copies nothing (23 µs for a megabyte that is there already), always one step ahead
of the client. A step that took no time says that the file is warm again.

Not chosen: `mincore` tells the truth only to those who may write the file; `posix_fadvise` does not
say when it is done; reading with RWF_NOWAIT costs the copy that zero copy is about.

File systems that do not know RWF_NOWAIT (tmpfs, FUSE, NFS) are cold always, and so is all on macOS,
whose `sendfile` sends to sockets alone: there the thread reads. Between two samples a
page can be missing: then one read of the disk is waited for, and the time it took makes the file
cold.
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
"""What a socket says of a client that is gone; anything else is the file's."""

_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE})
"""The file system has no `sendfile`."""

_SAMPLE = 128 * 1024
"""Bytes between two bytes that are asked for; the kernel reads ahead in such steps, or larger."""

_WARM_SECONDS_PER_BYTE = 0.1e-3 / 2**20
"""What a step takes at most if it was in the cache: four times as long as measured; a fast SSD
needs three times this."""

_WAITED = 0.005
"""Seconds that a `sendfile` of what seemed to be there took, if it waited for the disk."""

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
"""Linux has it, and its `sendfile` also writes to what is not a socket."""

_READ_BYTES = 256 * 1024
"""Of one read, where reading is the only way to have the disk read."""


class Transfer:
    """Sends a part of a regular file. For one use.

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
            sent = self._buffer.sendfile(self._file.fileno(), at, end - at)
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
    """The page cache, as one transfer of one file sees it.

    Args:
        file: A regular file.
        stop: Where the transfer ends.
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
        """Up to here a thread has read."""
        self._reading = False
        self.error: Exception | None = None
        """What went wrong with the disk."""
        self._then: Callable[[], None] | None = None

    def ready(self, at: int, end: int) -> int:
        """How far can be sent now: an offset from `at` (nothing) to `end`."""
        if at < self._fetched:
            if self._cold and not self._reading and self._fetched < self._stop:
                self._read(self._fetched)  # one step ahead of the client, no more
            return min(end, self._fetched)
        if not self._cold and self._is_cached(at, end):
            return end
        return at

    def fetch(self, at: int, then: Callable[[], None]) -> None:
        """Read the next step in a thread, then call; for what `ready` says is not there."""
        self._cold = True
        self._then = then
        if not self._reading:
            self._read(at)

    def forget(self) -> None:
        """The transfer is over: nobody is to be called."""
        self._then = None

    def took(self, seconds: float) -> None:
        """A step that seemed to be in the cache took so long to send."""
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
            except (OSError, ValueError) as failure:  # the latter: the transfer is over
                error = failure
            took = monotonic() - began
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
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
    """Wait until a part of a file is in the page cache, or its end is met."""
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
