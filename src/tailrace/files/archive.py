"""A directory as a ZIP that is made while it is sent; only the names are held in memory.

The standard library writes the format. It can write to an output without `seek`: then each member's
sizes and checksum follow its bytes. Members are read from descriptors that `Tree.open` has opened.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tailrace.errors import ArchiveTooLarge, PathRefused
from tailrace.files.beneath import Tree
from tailrace.files.listing import SortOrder, read_listing
from tailrace.files.names import archived
from tailrace.framing import is_compressible
from tailrace.limits import MAX_ARCHIVE_ENTRIES
from tailrace.runtime import Descriptor
from tailrace.semantics import MediaTypes

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

__all__ = ["Archive"]

logger = logging.getLogger("tailrace")

_READ_BYTES = 64 * 1024

_LEVEL = 6
"""Deflate's default: 64 MB of log lines take 0.14 s of CPU; at 1, 0.06 s for twice the bytes."""

_UNIX = 3
"""The system to which the modes in a member's attributes belong."""

_IS_DIRECTORY = 0x10
"""The attribute of a directory for Windows."""

# Times that both of the format's fields can hold: DOS's begins in 1980, the other one has 32 bits.
_FIRST, _LAST = datetime(1980, 1, 1), datetime(2038, 1, 1)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file or directory to archive; `names` lead to it from the directory that is archived."""

    names: tuple[str, ...]
    is_directory: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """The ZIP of a directory: everything that its listings show, except links to directories.

    Args:
        tree: The directory that is served, and its rules.
        names: The names from there down to the directory that is archived.
        label: The name of the one directory at the top of the archive.
        hidden: Include names that begin with a dot.
        media_types: Say which files are worth compressing.
    """

    tree: Tree
    names: tuple[str, ...]
    label: str
    hidden: bool
    media_types: MediaTypes

    def check(self) -> None:
        """Count the entries, before anything is sent. Blocks: call it in a thread.

        Raises:
            ArchiveTooLarge: There are more than `limits.MAX_ARCHIVE_ENTRIES`.
            PathRefused, OSError: As in `Tree.open`.
        """
        for _ in self._walk(log=False):
            pass

    def chunks(self) -> Iterator[bytes]:
        """The archive's bytes, in pieces. Blocks: call it in a thread.

        If anything fails, the archive ends without its central directory: a client can tell that it
        is not complete.
        """
        from zipfile import ZipFile  # imported here: most applications make no ZIP

        output = _Output()
        with ZipFile(output, "w") as archive:  # type: ignore[call-overload]  # `write` is enough
            for found in self._walk(log=True):
                yield from self._member(archive, output, found)
                if len(output.written) >= _READ_BYTES:  # from many members without bytes
                    yield output.take()
        yield output.take()

    def _walk(self, *, log: bool) -> Iterator[_Found]:
        pending: list[tuple[str, ...]] = [()]
        seen = 0
        while pending:
            above = pending.pop()
            try:
                place: Sequence[str] = (*self.names, *above)
                left = MAX_ARCHIVE_ENTRIES - seen
                listing = read_listing(self.tree, place, hidden=self.hidden, most=left)
            except (OSError, PathRefused) as error:
                if not above:
                    raise
                if log:
                    self._skip(above, error)
                continue
            if listing.truncated:
                raise ArchiveTooLarge(MAX_ARCHIVE_ENTRIES)
            seen += len(listing.entries)
            entries = listing.sorted(SortOrder()).entries
            yield from (
                _Found((*above, entry.name), False) for entry in entries if not entry.is_directory
            )
            # Links to directories are not followed: they can lead in a circle, or to one directory
            # from a thousand places.
            below = [
                (*above, entry.name)
                for entry in entries
                if entry.is_directory and not entry.is_link
            ]
            yield from (_Found(names, True) for names in below)
            pending.extend(reversed(below))

    def _member(self, archive: ZipFile, output: _Output, found: _Found) -> Iterator[bytes]:
        try:
            opened = self.tree.open((*self.names, *found.names))
        except (OSError, PathRefused) as error:
            self._skip(found.names, error)
            return
        with opened:
            if opened.is_directory != found.is_directory:
                return
            info = self._info(found, opened)
            if found.is_directory:
                archive.mkdir(info)
                return
            with archive.open(info, "w") as member:
                for block in _read(opened, opened.stat.st_size):
                    member.write(block)
                    if len(output.written) >= _READ_BYTES:
                        yield output.take()

    def _info(self, found: _Found, opened: Descriptor) -> ZipInfo:
        from zipfile import ZIP_DEFLATED, ZipInfo

        status = opened.stat
        name = "/".join(archived(name) for name in (self.label, *found.names))
        when = _when(status)
        info = ZipInfo(f"{name}/" if found.is_directory else name, when.timetuple()[:6])
        # The format's own time is local, in steps of two seconds; this field is UTC, in seconds.
        info.extra = struct.pack("<2sHBl", b"UT", 5, 1, int(when.timestamp()))
        info.create_system = _UNIX
        if found.is_directory:
            info.external_attr = (stat.S_IFDIR | 0o755) << 16 | _IS_DIRECTORY
            info.CRC = 0  # `mkdir` does not set it
            return info
        executable = status.st_mode & stat.S_IXUSR
        info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
        info.file_size = status.st_size  # from 2 GiB on, `zipfile` writes ZIP64
        # What is not compressed is deflated at level 0: readers that go through a ZIP from its
        # beginning (Java's) cannot find the end of a member that is only stored.
        info.compress_type = ZIP_DEFLATED
        _set_level(info, _LEVEL if is_compressible(self.media_types.of(found.names[-1])) else 0)
        return info

    def _skip(self, names: Sequence[str], error: Exception) -> None:
        logger.warning(
            "left out of a ZIP, because it cannot be read: %a: %a",
            "/".join((*self.names, *names)),
            error,
        )


class _Output:
    """The "file" that the ZIP is written to; it holds what was written and is not taken yet."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, piece: bytes) -> int:
        self.written += piece
        return len(piece)

    def flush(self) -> None:
        """Do nothing: there is nothing to flush to."""

    def take(self) -> bytes:
        taken = bytes(self.written)
        self.written.clear()
        return taken


def _set_level(info: ZipInfo, level: int) -> None:
    if sys.version_info >= (3, 13):
        info.compress_level = level
    else:
        info._compresslevel = level  # type: ignore[attr-defined]  # it was private before 3.13


def _when(status: os.stat_result) -> datetime:
    # Local time: the format's own time has no zone.
    try:
        when = datetime.fromtimestamp(status.st_mtime)
    except (OverflowError, ValueError, OSError):
        return _FIRST
    return min(max(when, _FIRST), _LAST)


def _read(opened: Descriptor, size: int) -> Iterator[bytes]:
    """The file's bytes, up to the size that it had: a log that keeps growing would never end."""
    while size > 0 and (chunk := os.read(opened.fileno(), min(_READ_BYTES, size))):
        size -= len(chunk)
        yield chunk
