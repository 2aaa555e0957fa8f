"""A directory as a ZIP, made while it is sent: nothing is stored, and nothing is held but names.

stream-zip makes the format. It takes each member's time, mode and bytes as they come, so that a
file can be read from the descriptor that the safe walk has opened; zipstream-ng, which has fewer
dependencies and costs less for many small files, takes times and modes only with a path of its own
to open, and dates everything else now.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tailrace.errors import ArchiveTooLarge, PathRefused
from tailrace.files.beneath import Tree
from tailrace.files.listing import Order, read_listing
from tailrace.files.names import archived
from tailrace.framing import is_compressible
from tailrace.limits import MAX_ARCHIVE_ENTRIES
from tailrace.runtime import Descriptor
from tailrace.semantics import MediaTypes

if TYPE_CHECKING:
    from stream_zip import MemberFile

__all__ = ["Archive"]

logger = logging.getLogger("tailrace")

_READ_BYTES = 64 * 1024

_LEVEL = 6
"""Deflate's usual one: 64 MB of log lines cost 0.14 s of CPU; at 1, 0.06 s for twice the bytes."""

# What the format's two clocks can both hold: the one of DOS begins in 1980, the other is 32 bits.
_FIRST, _LAST = datetime(1980, 1, 1), datetime(2038, 1, 1)


@dataclass(frozen=True, slots=True)
class _Found:
    """A place in the archive: names from the directory that is archived."""

    names: tuple[str, ...]
    is_directory: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """The ZIP of a directory: what its listings show, but not what is behind links to directories.

    Args:
        tree: The rules.
        names: The directory.
        label: The one directory at the top of the archive.
        hidden: Dotfiles too.
        media_types: Tell what is worth compressing.
    """

    tree: Tree
    names: tuple[str, ...]
    label: str
    hidden: bool
    media_types: MediaTypes

    def check(self) -> None:
        """Count the entries, before anything is sent. Blocks: it is for threads.

        Raises:
            ArchiveTooLarge: More than `limits.MAX_ARCHIVE_ENTRIES`.
        """
        for _ in self._walk(log=False):
            pass

    def chunks(self) -> Iterator[bytes]:
        """The archive's bytes. Blocks: it is for threads."""
        # Here, for it costs 45 ms and 16 MB of libraries, and not everybody has a ZIP made.
        from stream_zip import stream_zip

        with closing(self._members()) as members:
            yield from stream_zip(members, chunk_size=_READ_BYTES)

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
            entries = listing.sorted(Order()).entries
            yield from (
                _Found((*above, entry.name), False) for entry in entries if not entry.is_directory
            )
            # Links to directories are not gone through: they can lead round in a circle, or show
            # one directory in a thousand places.
            below = [
                (*above, entry.name)
                for entry in entries
                if entry.is_directory and not entry.is_link
            ]
            yield from (_Found(names, True) for names in below)
            pending.extend(reversed(below))

    def _members(self) -> Generator[MemberFile, None, None]:
        for found in self._walk(log=True):
            try:
                opened = self.tree.open((*self.names, *found.names))
            except (OSError, PathRefused) as error:
                self._skip(found.names, error)
                continue
            with opened:
                if opened.is_directory == found.is_directory:
                    yield self._member(found, opened)

    def _member(self, found: _Found, opened: Descriptor) -> MemberFile:
        from stream_zip import ZIP_AUTO

        status = opened.stat
        name = "/".join(archived(name) for name in (self.label, *found.names))
        if opened.is_directory:
            mode, size, level = stat.S_IFDIR | 0o755, 0, 0
            name += "/"
        else:
            mode = stat.S_IFREG | (0o755 if status.st_mode & stat.S_IXUSR else 0o644)
            size = status.st_size
            level = _LEVEL if is_compressible(self.media_types.of(found.names[-1])) else 0
        return name, _when(status), mode, ZIP_AUTO(size, level=level), _read(opened, size)

    def _skip(self, names: Sequence[str], error: Exception) -> None:
        logger.warning("left out of a ZIP: %a: %a", "/".join((*self.names, *names)), error)


def _when(status: os.stat_result) -> datetime:
    # The format's clock is local and has no zone.
    try:
        when = datetime.fromtimestamp(status.st_mtime)
    except (OverflowError, ValueError, OSError):
        return _FIRST
    return min(max(when, _FIRST), _LAST)


def _read(opened: Descriptor, size: int) -> Iterator[bytes]:
    """The file up to the length that it had: a log that grows for ever would never be done."""
    while size > 0 and (chunk := os.read(opened.fileno(), min(_READ_BYTES, size))):
        size -= len(chunk)
        yield chunk
