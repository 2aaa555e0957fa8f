"""A virtual file system for SQLite that passes every call on, and records what was done.

It inherits from SQLite's own VFS for Unix, so locking and shared memory are the real ones. The
shared memory (`-shm`) is not recorded: nothing in it is needed after a power cut.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
from typing_extensions import Buffer

from tests.crash.trace import Deleted, Entered, Found, Synced, Trace, Truncated, Wrote

__all__ = ["Recorder", "recording"]

_numbers = itertools.count()

_CREATE = apsw.SQLITE_OPEN_CREATE
# For these files SQLite also syncs the directory, once, when the file is first synced (os_unix.c):
# if the name of a journal were lost, the journal would never be rolled back.
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """A recorder for the files of a folder; it is registered with SQLite while the block runs.

    All connections that were opened with it must be closed before the end of the block.
    """
    recorder = Recorder(folder)
    try:
        yield recorder
    finally:
        recorder.unregister()


class Recorder(apsw.VFS):
    """Records what connections do that were opened with `vfs=recorder.name`.

    Attributes:
        name: The name of the VFS.
        trace: What was done so far.
        initial: The files that existed before, by name. They are on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"recorder-{next(_numbers)}"
        self.trace = Trace()
        self._folder = os.path.realpath(folder)
        self._lock = threading.Lock()
        self.initial = {
            name: Path(self._folder, name).read_bytes()
            for name in sorted(os.listdir(self._folder))
            if Path(self._folder, name).is_file()
        }
        self._inodes: dict[str, int] = {name: at for at, name in enumerate(self.initial)}
        self._next = itertools.count(len(self.initial))
        super().__init__(self.name, "unix")

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if name is None or path is None or os.path.dirname(os.path.realpath(path)) != self._folder:
            return super().xOpen(name, flags)
        asked = flags[0]
        with self._lock:
            is_there = os.path.exists(path)
            file = _File(name, flags, self.trace, bool(asked & _JOURNALS and asked & _CREATE))
            file.inode = self._inode(path, is_there)
        return file

    def _inode(self, path: str, is_there: bool) -> int:
        name = os.path.basename(path)
        if is_there and name not in self._inodes:
            inode = self._inodes[name] = next(self._next)
            self.trace.add(Found(name, inode, Path(path).read_bytes()))
        elif not is_there:
            inode = self._inodes[name] = next(self._next)
            self.trace.add(Entered(name, inode))
        return self._inodes[name]

    def xDelete(self, path: str, sync: bool) -> None:  # noqa: N802 - SQLite's name
        with self._lock:
            super().xDelete(path, sync)
            if os.path.dirname(os.path.realpath(path)) == self._folder:
                self._inodes.pop(os.path.basename(path), None)
                self.trace.add(Deleted(os.path.basename(path), sync))


class _File(apsw.VFSFile):
    """One open file. The thread that has done something to it records that afterwards."""

    inode: int

    def __init__(
        self,
        name: str | apsw.URIFilename,
        flags: list[int],
        trace: Trace,
        syncs_directory: bool,
    ) -> None:
        super().__init__("unix", name, flags)
        self._trace = trace
        self._syncs_directory = syncs_directory

    def xWrite(self, data: Buffer, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._trace.add(Wrote(self.inode, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802 - SQLite's name
        super().xTruncate(size)
        self._trace.add(Truncated(self.inode, size))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        until = self._trace.mark()
        super().xSync(flags)
        names, self._syncs_directory = self._syncs_directory, False
        self._trace.add(Synced(self.inode, until, names))
