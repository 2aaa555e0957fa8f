"""A disk that fails when it is told to, over the real one; and a system without a thread left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

__all__ = ["Disk", "failure", "no_threads"]


@contextmanager
def no_threads() -> Iterator[None]:
    """Within the block the system starts no thread."""
    before = threading.stack_size(1 << 46)  # more than any address space
    try:
        yield
    finally:
        threading.stack_size(before)


class Disk(apsw.VFS):
    """A disk whose writes and syncs fail if the test sets an error.

    A store uses it by its name: `SQLiteStore(path, vfs=disk.name)`.

    Args:
        name: The name of the VFS, unique in the process.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_write: apsw.Error | None = None
        """The error that each write raises; None: writes succeed."""
        self.on_sync: apsw.Error | None = None
        """The error that each sync raises; None: syncs succeed."""
        self.syncs: list[str] = []
        super().__init__(name, "", iVersion=1)

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 - SQLite's own name
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's own name
        if self._disk.on_write is not None:
            raise self._disk.on_write
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's own name
        self._disk.syncs.append(self._name)
        if self._disk.on_sync is not None:
            raise self._disk.on_sync
        super().xSync(flags)


def failure(code: int) -> Any:
    """The exception for an extended error code of SQLite."""
    error: Any = apsw.exception_for(code & 0xFF)
    error.extendedresult = code
    return error
