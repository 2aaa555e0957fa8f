"""A regular file that is read while others may change it.

What the headers of a response promise (length, ETag) must be true of every byte behind them. So
the file is opened first and everything is asked of its descriptor, never of the path a second time;
and after each read, before the bytes go out, the file is looked at again. What can happen to it:

* It shrinks, or is overwritten: its size or its modification time differs. The transfer ends. Who
  overwrites it may set both back (`rsync --inplace --times`). The time of its last change (`ctime`)
  cannot be set back, but a new name, mode, owner or link moves it, too: where none of those is
  seen, the bytes may be others. The transfer ends. (Windows has no such time: there it is that of
  the file's creation, and a change that sets both back is not seen.)
* It is deleted, or another is renamed over it: its descriptor still gives the old bytes, but they
  are no longer the file's; its count of links is 0. The transfer ends.
* It grows, as a log does. That changes the modification time, too, but none of the bytes that were
  promised. A few of them, at both ends, are compared with what was there when it was opened: an
  appended file has them, an overwritten one has not. The transfer goes on.

A change within the resolution of the file system's clock (some milliseconds on Linux) that keeps
the size cannot be seen.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from operator import attrgetter
from typing import TypeAlias

from tailrace.errors import FileChanged, FileUnavailable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["OpenFile", "Opener", "open_file", "read_at"]

Opener: TypeAlias = Callable[[str, int], int]
"""As the `opener` of `open`: it takes a path and flags, and gives a descriptor."""

_FLAGS = (
    os.O_RDONLY
    # A FIFO that was put there in between must not block the open.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_EDGE_BYTES = 4096
"""A page: the disk reads as much for a single byte."""
_MOST_PATH_BYTES = 1024
"""macOS's MAXPATHLEN, which its `F_GETPATH` fills at most."""
_LOOKS = 20
_BETWEEN_LOOKS = 0.002
"""Seconds. With the number of looks: how long a write of another process may take."""


def open_file(path: str, opener: Opener | None = None) -> OpenFile:
    """Open a regular file. Blocks; for threads.

    Args:
        path: Links in it are followed.
        opener: Opens instead of `os.open`; what it gives must be a regular file too.

    Raises:
        FileUnavailable: It does not exist, is not a regular file, or may not be read.
    """
    try:
        if opener is None:
            # A look before it is opened: opening a device can do something to it.
            _check_regular(path, os.stat(path))
            descriptor = os.open(path, _FLAGS)
        else:
            descriptor = opener(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileUnavailable(path, "does not exist") from error
    except ValueError as error:  # a NUL in the path
        raise FileUnavailable(path, "does not exist") from error
    except OSError as error:
        raise FileUnavailable(path, f"cannot be opened: {error.strerror}") from error
    file = OpenFile(path, descriptor)
    try:
        _check_regular(path, file.stat)
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FileUnavailable(path, "is not a file")


class OpenFile:
    """A regular file, open for reading, that knows whether it is still as it was.

    Its methods block and may be called from any thread; closing waits for a read that is under way.

    Args:
        path: Its name, for messages.
        descriptor: Owned from now on.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.stat = os.fstat(descriptor)
        self._seen = self.stat
        self._name = _name_of(descriptor)
        self._edges: tuple[bytes, bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes that it had when it was opened."""
        return self.stat.st_size

    def remember_edges(self) -> None:
        """Note its first and last bytes, to know an append from a rewrite later."""
        with self._lock:
            self._edges = self._read_edges()

    def read(self, start: int, stop: int) -> bytes:
        """These bytes, all of them, of the file as it was opened.

        Raises:
            FileChanged: It is no longer as it was.
            FileUnavailable: The disk failed, or the file was closed.
        """
        with self._lock:
            data = self._read(start, stop)
            self._check()
        return data

    def check(self) -> None:
        """Look whether it is as it was when it was opened.

        Raises:
            FileChanged: It is not.
        """
        with self._lock:
            self._check()

    def close(self) -> None:
        """Close it; a second time does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.descriptor)

    def _read(self, start: int, stop: int) -> bytes:
        if self._closed:
            raise FileUnavailable(self.path, "was closed")
        try:
            data = read_at(self.descriptor, stop - start, start)
            while len(data) < stop - start:  # a signal, or 2 GiB: Linux reads no more at once
                more = read_at(self.descriptor, stop - start - len(data), start + len(data))
                if not more:
                    raise FileChanged(self.path, "was truncated")
                data += more
        except OSError as error:
            raise FileUnavailable(
                self.path, f"cannot be read at byte {start}: {error.strerror}"
            ) from error
        return data

    def _check(self) -> None:
        if self._closed:
            raise FileUnavailable(self.path, "was closed")
        now, seen = os.fstat(self.descriptor), self._seen
        if _state_of(now) == _state_of(seen):
            return
        if now.st_nlink == 0 and self.stat.st_nlink > 0:
            raise FileChanged(self.path, "was deleted or replaced")
        if self._was_renamed_or_owned(now):
            return
        if now.st_size == seen.st_size:
            now = self._after_an_append(now)
        if now.st_size < seen.st_size:
            raise FileChanged(self.path, "was truncated")
        if now.st_size == seen.st_size or not self._has_its_edges():
            raise FileChanged(self.path, "was overwritten")
        self._seen = now

    def _was_renamed_or_owned(self, now: os.stat_result) -> bool:
        """Whether what changed is its name, mode, owner or number of links, and not its bytes."""
        seen = self._seen
        if now.st_size != seen.st_size or now.st_mtime_ns != seen.st_mtime_ns:
            return False
        name = _name_of(self.descriptor)
        if name == self._name and _owner_of(now) == _owner_of(seen):
            return False
        self._seen, self._name = now, name
        return True

    def _after_an_append(self, now: os.stat_result) -> os.stat_result:
        """Its state when an append that may be going on has changed the size as well.

        The kernel sets the time before it writes, and the size after it. It is not worth more than
        a moment: a file that stays as large was overwritten.
        """
        for _ in range(_LOOKS):
            if now.st_size != self._seen.st_size:
                break
            time.sleep(_BETWEEN_LOOKS)
            now = os.fstat(self.descriptor)
        return now

    def _has_its_edges(self) -> bool:
        return self._edges is not None and self._read_edges() == self._edges

    def _read_edges(self) -> tuple[bytes, bytes]:
        size = self.size
        first = self._read(0, min(_EDGE_BYTES, size))
        return first, self._read(max(0, size - _EDGE_BYTES), size)


_state_of = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns")
_owner_of = attrgetter("st_mode", "st_uid", "st_gid", "st_nlink")


def _name_of(descriptor: int) -> str | None:
    """The path that a descriptor's file has now; None where the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return _name_on_macos(descriptor)


def _name_on_macos(descriptor: int) -> str | None:
    ask = getattr(fcntl, "F_GETPATH", None)
    if ask is None:
        return None
    try:
        return os.fsdecode(fcntl.fcntl(descriptor, ask, bytes(_MOST_PATH_BYTES)).rstrip(b"\0"))
    except OSError:
        return None


def _seek_and_read(descriptor: int, count: int, at: int) -> bytes:
    """Read at an offset where that takes a seek: other readers of the descriptor must wait."""
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, at, os.SEEK_SET)
    try:
        return os.read(descriptor, count)
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", _seek_and_read)
"""Read from a descriptor so many bytes at an offset, or fewer. Windows has no `pread`."""
