"""One writer at a time, first come first served, over all processes of a file.

SQLite's own waiting sleeps and tries again, and starves: one of four processes got nothing in four
seconds. A plain `flock` on a file beside the database, in front of each transaction, is fair and
costs a system call. The same file, mapped, tells without a system call who wrote last: as long as
that is oneself, what one knows of the streams still holds. `lockfile.py` has both, and what Windows
has in their place.

Both are a convenience. SQLite locks by itself as well, and a writer's caches are checked once more
within the transaction, by SQLite's own `data_version`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tailrace import limits
from tailrace.store.sqlite.lockfile import open_lock_file

__all__ = ["WriteLock"]

_WRITER = slice(0, 8)
"""Who wrote last: 8 random bytes that each process draws."""
_PEERS = slice(8, 16)
"""Changed whenever a process begins or ends to listen."""
_DAMAGED = slice(16, 24)
"""The inode of a file that somebody has found to be damaged; 0 as long as nobody has."""


class WriteLock:
    """The lock of one process; taken by its writer thread only.

    Args:
        path: The file beside the database; made if it is missing.
        on_stuck: Called in a thread of its own, again and again, while somebody else has been
            holding the lock for too long.

    Raises:
        StoreUnavailable: What is at the path is no lock of ours; it is not touched.
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
        """Whether somebody else wrote since this was asked last; from now on it was oneself.

        Said before the write and not after it: a process that dies in between must not leave the
        others with what they knew.
        """
        if self._board[_WRITER] == self._me:
            return False
        self._board[_WRITER] = self._me
        return True

    @property
    def is_deleted(self) -> bool:
        """The file is at no path any more: whoever comes next locks another one."""
        return self._file.is_deleted

    @property
    def peers(self) -> bytes:
        """Changes when a process begins or ends to listen."""
        return bytes(self._board[_PEERS])

    def tell_peers_changed(self) -> None:
        """Let all look again who listens."""
        self._board[_PEERS] = secrets.token_bytes(8)

    @property
    def damaged(self) -> int:
        """The inode of the file that was found to be damaged, in any process; 0 for none."""
        return int.from_bytes(self._board[_DAMAGED], "little")

    def tell_damaged(self, inode: int) -> None:
        """Let no process write to a file any more, and none open it before it is looked at.

        Args:
            inode: The file's; 0 takes it back.
        """
        self._board[_DAMAGED] = inode.to_bytes(8, "little")

    def close(self) -> None:
        """Let go of the file."""
        self._closed.set()
        if self._watch is not None:
            self._watch.join()
        self._file.close()

    # A lock cannot be told how long to wait. So it waits for ever, and another thread sees to it
    # that nobody else does.

    def _wait(self) -> None:
        self._waits_since = time.monotonic()
        if self._watch is None:
            self._watch = threading.Thread(
                target=self._look, name="tailrace-store-lock", daemon=True
            )
            self._watch.start()
        try:
            self._file.acquire(wait=True)
        finally:
            self._waits_since = None

    def _look(self) -> None:
        while not self._closed.wait(limits.STORE_LOCK_TIMEOUT / 2):
            since = self._waits_since
            if since is not None and time.monotonic() - since >= limits.STORE_LOCK_TIMEOUT:
                self._on_stuck()
