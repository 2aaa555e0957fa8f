"""What is in a directory, as far as it is served."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, get_args

from tailrace.errors import PathRefused
from tailrace.files.beneath import Tree, belongs_to_store, is_store
from tailrace.files.names import href, is_served, natural_key, text
from tailrace.store import may_be_store

__all__ = ["Entry", "Listing", "SortKey", "SortOrder", "read_listing"]

SortKey = Literal["name", "size", "time"]


@dataclass(frozen=True, slots=True)
class SortOrder:
    """How a listing is sorted; directories always come first."""

    key: SortKey = "name"
    descending: bool = False

    @classmethod
    def of(cls, key: str | None, direction: str | None) -> SortOrder:
        """From a URL: what is not known is by name, ascending."""
        known: dict[str, SortKey] = {name: name for name in get_args(SortKey)}
        return cls(known.get(key or "", "name"), direction == "desc")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a directory, and for a link what it leads to.

    Args:
        name: As `os.fsdecode` gives it.
        is_link: It is a symbolic link, one that is followed.
        size_bytes: Of a file; 0 for a directory.
        modified: Seconds since 1970.
    """

    name: str
    is_directory: bool
    is_link: bool
    size_bytes: int
    modified: float

    @property
    def href(self) -> str:
        return href(self.name) + ("/" if self.is_directory else "")

    @property
    def modified_at(self) -> datetime:
        """The time in UTC; file systems hold years that a date cannot."""
        try:
            return datetime.fromtimestamp(self.modified, UTC)
        except (OverflowError, ValueError, OSError):
            return datetime.fromtimestamp(0, UTC)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": text(self.name),
            "href": self.href,
            "type": "directory" if self.is_directory else "file",
            "size": None if self.is_directory else self.size_bytes,
            "modified": self.modified_at.isoformat().replace("+00:00", "Z"),
        }


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of one directory.

    Args:
        truncated: There are more, which were not read.
    """

    entries: list[Entry]
    truncated: bool

    def sorted(self, order: SortOrder) -> Listing:
        # Sorting is stable, also in reverse: what is equal stays by name.
        by_name = order.key == "name"
        entries = sorted(self.entries, key=_by_name, reverse=by_name and order.descending)
        if not by_name:
            entries.sort(key=_BY[order.key], reverse=order.descending)
        entries.sort(key=lambda entry: not entry.is_directory)
        return Listing(entries, self.truncated)

    def as_json(self, path: str) -> Iterator[str]:
        """The listing for programs, in pieces; `href` is exact where `name` cannot be."""
        # Entry by entry: written at once, 10,000 of them hold the interpreter for 15 ms.
        yield f'{{"path":{json.dumps(text(path))},"entries":['
        for at, entry in enumerate(self.entries):
            yield f"{',' if at else ''}{json.dumps(entry.as_json())}"
        yield f'],"truncated":{json.dumps(self.truncated)}}}\n'


def _by_name(entry: Entry) -> Any:
    return natural_key(entry.name)


_BY: dict[SortKey, Callable[[Entry], Any]] = {
    "size": lambda entry: entry.size_bytes,
    "time": lambda entry: entry.modified,
}


def read_listing(tree: Tree, names: Sequence[str], *, hidden: bool, most: int) -> Listing:
    """Read a directory. Blocks: it is for threads.

    What would not be served is left out: names that are not, links that are not followed, what
    belongs to a store, and what is neither a plain file nor a directory.

    Args:
        tree: The rules.
        names: The directory.
        hidden: Dotfiles too.
        most: Entries that are looked at, at most.

    Raises:
        PathRefused: As `Tree.open`.
        OSError: As `Tree.open`; NotADirectoryError for a file.
    """
    with tree.open(names) as opened:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=opened.fileno())
    try:
        with os.scandir(readable) as scanned:
            found = list(islice(scanned, most + 1))
            entries = [
                _entry(tree, names, entry, readable)
                for entry in found[:most]
                if is_served(entry.name, hidden=hidden)
            ]
    finally:
        os.close(readable)
    return Listing([entry for entry in entries if entry is not None], len(found) > most)


def _entry(
    tree: Tree, names: Sequence[str], entry: os.DirEntry[str], directory: int
) -> Entry | None:
    try:
        if entry.is_symlink():
            with tree.open((*names, entry.name)) as opened:
                status, is_link = opened.stat, True
        else:
            status, is_link = entry.stat(follow_symlinks=False), False
            if belongs_to_store(entry.name, status, directory) or (
                may_be_store(status.st_size) and is_store(entry.name, directory)
            ):
                return None
    except (OSError, PathRefused):  # gone since, or not served
        return None
    is_directory = stat.S_ISDIR(status.st_mode)
    if not is_directory and not stat.S_ISREG(status.st_mode):
        return None
    size = 0 if is_directory else status.st_size
    return Entry(entry.name, is_directory, is_link, size, status.st_mtime)
