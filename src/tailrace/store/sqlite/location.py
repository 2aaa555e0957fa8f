"""The file of a store, what lies beside it, and which files this process has open.

A user that may create files in the store's directory (a shared upload directory) can put a link
there, to a file of another user, before the store makes its own file. So the store opens what lies
beside the database without following links, and then checks the descriptor. For the files that
SQLite makes, SQLite does the first (`O_NOFOLLOW`, since 3.31) but not the second: it would write
through a second name (a hard link). So these files are checked before SQLite opens them. What is
put there later does no harm: by then SQLite has its files open.

A file is ours if this process's user owns it, or the owner of the directory, which could exchange
the store itself anyway. Linux has the same rule for links in shared directories
(`protected_symlinks`).

SQLite remembers in memory what the process has locked, because POSIX gives locks to a process and
not to a descriptor. Two things follow, and nothing but `held_open` guards against them:

* Closing *any* descriptor of a file drops the process's locks on it, also SQLite's. So while a file
  is open in SQLite, it may not be opened in another way.
* A forked child has a copy of that memory, but none of the locks. A connection that it opened would
  rely on them. So a file that was open at the fork cannot be opened again in the child.

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

_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)  # Windows: `os.open` does it anyway

_MOST_PATH_BYTES: Final = 500
"""SQLite's own limit is 512, with the suffix that it appends for the files beside it."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is.

    All its paths are absolute, so a later `chdir` changes nothing, and without links: processes
    that reach the file by different links share one lock.

    Args:
        file: The path of the database, as `of` makes it.
    """

    file: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Location:
        """The location of the file that a path leads to."""
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
        """All that is the store's: its files, the directory of its sockets, and `.tailrace`."""
        own = [self.file, *(f"{self.file}{suffix}" for suffix in ("-wal", "-shm", "-journal"))]
        own += (self.lock, self.peers)
        above = os.path.dirname(self.file)
        return [*own, above] if os.path.basename(above) == DIRECTORY else own

    def inode(self) -> tuple[int, int] | None:
        """Device and inode of the file at the path; None if there is no file."""
        try:
            found = os.stat(self.file)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def prepare(self) -> None:
        """Make the directory and an empty file, for their owner only, unless they exist.

        SQLite gives the files beside it (the log, the index of the log) the same mode.

        Raises:
            StoreUnavailable: The path is too long for SQLite, or is a link that another user has
                made.
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
        if hasattr(os, "O_DIRECTORY"):  # Windows cannot open one; NTFS journals names
            _sync_directory(parent)


def _sync_directory(path: Path) -> None:
    """Sync a directory, so that the name of a new file survives a power cut."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def refuse_links(file: str) -> None:
    """Refuse links, and files of others, where the store's own files belong.

    SQLite would write through a link, and the owner of the directory of sockets could receive every
    append. A database with two names is refused too: each name would have a log of its own.

    Args:
        file: The database, without links in its path.

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
    """The status of what is at a path, without following a link; None if nothing is."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def is_ours(path: str, found: os.stat_result) -> bool:
    """Whether our user or the owner of the directory owns this, so that no other has put it there.

    Args:
        path: Where it is.
        found: Its status.
    """
    if not hasattr(os, "geteuid"):  # Windows: the status has no owner
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
    """Record that a file is open in SQLite for the length of the block.

    Args:
        file: Its path.
        look: Checks the file without SQLite; called only if this process does not have it open.

    Raises:
        StoreUnavailable: The file was open when this process was forked; or what `look` raises.
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
