"""One writer at a time, first come first served, over all processes of a file.

SQLite waits for its own lock by sleeping and trying again, and a process can starve: one of four
got nothing in four seconds. A plain `flock` on a file beside the database, taken before each
transaction, is fair and costs a system call. The same file is mapped into memory, and tells without
a system call which process wrote last: as long as it is this one, its cache of streams is valid.

| system | lock | processes |
|---|---|---|
| Linux, macOS | `flock` on the file, for each write | any number; the bytes are mapped memory |
| Windows | `filelock` on the file, as long as the store is open | one; the bytes are its own |

On Windows there is no lock that waits in order and ends with its process, and no datagram that
would tell other processes of a write. So a second process is refused there.

Data is safe without the lock and the mapped bytes, too. SQLite locks by itself as well, and a
writer's cache is checked once more within the transaction, by SQLite's own `data_version`.
"""

from __future__ import annotations

import mmap
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tailrace import limits
from tailrace.errors import StoreLocked
from tailrace.store.sqlite.location import foreign, is_ours

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["WriteLock", "open_lock_file"]

_SIZE: Final = 4096

_WRITER: Final = slice(0, 8)
"""The process that wrote last: the 8 random bytes that it has drawn."""
_PEERS: Final = slice(8, 16)
"""Changed whenever a process starts or stops listening."""
_DAMAGED: Final = slice(16, 24)
"""The inode of a file that a process has found to be damaged; 0 if none has."""


class WriteLock:
    """The write lock, as one process uses it; taken by its writer thread only.

    Args:
        path: The file beside the database; made if it is missing.
        on_stuck: Called in a thread of its own, again and again, while another process has been
            holding the lock for more than `limits.STORE_LOCK_TIMEOUT`.

    Raises:
        StoreUnavailable: What is at the path is not a lock of ours; it is not touched.
        StoreLocked: Another process has the store open, on a system where only one may.
    """

    def __init__(self, path: str, on_stuck: Callable[[], None]) -> None:
        self._file = open_lock_file(path)
        self._board = self._file.board
        self._me = secrets.token_bytes(8)
        self._on_stuck = on_stuck
        self._waits_since: float | None = None
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Self:
        if not self._file.acquire(wait=False):
            self._wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.release()

    def take_over(self) -> bool:
        """Whether another process was the last writer; from now on this one is.

        This process is marked before it writes, not after: if it dies in between, the others must
        not go on with their caches.
        """
        if self._board[_WRITER] == self._me:
            return False
        self._board[_WRITER] = self._me
        return True

    @property
    def is_deleted(self) -> bool:
        """Whether the lock file was deleted: a process that comes later would lock another one."""
        return self._file.is_deleted

    @property
    def peers(self) -> bytes:
        """Random bytes that change when a process starts or stops listening."""
        return bytes(self._board[_PEERS])

    def tell_peers_changed(self) -> None:
        """Make all processes look again which of them listen."""
        self._board[_PEERS] = secrets.token_bytes(8)

    @property
    def damaged(self) -> int:
        """The inode of the file that was found to be damaged, in any process; 0 for none."""
        return int.from_bytes(self._board[_DAMAGED], "little")

    def tell_damaged(self, inode: int) -> None:
        """Mark a file as damaged: no process writes to it any more, or opens it without a check.

        Args:
            inode: The file's inode; 0 removes the mark.
        """
        self._board[_DAMAGED] = inode.to_bytes(8, "little")

    def close(self) -> None:
        """Close the lock file."""
        self._closed.set()
        if self._watch is not None:
            self._watch.join()
        self._file.close()

    # `flock` has no time-out. So the writer thread waits without a limit, and another thread
    # refuses the operations that wait behind it.

    def _wait(self) -> None:
        self._waits_since = time.monotonic()
        if self._watch is None:
            watch = threading.Thread(target=self._look, name="tailrace-store-lock", daemon=True)
            with suppress(RuntimeError):  # the system has no thread left: this wait has no limit
                watch.start()
                self._watch = watch
        try:
            self._file.acquire(wait=True)
        finally:
            self._waits_since = None

    def _look(self) -> None:
        while not self._closed.wait(limits.STORE_LOCK_TIMEOUT / 2):
            since = self._waits_since
            if since is not None and time.monotonic() - since >= limits.STORE_LOCK_TIMEOUT:
                self._on_stuck()


# The file -----------------------------------------------------------------------------------------


def open_lock_file(path: str) -> _SharedLockFile | _OwnLockFile:
    """Open the lock file beside a database; made if it is missing.

    Raises:
        StoreUnavailable: What is at the path is not a lock of ours; it is not touched.
        StoreLocked: Another process has the store open, on a system where only one may.
    """
    return _OwnLockFile.open(path) if fcntl is None else _SharedLockFile(path)


def _open(path: str) -> int:
    """Open the lock file, or make it if there is none; not for Windows.

    Args:
        path: Beside the database.

    Returns:
        A descriptor, for reading and writing.

    Raises:
        StoreUnavailable: What is at the path is not a lock of ours. It is not touched.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        number = os.open(path, flags, 0o600)
    except OSError as error:
        if os.path.islink(path):
            raise foreign(path, "its lock", "it is a link") from error
        raise
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode) or found.st_size not in (0, _SIZE):  # a new one is empty
        reason = "it is another file"
    elif found.st_nlink > 1:
        reason = "it has a second name"
    elif not is_ours(path, found):
        reason = "another user has made it"
    else:
        return number
    os.close(number)
    raise foreign(path, "its lock", reason)


class _SharedLockFile:
    """A lock file for any number of processes.

    `board` is its mapped memory: all processes that have the store open see its bytes without a
    system call.
    """

    def __init__(self, path: str) -> None:
        self._file = _open(path)
        try:
            if os.fstat(self._file).st_size < _SIZE:
                os.ftruncate(self._file, _SIZE)
            self.board = mmap.mmap(self._file, _SIZE)
        except BaseException:
            os.close(self._file)
            raise

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock, for this thread; False if it would have to wait and may not."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    @property
    def is_deleted(self) -> bool:
        """Whether it was deleted: a process that comes later would lock another one."""
        return os.fstat(self._file).st_nlink == 0

    def close(self) -> None:
        self.board.close()
        os.close(self._file)


class _OwnLockFile:
    """A lock file for one process: its stores that are open on the same file share this object."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = _lock_for_good(path)
        self._turn = threading.Lock()
        self.board = bytearray(_SIZE)
        self.users = 0

    @classmethod
    def open(cls, path: str) -> _OwnLockFile:
        path = os.path.realpath(path)
        with _changing:
            if path not in _own:
                _own[path] = cls(path)
            _own[path].users += 1
            return _own[path]

    def acquire(self, *, wait: bool) -> bool:
        return self._turn.acquire(blocking=wait)

    def release(self) -> None:
        self._turn.release()

    @property
    def is_deleted(self) -> bool:
        return False  # Windows does not delete what is open

    def close(self) -> None:
        with _changing:
            self.users -= 1
            if not self.users:
                del _own[self._path]
                self._lock.release()


_own: dict[str, _OwnLockFile] = {}
_changing = threading.Lock()


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
