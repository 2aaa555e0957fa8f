"""The file of a store, and what lies beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.errors import StoreUnavailable

__all__ = ["Location"]

_MOST_PATH_BYTES: Final = 500
"""SQLite's own bound is 512, with what it appends for the files beside it."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is. All its names are absolute, so that a later `chdir` changes nothing.

    Args:
        file: The database.
    """

    file: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Location:
        """From a path as it was given."""
        return cls(os.path.abspath(os.fspath(path)))

    @property
    def lock(self) -> str:
        """Locked around each write; see `lock.py`."""
        return f"{self.file}-lock"

    @property
    def peers(self) -> str:
        """The directory of the processes' sockets; see `peers.py`."""
        return f"{self.file}-peers"

    def inode(self) -> tuple[int, int] | None:
        """Which file is at the path; None: there is none."""
        try:
            found = os.stat(self.file)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def prepare(self) -> None:
        """Make the directory and an empty file that is only its owner's, if there is none.

        SQLite gives the files beside it (the log, the index of the log) the same mode.

        Raises:
            StoreUnavailable: SQLite takes no path that is as long.
        """
        if len(os.fsencode(self.file)) > _MOST_PATH_BYTES:
            raise StoreUnavailable(
                self.file,
                f"has a path of more than {_MOST_PATH_BYTES} bytes: give it a shorter one",
            )
        parent = Path(self.file).parent
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            number = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        os.close(number)
        # The name must survive a power cut as well as what is committed to the file.
        directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
