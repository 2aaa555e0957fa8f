"""The file beside a database that is locked around each write, and the few bytes that it shares.

| system | lock | processes |
|---|---|---|
| Linux, macOS | `flock` on the file, for each write | any number; the bytes are mapped memory |
| Windows | `filelock` on the file, as long as the store is open | one; the bytes are its own |

On Windows there is no lock that waits in order and ends with its process, and no datagram that
would tell other processes of a write. So a second process is refused there.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING, Final, Protocol

from tailrace.errors import StoreLocked
from tailrace.store.sqlite.location import open_lock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["LockFile", "open_lock_file"]

_SIZE: Final = 4096


class LockFile(Protocol):
    """The lock of one store that is open."""

    @property
    def board(self) -> mmap.mmap | bytearray:
        """Bytes that all who have the database open see, without a system call."""

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock, for this thread; False if it would have to wait and may not."""

    def release(self) -> None:
        """Give it back."""

    @property
    def is_deleted(self) -> bool:
        """The file is at no path any more: whoever comes next locks another one."""

    def close(self) -> None:
        """Let go of the file."""


def open_lock_file(path: str) -> LockFile:
    """Open the file; made if it is missing.

    Raises:
        StoreUnavailable: What is at the path is no lock of ours; it is not touched.
        StoreLocked: Another process has the store open, on a system where one may.
    """
    return _OwnLockFile(path) if fcntl is None else _SharedLockFile(path)


class _SharedLockFile:
    """For any number of processes."""

    def __init__(self, path: str) -> None:
        self._file = open_lock(path, _SIZE)
        try:
            if os.fstat(self._file).st_size < _SIZE:
                os.ftruncate(self._file, _SIZE)
            self.board = mmap.mmap(self._file, _SIZE)
        except BaseException:
            os.close(self._file)
            raise

    def acquire(self, *, wait: bool) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    @property
    def is_deleted(self) -> bool:
        return os.fstat(self._file).st_nlink == 0

    def close(self) -> None:
        self.board.close()
        os.close(self._file)


class _Held:
    """What the stores of this process that are open on the same file have in common."""

    def __init__(self, lock: BaseFileLock) -> None:
        self.lock = lock
        self.board = bytearray(_SIZE)
        self.turn = threading.Lock()
        self.users = 0


_held: dict[str, _Held] = {}
_changing = threading.Lock()


class _OwnLockFile:
    """For one process."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        with _changing:
            held = _held.get(self._path)
            if held is None:
                held = _held[self._path] = _Held(_lock_for_good(self._path))
            held.users += 1
        self._shared = held
        self.board = held.board

    def acquire(self, *, wait: bool) -> bool:
        return self._shared.turn.acquire(blocking=wait)

    def release(self) -> None:
        self._shared.turn.release()

    @property
    def is_deleted(self) -> bool:
        return False  # Windows does not delete what is open

    def close(self) -> None:
        with _changing:
            self._shared.users -= 1
            if not self._shared.users:
                del _held[self._path]
                self._shared.lock.release()


def _lock_for_good(path: str) -> BaseFileLock:
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreLocked(
            path.removesuffix("-lock"),
            "is open in another process: on Windows a store is for one process at a time",
        ) from error
    return lock
