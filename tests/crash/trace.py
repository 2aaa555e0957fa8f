"""What was done to the files of one directory, in order: what a power cut is made from."""

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
    """A name was made for a new file.

    Attributes:
        inode: Ours: each file that was ever made has its own.
    """

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Found:
    """A file was opened that somebody else has made; taken to be certain, as it is."""

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
    """A file was set to a size."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A sync has returned.

    Attributes:
        until: The place in the trace at which it was called: what was done to the file while it
            ran is not covered by it.
        names: The directory was synced as well.
    """

    inode: int
    until: int
    names: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """A name was taken away.

    Attributes:
        synced: The directory was synced after it.
    """

    name: str
    synced: bool


@dataclass(frozen=True, slots=True)
class Marked:
    """Nothing of a file: a moment that somebody wants to know the place of."""


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
            Its place.
        """
        with self._lock:
            self.records.append(record)
            return len(self.records) - 1

    def mark(self) -> int:
        """The place of this moment: what was recorded before it has happened, nothing else."""
        return self.add(Marked())
