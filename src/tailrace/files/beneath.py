"""Opening what is beneath a directory, and nothing else.

A path that was checked as text can lead elsewhere by the time it is opened. So nothing here is
opened by its path: each name is opened relative to the descriptor of the directory that was opened
before it, and the kernel is told never to follow a link (`O_NOFOLLOW`). A link that is swapped in
between check and open fails the open; no second look-up could disagree with the first.

Links are followed by hand. The target is read, and its names are walked like those of the request;
two dots never reach the kernel but take one name off the trail, which holds no links, and with
nothing left on the trail they would lead out.

`openat2` with `RESOLVE_BENEATH` does the same in the kernel. It was not taken: Python has no
binding for it, Docker's older seccomp profiles refuse it, macOS has none, and links that are
allowed by name would need the walk all the same. Against a rename of a directory in mid-walk it
answers EAGAIN where this walk goes on in the directory that it holds open, which was inside.

What belongs to a store of streams is not opened, by whatever name or link it is reached
(`store/private.py` says how it is known); the test stands where each name is opened.

What is not a plain file is never opened for reading: `lstat` comes first, `O_NONBLOCK` keeps what
was swapped in since from blocking the open, and `fstat` of the descriptor has the last word."""

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

The module must be importable all the same, for the front door imports it.
"""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
# O_PATH: only passing through takes no right to read a directory. macOS has none.
_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | _CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _CLOEXEC


@dataclass(frozen=True, slots=True)
class Links:
    """Which symbolic links are followed.

    Args:
        inside: Those whose target is beneath the directory.
        named: Those at these places, wherever they lead; what is behind one is a directory of its
            own, out of which nothing leads.
    """

    inside: bool
    named: frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory, and the rules by which what is beneath it is opened.

    Args:
        path: The directory, absolute. Links in this path itself are followed, anew for each
            request, so that it can be switched to another release by one rename.
        links: Which links beneath it are followed.
    """

    path: str
    links: Links

    def open(self, names: Sequence[str]) -> Descriptor:
        """Open a plain file for reading, or a directory to open from.

        Blocks: it is for threads. Blocks on no FIFO, and opens no device or socket.

        Args:
            names: From the directory down. The caller has made sure that none is "", "." or "..",
                or holds a slash or NUL.

        Raises:
            PathRefused: It leads out, through a link that is not followed, or to what is neither a
                plain file nor a directory.
            OSError: Not there, not readable, or what else the file system says.
        """
        walk = _Walk(self, names)
        try:
            return walk.run()
        finally:
            walk.close()


def belongs_to_store(name: str, found: os.stat_result, directory: int) -> bool:
    """Whether a name is one of a store's, without opening it.

    Args:
        name: In the directory.
        found: What is there; not a link.
        directory: A descriptor of it.
    """
    if name.casefold() == DIRECTORY or is_open_store(found):  # `.TAILRACE` may be the same place
        return True
    store = companion_of(name)
    return store is not None and is_store(store, directory)


def is_store(name: str, directory: int) -> bool:
    """Whether a file is a store, by its first bytes, or because this process has it open."""
    try:
        found = os.stat(name, dir_fd=directory)
        if is_open_store(found):  # and so may not be opened
            return True
        if not stat.S_ISREG(found.st_mode):
            return False
        with Descriptor(os.open(name, _FILE, dir_fd=directory)) as opened:
            return is_store_head(os.pread(opened.fileno(), HEAD_BYTES, 0))
    except OSError:
        return False


class _Walk:
    """One way down. It holds two descriptors: where it began, and where it is."""

    def __init__(self, tree: Tree, names: Sequence[str]) -> None:
        self._tree = tree
        self._pending = deque(names)
        self._root = Descriptor(os.open(tree.path, _DIRECTORY))
        self._base = self._root
        """The root, or what a named link led to."""
        self._trail: list[str] = []
        """The names from the base to where the walk is; none of them is a link."""
        self._at: Descriptor | None = self._base
        """None where the trail was cut and has to be walked again."""
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
        """Go down by one name; the file, if that is the end."""
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
        """Go where a link leads that is allowed by its name."""
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
