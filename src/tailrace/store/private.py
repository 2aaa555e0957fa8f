"""Which files are a store's, so that no other part sends or opens them.

A store's file is known in three ways, for each alone can be got around:

* The stores that this process has open, by device and inode: whatever link, name or mount leads to
  them. Such a file may not even be opened elsewhere: closing any descriptor of it drops the locks
  that SQLite has on it (see `store/sqlite/location.py`).
* What begins as our database does, or as a write-ahead log of SQLite: the stores of other
  processes, copies, and what a renamed log holds.
* By name: the directory `.tailrace`, and what lies beside a store (`streams.db-lock`).
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
"""In the head of our databases: "DSTR", which `file` shows, too."""

DIRECTORY: Final = ".tailrace"
"""Where `tailrace serve` keeps its store."""

HEAD_BYTES: Final = 100
"""How many bytes of a file tell what it is."""

_COMPANIONS: Final = ("-wal", "-shm", "-journal", "-lock", "-peers")
_PAGES: Final = tuple(1 << power for power in range(9, 17))

_lock = threading.Lock()
_open: Counter[tuple[int, int]] = Counter()


@contextmanager
def kept_private(paths: Iterable[str]) -> Iterator[None]:
    """Files and directories of a store that is open for the length of the block.

    Args:
        paths: Those that do not exist are left out.
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
    """Whether a file with these first bytes is one of our databases, or a log of SQLite's.

    Source: SQLite, "Database File Format", 1.3 and 4.1.
    """
    if head[:4] in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"):
        return True
    ours = APPLICATION_ID.to_bytes(4, "big")
    return head[:16] == b"SQLite format 3\0" and head[68:72] == ours


def may_be_store(size: int) -> bool:
    """Whether a file of this size can be one: whole pages, or a log of whole frames.

    A listing of a directory need not open the files that cannot.
    """
    if size % _PAGES[0] == 0:
        return size > 0
    return size >= 32 and any((size - 32) % (24 + page) == 0 for page in _PAGES)


def companion_of(name: str) -> str | None:
    """The name of the store that a file or directory of this name belongs to; None: it has none."""
    for suffix in _COMPANIONS:
        if name.endswith(suffix):
            return name.removesuffix(suffix) or None
    return None
