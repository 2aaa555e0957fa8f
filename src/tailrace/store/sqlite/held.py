"""Which files this process has open, and which its parent had when it was forked.

SQLite remembers in memory what the process has locked, for POSIX gives locks to a process and not
to a descriptor. Two things follow that nothing else guards against:

* Closing *any* descriptor of a file drops the process's locks on it, also SQLite's. So a file that
  is open may not be looked at in another way than through SQLite.
* A forked child has a copy of that memory, and none of the locks. A connection of its own would
  trust in them. So a file that was open at the fork cannot be opened again in the child.

Source: SQLite, "How To Corrupt An SQLite Database File", 2.2 and 2.6.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailrace.errors import StoreUnavailable

__all__ = ["held"]

_lock = threading.Lock()
_open: Counter[str] = Counter()
_inherited: set[str] = set()


@contextmanager
def held(file: str, look: Callable[[str], None]) -> Iterator[None]:
    """A file that is open in SQLite for the length of the block.

    Args:
        file: Its path.
        look: Looks at it without SQLite; called only where this process does not have it open.

    Raises:
        StoreUnavailable: The process that this one was forked from had it open; or what `look`
            raises.
    """
    key = os.path.realpath(file)
    with _lock:
        if key in _inherited:
            raise StoreUnavailable(
                file,
                "was open when this process was forked from another, and SQLite cannot open it "
                "again here: use it only after the fork, or start processes by spawn",
            )
        if not _open[key]:
            look(file)
        _open[key] += 1
    try:
        yield
    finally:
        with _lock:
            _open[key] -= 1


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it at the fork
    _inherited.update(key for key, count in _open.items() if count)
    _open.clear()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)
