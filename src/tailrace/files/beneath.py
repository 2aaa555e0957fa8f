"""Opening what is beneath a directory, and nothing else.

A path that was checked as text can lead elsewhere by the time it is opened. So nothing here is
opened by its path: each name is opened relative to the descriptor of the directory above it, and
the kernel is told not to follow a link (`O_NOFOLLOW`), except one that is allowed by its name. So
if a link is put in place of a file or directory after it was checked, the open fails.

Links are followed by this module. The target is read, and its names are walked like those of the
request. Two dots never reach the kernel: they take one name off the trail, which holds no links. If
the trail is empty, they lead out, and the path is refused.

`openat2` with `RESOLVE_BENEATH` does the same in the kernel. It is not used: Python has no binding
for it, Docker's older seccomp profiles refuse it, macOS does not have it, and links that are
allowed by name would need the walk all the same. If a directory is renamed meanwhile, it answers
EAGAIN, whereas this walk goes on in the directory that it holds open, which was inside.

What belongs to a store of streams is not opened, whatever name or link leads to it
(`store/private.py` says how it is recognised). Each name is tested where it is opened.

Only a plain file is opened for reading: `lstat` comes first; if a FIFO was put in its place since,
`O_NONBLOCK` keeps the open from blocking; and `fstat` of the descriptor decides."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.errors import PathRefused
from tailrace.limits import MAX_LINK_TURNS
from tailrace.runtime import Descriptor
from tailrace.store import DIRECTORY, HEAD_BYTES, companion_of, is_open_store, is_store_head

__all__ = ["POSSIBLE", "Links", "Tree", "belongs_to_store", "is_store"]

POSSIBLE = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether the system can open relative to a directory; Windows cannot, and nothing is opened there.

This module must be importable there, too: `tailrace.Files` imports it.
"""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
# O_PATH: to pass through a directory, the right to read it is not needed. macOS has no O_PATH.
_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | _CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _CLOEXEC


@dataclass(frozen=True, slots=True)
class Links:
    """Which symbolic links are followed.

    Args:
        inside: Follow links whose target is beneath the directory.
        named: Names down to links that are followed wherever they lead. No path leads out of the
            target of such a link.
    """

    inside: bool
    named: frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory, and the rules by which what is beneath it is opened.

    Args:
        path: The directory's absolute path. Links in it are followed anew for each request, so that
            one rename can switch it to another release.
        links: Which links beneath it are followed.
    """

    path: str
    links: Links

    def open(self, names: Sequence[str]) -> Descriptor:
        """Open a plain file for reading, or a directory to open from.

        Blocks: call it in a thread. It does not block on a FIFO, and opens no device or socket.

        Args:
            names: The names from the directory down. The caller has made sure that none is "", "."
                or "..", or holds a slash or NUL.

        Raises:
            PathRefused: The path leads out, through a link that is not followed, to a store's
                file, or to what is neither a plain file nor a directory.
            OSError: It does not exist, is not readable, or the file system fails.
        """
        walk = _Walk(self, names)
        try:
            return walk.run()
        finally:
            walk.close()


def belongs_to_store(name: str, found: os.stat_result, directory: int) -> bool:
    """Whether a file or directory belongs to a store, without opening it.

    Args:
        name: Its name in the directory.
        found: Its `lstat`; it is not a link.
        directory: A descriptor of the directory.
    """
    if name.casefold() == DIRECTORY or is_open_store(found):  # `.TAILRACE` may be the same place
        return True
    store = companion_of(name)
    return store is not None and is_store(store, directory)


def is_store(name: str, directory: int) -> bool:
    """Whether a file is a store's, by its first bytes, or because this process has it open."""
    try:
        found = os.stat(name, dir_fd=directory)
        if is_open_store(found):  # it must not be opened: see `store/private.py`
            return True
        if not stat.S_ISREG(found.st_mode):
            return False
        with Descriptor(os.open(name, _FILE, dir_fd=directory)) as opened:
            return is_store_head(os.pread(opened.fileno(), HEAD_BYTES, 0))
    except OSError:
        return False


