"""A trace: what was done to the files of one directory, in order. Power cuts are made from it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

__all__ = [
    "Deleted",
    "Entered",
    "Found",
    "Marked",
    "Record",
    "Synced",
    "Trace",
    "Truncated",
    "Wrote",
]


@dataclass(frozen=True, slots=True)
class Entered:
    """A name was created for a new file.

    Attributes:
        name: The file's name.
        inode: A number that only this file has in the trace.
    """

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Found:
    """A file was opened that others have made. All its bytes count as certain."""

    name: str
    inode: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes were given to the kernel."""

    inode: int
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    """The size of a file was set."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A sync has returned.

    Attributes:
        until: The place in the trace at which the sync was called. Changes after it are not
            covered, even if they came before the sync returned.
        names: The directory was synced, too.
    """

    inode: int
    until: int
    names: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """A file was deleted.

    Attributes:
        synced: The directory was synced after it.
    """

    name: str
    synced: bool


@dataclass(frozen=True, slots=True)
class Marked:
    """Nothing was done. The record only gives this moment a place in the trace."""


Record = Entered | Found | Wrote | Truncated | Synced | Deleted | Marked


class Trace:
    """Records in the order in which they were added, by any thread."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.records)

    def add(self, record: Record) -> int:
        """Append a record.

        Returns:
            Its place in the trace.
        """
        with self._lock:
            self.records.append(record)
            return len(self.records) - 1

    def mark(self) -> int:
        """Give this moment a place in the trace. Returns the place."""
        return self.add(Marked())
