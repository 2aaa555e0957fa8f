"""The file of a store, what lies beside it, and which files this process has open.

A user who may make names in the store's directory (a shared upload directory) can put a link there,
to a file of another user, before the store makes its own. So what lies beside the database is
opened without following links, and then looked at by its descriptor. SQLite does the first for the
files that it makes (`O_NOFOLLOW`, since 3.31), and not the second: it would write through a second
name. So these are looked at before it opens them; what is put there later, it has open already.

Ours is what this process's user owns, or the owner of the directory: that one could exchange the
store itself. It is also the rule of Linux for links in shared directories (`protected_symlinks`).

SQLite remembers in memory what the process has locked, for POSIX gives locks to a process and not
to a descriptor. Two things follow that nothing else guards against (`held_open`):

* Closing *any* descriptor of a file drops the process's locks on it, also SQLite's. So a file that
  is open may not be looked at in another way than through SQLite.
* A forked child has a copy of that memory, and none of the locks. A connection of its own would
  trust in them. So a file that was open at the fork cannot be opened again in the child.

Source: SQLite, "How To Corrupt An SQLite Database File", 2.2 and 2.6.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.errors import StoreUnavailable
from tailrace.store.private import DIRECTORY

__all__ = ["Location", "foreign", "held_open", "is_ours", "refuse_links"]

_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)  # Windows: as Python opens everything

_MOST_PATH_BYTES: Final = 500
"""SQLite's own bound is 512, with what it appends for the files beside it."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is. All its names are absolute, so that a later `chdir` changes nothing, and of
    the file itself: processes that come to it by different links share one lock.

    Args:
        file: The database.
    """

    file: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Location:
        """From a path as it was given."""
        return cls(os.path.realpath(os.fspath(path)))

    @property
    def lock(self) -> str:
        """The file that is locked around each write; see `lock.py`."""
        return f"{self.file}-lock"

    @property
    def peers(self) -> str:
        """The directory of the processes' sockets; see `peers.py`."""
        return f"{self.file}-peers"

    def paths(self) -> list[str]:
        """All that is the store's: its files, the directory of the sockets, and `.tailrace`."""
        own = [self.file, *(f"{self.file}{suffix}" for suffix in ("-wal", "-shm", "-journal"))]
        own += (self.lock, self.peers)
        above = os.path.dirname(self.file)
        return [*own, above] if os.path.basename(above) == DIRECTORY else own

    def inode(self) -> tuple[int, int] | None:
        """Which file is at the path; None: no file is."""
        try:
            found = os.stat(self.file)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def prepare(self) -> None:
        """Make the directory and an empty file that is only its owner's, unless they exist.

        SQLite gives the files beside it (the log, the index of the log) the same mode.

        Raises:
            StoreUnavailable: SQLite takes no path that is as long.
        """
        if len(os.fsencode(self.file)) > _MOST_PATH_BYTES:
            raise StoreUnavailable(
                self.file,
                f"has a path of more than {_MOST_PATH_BYTES} bytes: use a shorter path",
            )
        parent = Path(self.file).parent
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            number = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOEXEC, 0o600)
        except FileExistsError:
            if stat.S_ISLNK((found := os.lstat(self.file)).st_mode) and not is_ours(
                self.file, found
            ):
                raise StoreUnavailable(
                    self.file, "is a link that another user has made: remove it"
                ) from None
            return
        os.close(number)
        if hasattr(os, "O_DIRECTORY"):  # Windows opens none; NTFS keeps names in a journal
            _sync_directory(parent)


def _sync_directory(path: Path) -> None:
    """Let a new name survive a power cut as well as what is committed to its file."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def refuse_links(file: str) -> None:
    """Refuse what SQLite would write through, and what would be told of every append.

    A database with two names is refused too: each name would have a log of its own.

    Args:
        file: The database, by no link.

    Raises:
        StoreUnavailable: Something at its name, or beside it, is a link, has a second name, or is
            not one of its files. It is not touched.
    """
    for path in (file, *(f"{file}{suffix}" for suffix in ("-wal", "-shm", "-journal"))):
        found = _at(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise foreign(path, "its own", "it is another file")
        if found is not None and found.st_nlink > 1:
            raise foreign(path, "its own", "it has a second name")
    peers = Location(file).peers
    found = _at(peers)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise foreign(peers, "its directory", "it is a link or a file")
    if found is not None and not is_ours(peers, found):
        raise foreign(peers, "its directory", "another user has made it")


def _at(path: str) -> os.stat_result | None:
    """What is there, without following a link."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def is_ours(path: str, found: os.stat_result) -> bool:
    """Whether no other user has put this here: it is of our user, or of the directory's owner.

    Args:
        path: Where it is.
        found: What it is.
    """
    if not hasattr(os, "geteuid"):  # Windows tells no owner
        return True
    return found.st_uid in (os.geteuid(), os.stat(os.path.dirname(path)).st_uid)


def foreign(path: str, use: str, reason: str) -> StoreUnavailable:
    """The error for a file beside the database that is not the store's own."""
    return StoreUnavailable(path, f"cannot be used by the store as {use}, for {reason}: remove it")


# Files that are open ------------------------------------------------------------------------------

_lock = threading.Lock()
_open: Counter[str] = Counter()
_inherited: set[str] = set()


@contextmanager
def held_open(file: str, look: Callable[[str], None]) -> Iterator[None]:
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