class _Walk:
    """The walk down one path. It holds open the root, the base, and the place where it is.

    The base is the root, or the target of a link that is allowed by its name.
    """

    def __init__(self, tree: Tree, names: Sequence[str]) -> None:
        self._tree = tree
        self._pending = deque(names)
        self._root = Descriptor(os.open(tree.path, _DIRECTORY))
        self._base = self._root
        self._trail: list[str] = []
        """The names from the base to the place where the walk is; none of them is a link."""
        self._at: Descriptor | None = self._base
        """The place; None when the trail was cut and has to be walked again."""
        self._turns = 0

    def close(self) -> None:
        for opened in (self._at, self._base, self._root):
            if opened is not None:
                opened.close()

    def run(self) -> Descriptor:
        while self._pending:
            name = self._pending.popleft()
            if name == "..":
                self._up()
            elif name not in ("", "."):
                found = self._step(name)
                if found is not None:
                    return found
        return Descriptor(os.dup(self._here()))

    def _here(self) -> int:
        if self._at is None:
            self._turn()
            self._at = self._base
            for name in self._trail:
                self._enter(name)
        return self._at.fileno()

    def _step(self, name: str) -> Descriptor | None:
        """Go down by one name; gives the file if the walk ends at one."""
        here = self._here()
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        mode = found.st_mode
        if stat.S_ISLNK(mode):
            return self._link(name)
        if belongs_to_store(name, found, here):
            raise PathRefused(name, "belongs to a store")
        if stat.S_ISDIR(mode):
            self._enter(name)
            self._trail.append(name)
            return None
        return self._file(name, mode, _NO_FOLLOW)

    def _enter(self, name: str) -> None:
        entered = Descriptor(os.open(name, _DIRECTORY | _NO_FOLLOW, dir_fd=self._here()))
        self._leave()
        self._at = entered

    def _leave(self) -> None:
        if self._at is not None and self._at is not self._base:
            self._at.close()
        self._at = None

    def _file(self, name: str, mode: int, no_follow: int) -> Descriptor:
        if not stat.S_ISREG(mode):
            raise PathRefused(name, "is neither a plain file nor a directory")
        if self._pending:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        opened = Descriptor(os.open(name, _FILE | no_follow, dir_fd=self._here()))
        refused = None
        if not stat.S_ISREG(opened.stat.st_mode):
            refused = "is not a plain file any more"
        elif is_open_store(opened.stat) or is_store_head(os.pread(opened.fileno(), HEAD_BYTES, 0)):
            refused = "is a store"
        if refused is not None:
            opened.close()
            raise PathRefused(name, refused)
        return opened

    # Links --------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._turns += 1
        if self._turns > MAX_LINK_TURNS:
            raise PathRefused(self._tree.path, f"goes through more than {MAX_LINK_TURNS} links")

    def _link(self, name: str) -> Descriptor | None:
        self._turn()
        links = self._tree.links
        if self._base is self._root and (*self._trail, name) in links.named:
            return self._follow(name)
        if not links.inside:
            raise PathRefused(name, "is a symbolic link")
        target = os.readlink(name, dir_fd=self._here())
        names = target.split("/")
        if target.startswith("/"):
            names = self._names_beneath_root(target)
            self._leave()
            self._base, self._trail = self._root, []
        self._pending.extendleft(reversed(names))
        return None

    def _up(self) -> None:
        if not self._trail:
            raise PathRefused("..", "leads out of the directory")
        self._trail.pop()
        self._leave()

    def _follow(self, name: str) -> Descriptor | None:
        """Follow a link that is allowed by its name; gives the file if it leads to one."""
        here = self._here()
        found = os.stat(name, dir_fd=here)
        mode = found.st_mode
        if is_open_store(found):
            raise PathRefused(name, "belongs to a store")
        if not stat.S_ISDIR(mode):
            return self._file(name, mode, 0)
        followed = Descriptor(os.open(name, _DIRECTORY, dir_fd=here))
        self._leave()
        self._base, self._trail, self._at = followed, [], followed
        return None

    def _names_beneath_root(self, target: str) -> list[str]:
        names = [name for name in target.split("/") if name not in ("", ".")]
        for root in (self._tree.path, os.path.realpath(self._tree.path)):
            above = root.strip("/").split("/") if root != "/" else []
            if names[: len(above)] == above:
                return names[len(above) :]
        raise PathRefused(target, "leads out of the directory")
