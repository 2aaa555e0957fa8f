"""A regular file that is read while others may change it.

What the headers of a response say (length, ETag) must be true of every byte in the body. So the
file is opened first, and everything else is asked of its descriptor, never of the path again. After
each read, before the bytes are sent, the state of the file is checked. What can happen to a file:

* It shrinks, or is overwritten. Then its size or its modification time differs, and the transfer
  ends. A program that overwrites it may restore both (`rsync --inplace --times`), but not the time
  of the last change, `ctime`. This time also changes with the name, mode, owner or number of links;
  if none of these differs, the bytes may, and the transfer ends. (Windows has no such time: its
  `ctime` is that of the file's creation. There this case is not noticed.)
* It is deleted, or another file is renamed over it. The descriptor still gives the old bytes, but
  they are no longer the file's. Its number of links is 0, and the transfer ends.
* It grows, as a log does. The modification time changes, but no byte that the headers count. To
  tell this from an overwritten file, a few bytes at both ends are compared with those that were
  there when the file was opened. If they are the same, the transfer goes on.

A change that keeps the size cannot be noticed if it comes within the resolution of the file
system's clock (some milliseconds on Linux).
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
"""As the `opener` of Python's `open`: it takes a path and flags, and returns a descriptor."""

_FLAGS = (
    os.O_RDONLY
    # If a FIFO takes the file's place after `_check_regular`, it must not block the open.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_EDGE_BYTES = 4096
"""One page: the disk reads as much even for a single byte."""
_MOST_PATH_BYTES = 1024
"""MAXPATHLEN of macOS: the largest result of its `F_GETPATH`."""
_LOOKS = 20
_BETWEEN_LOOKS = 0.002
"""Seconds. Times `_LOOKS`, it is how long an append of another process may take."""


def open_file(path: str, opener: Opener | None = None) -> OpenFile:
    """Open a regular file. It blocks, so call it in a thread.

    Args:
        path: Symbolic links in it are followed.
        opener: Called instead of `os.open`; its descriptor must be of a regular file too.

    Raises:
        FileUnavailable: The file does not exist, is not a regular file, or may not be read.
    """
    try:
        if opener is None:
            # Checked before it is opened, too: opening a device can have an effect on it.
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
    """A regular file that is open for reading, and that notices when others change it.

    Its methods block and may be called from any thread; `close` waits for a read that is under way.

    Args:
        path: Its name, for messages.
        descriptor: An open descriptor; this object closes it.
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
        """The file's size in bytes when it was opened."""
        return self.stat.st_size

    def remember_edges(self) -> None:
        """Keep its first and last bytes, to tell an append from an overwrite later.

        Without it, an append ends the transfer.

        Raises:
            FileChanged: The file is shorter than it was when it was opened.
            FileUnavailable: The disk failed, or the file was closed.
        """
        with self._lock:
            self._edges = self._read_edges()

    def read(self, start: int, stop: int) -> bytes:
        """All bytes from `start` up to `stop`, of the file as it was when it was opened.

        Raises:
            FileChanged: The file was changed, deleted or replaced; an append is no change.
            FileUnavailable: The disk failed, or the file was closed.
        """
        with self._lock:
            data = self._read(start, stop)
            self._check()
        return data

    def check(self) -> None:
        """Check that the file is as it was when it was opened.

        Raises:
            FileChanged: The file was changed, deleted or replaced; an append is no change.
            FileUnavailable: The disk failed, or the file was closed.
        """
        with self._lock:
            self._check()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.descriptor)

    def _read(self, start: int, stop: int) -> bytes:
        if self._closed:
            raise FileUnavailable(self.path, "was closed")
        try:
            data = read_at(self.descriptor, stop - start, start)
            while len(data) < stop - start:  # a signal came, or it is over 2 GiB, Linux's limit
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
        """Whether only its name, mode, owner or number of links has changed, and not its bytes."""
        seen = self._seen
        if now.st_size != seen.st_size or now.st_mtime_ns != seen.st_mtime_ns:
            return False
        name = _name_of(self.descriptor)
        if name == self._name and _owner_of(now) == _owner_of(seen):
            return False
        self._seen, self._name = now, name
        return True

    def _after_an_append(self, now: os.stat_result) -> os.stat_result:
        """Wait a moment for an append that may be under way. Returns the file's state after it.

        The kernel sets the modification time before it writes, and the size after it. If the size
        stays the same, the file was overwritten.
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
    """The path that a descriptor's file has now; None if the system does not tell it."""
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
    """As `pread`, on a system without it. Nothing else may use the descriptor at the same time."""
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, at, os.SEEK_SET)
    try:
        return os.read(descriptor, count)
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", _seek_and_read)
"""Read at most so many bytes from a descriptor, at an offset: (descriptor, count, offset).

Windows has no `pread`.
"""
