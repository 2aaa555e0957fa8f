"""Which files belong to a store, so that no other part of Tailrace sends or opens them.

There are three tests, because each alone can be evaded:

* By device and inode: the stores that this process has open, whatever link, name or mount leads to
  them. Such a file must not even be opened elsewhere: closing any descriptor of it drops the locks
  that SQLite has on it (see `store/sqlite/location.py`).
* By the first bytes: a file that begins as our database does, or as a write-ahead log of SQLite.
  This finds the stores of other processes, copies of stores, and logs that were renamed.
* By name: the directory `.tailrace`, and the files beside a store (`streams.db-lock`).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = [
    "APPLICATION_ID",
    "DIRECTORY",
    "HEAD_BYTES",
    "companion_of",
    "is_open_store",
    "is_store_head",
    "kept_private",
    "may_be_store",
]

APPLICATION_ID: Final = 0x44535452
"""The application id in the head of our databases: "DSTR". The command `file` shows it."""

DIRECTORY: Final = ".tailrace"
"""Where `tailrace serve` keeps its store."""

HEAD_BYTES: Final = 100
"""How many of a file's first bytes `is_store_head` needs."""

_COMPANIONS: Final = ("-wal", "-shm", "-journal", "-lock", "-peers")
_PAGES: Final = tuple(1 << power for power in range(9, 17))

_lock = threading.Lock()
_open: Counter[tuple[int, int]] = Counter()


@contextmanager
def kept_private(paths: Iterable[str]) -> Iterator[None]:
    """Let `is_open_store` know a store's files and directories while the block runs.

    Args:
        paths: The files and directories; those that do not exist are left out.
    """
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append((status.st_dev, status.st_ino))
    with _lock:
        _open.update(found)
    try:
        yield
    finally:
        with _lock:
            for each in found:
                _open[each] -= 1
                if not _open[each]:
                    del _open[each]


def is_open_store(status: os.stat_result) -> bool:
    """Whether a file or a directory is part of a store that this process has open."""
    return _open[status.st_dev, status.st_ino] > 0


def is_store_head(head: bytes) -> bool:
    """Whether a file begins as one of our databases, or as a write-ahead log of SQLite.

    Args:
        head: Its first `HEAD_BYTES` bytes, or all if it has fewer.

    Source: SQLite, "Database File Format", 1.3 and 4.1.
    """
    if head[:4] in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"):
        return True
    ours = APPLICATION_ID.to_bytes(4, "big")
    return head[:16] == b"SQLite format 3\0" and head[68:72] == ours


def may_be_store(size: int) -> bool:
    """Whether a file of `size` bytes can be a database or a write-ahead log of SQLite.

    A database has whole pages, a log whole frames. So a listing of a directory need not open the
    files of other sizes.
    """
    if size % _PAGES[0] == 0:
        return size > 0
    return size >= 32 and any((size - 32) % (24 + page) == 0 for page in _PAGES)


def companion_of(name: str) -> str | None:
    """The store's name in the name of a file beside it (`streams.db-wal`); None for other names."""
    for suffix in _COMPANIONS:
        if name.endswith(suffix):
            return name.removesuffix(suffix) or None
    return None
