"""What a disk may hold after a power cut: one of all legal states, at random.

This is the model; some points are harder on a program than ext4:

* When a `sync` of a file has returned, everything is on the disk that was written to the file
  before the `sync` was called. Of what was written later, the file keeps nothing, or everything, or
  a first part (its last write may be torn), or any of its blocks, each as it was after any of the
  writes to it. For the kernel writes pages back one by one, at any time. A block is 4,096 bytes, or
  512 on a disk that tears pages.
* A block within the file's size that was not written back reads as zeros; the size may be ahead of
  the data. Within a block, bytes that were not overwritten stay as they were (SQLite calls this
  "powersafe overwrite", and assumes it of every disk).
* A truncation is atomic, and ordered before later changes of the same file, as by a journal of
  metadata: blocks that are allocated after it depend on it.
* Files are independent of each other: writes to two files have no order, and a sync of one file
  writes nothing of another (on ext4 it writes all names and sizes).
* A name that was created or deleted is certain only when the directory was synced, not when its
  file was. Each name is independent of the others (ext4 keeps their order).

Not in the model: a disk that reports a sync that it has not done, or that loses old data.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.crash.trace import Deleted, Entered, Found, Record, Synced, Truncated, Wrote

__all__ = ["BLOCKS", "Disk", "Image"]

BLOCKS = (4096, 512)
"""Bytes that a disk writes completely or not at all: a page of the kernel, or a sector."""

Image = dict[str, bytes]
"""The files of a directory, by name."""

_Change = Wrote | Truncated


class Disk:
    """The disk of a running program: what is certain, and what is pending.

    Args:
        initial: The files that are on the disk at the start; the nth of them is inode n.
    """

    def __init__(self, initial: Mapping[str, bytes]) -> None:
        self._files = {inode: _File(bytearray(data)) for inode, data in enumerate(initial.values())}
        # The files for which a name may stand, the oldest first; the first is certain.
        self._names: dict[str, list[int | None]] = {
            name: [inode] for inode, name in enumerate(initial)
        }
        self._place = 0

    @property
    def place(self) -> int:
        """How many records of the trace it has followed."""
        return self._place

    def follow(self, record: Record) -> None:
        """Apply the next record of the trace."""
        match record:
            case Entered(name, inode):
                self._files[inode] = _File()
                self._names.setdefault(name, [None]).append(inode)
            case Found(name, inode, data):
                self._files[inode] = _File(bytearray(data))
                self._names[name] = [inode]
            case Wrote() | Truncated():
                self._files[record.inode].pending.append((self._place, record))
            case Synced(inode, until, names):
                self._files[inode].sync(until)
                if names:
                    self._sync_names()
            case Deleted(name, synced):
                self._names[name].append(None)
                if synced:
                    self._sync_names()
        self._place += 1

    def now(self) -> Image:
        """The files as the running system sees them: with everything that was done."""
        return {
            name: _replayed(self._files[last].certain, self._files[last].changes)
            for name, (*_, last) in self._names.items()
            if last is not None
        }

    def cut(self, rng: random.Random, block: int) -> Image:
        """One of the states in which the disk may be if the power is cut now."""
        image = {}
        for name, versions in self._names.items():
            inode = _one_of(rng, versions)
            if inode is not None:
                image[name] = self._files[inode].cut(rng, block)
        return image

    def _sync_names(self) -> None:
        for versions in self._names.values():
            del versions[:-1]


def _one_of(rng: random.Random, versions: list[int | None]) -> int | None:
    # Mostly the last one, because an image without its database tests little.
    return versions[-1] if len(versions) == 1 or rng.random() < 0.5 else rng.choice(versions)


@dataclass(slots=True)
class _File:
    """One file: what is certain, and what was done since.

    Attributes:
        certain: Its bytes on the disk.
        pending: The changes since then, each with its place in the trace.
    """

    certain: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, _Change]] = field(default_factory=list)

    @property
    def changes(self) -> list[_Change]:
        return [change for _place, change in self.pending]

    def sync(self, until: int) -> None:
        covered = [change for place, change in self.pending if place < until]
        del self.pending[: len(covered)]
        for change in covered:
            _apply(self.certain, change)

    def cut(self, rng: random.Random, block: int) -> bytes:
        changes = self.changes
        if not changes:
            return bytes(self.certain)
        match rng.randrange(4):
            case 0:
                return bytes(self.certain)
            case 1:
                return _replayed(self.certain, changes)
            case 2:
                return _replayed(self.certain, _torn(rng, changes, block))
            case _:
                return _scattered(self.certain, changes, rng, block)


def _apply(data: bytearray, change: _Change) -> None:
    size = change.at + len(change.data) if isinstance(change, Wrote) else change.size
    if len(data) < size:
        data.extend(bytes(size - len(data)))
    if isinstance(change, Wrote):
        data[change.at : size] = change.data
    else:
        del data[size:]


def _replayed(certain: bytearray, changes: list[_Change]) -> bytes:
    data = bytearray(certain)
    for change in changes:
        _apply(data, change)
    return bytes(data)


def _torn(rng: random.Random, changes: list[_Change], block: int) -> list[_Change]:
    """The first few of the changes; a write at their end may stop where a block ends."""
    kept = changes[: rng.randint(0, len(changes))]
    if kept and isinstance(last := kept[-1], Wrote):
        ends = range(last.at - last.at % block + block, last.at + len(last.data), block)
        if ends:
            kept[-1] = Wrote(last.inode, last.at, last.data[: rng.choice(ends) - last.at])
    return kept


def _scattered(certain: bytearray, changes: list[_Change], rng: random.Random, block: int) -> bytes:
    """The file when each block, and the size, is as it was after some number of the changes."""
    data = bytearray(certain)
    first_lost = _first_lost_truncation(certain, changes, rng)
    shrunk_to = None  # by a lost truncation: blocks behind it were not allocated yet
    version = _versions(rng, len(changes))
    size = len(certain)
    sizes = [size]
    for number, change in enumerate(changes):
        if isinstance(change, Truncated) and number >= first_lost:
            shrunk_to = change.size if shrunk_to is None else min(shrunk_to, change.size)
        elif isinstance(change, Truncated):
            _apply(data, change)
            size = change.size
            sizes = [size]
        else:
            for piece in _pieces(change, block):
                end = piece.at + len(piece.data)
                if version(piece.at // block) > number and (shrunk_to is None or end <= shrunk_to):
                    _apply(data, piece)
            if shrunk_to is None:
                size = max(size, change.at + len(change.data))
                sizes.append(size)
    size = rng.choice(sizes)
    return bytes(data[:size]) + bytes(max(0, size - len(data)))


def _first_lost_truncation(certain: bytearray, changes: list[_Change], rng: random.Random) -> int:
    """The number of the first truncation that was lost; all before it are on the disk."""
    shrinking = []
    size = len(certain)
    for number, change in enumerate(changes):
        if isinstance(change, Wrote):
            size = max(size, change.at + len(change.data))
        else:
            if change.size < size:
                shrinking.append(number)
            size = change.size
    return rng.choice([*shrinking, len(changes)])


def _versions(rng: random.Random, count: int) -> Callable[[int], int]:
    """A function from a block's number to the number of changes that it has on the disk."""
    seen: dict[int, int] = {}
    only_extremes = rng.random() < 0.5

    def version(number: int) -> int:
        if number not in seen:
            seen[number] = rng.choice((0, count)) if only_extremes else rng.randint(0, count)
        return seen[number]

    return version


def _pieces(change: Wrote, block: int) -> list[Wrote]:
    """A write, cut into pieces at the ends of blocks."""
    pieces = []
    at, end = change.at, change.at + len(change.data)
    while at < end:
        stop = min(end, at - at % block + block)
        pieces.append(Wrote(change.inode, at, change.data[at - change.at : stop - change.at]))
        at = stop
    return pieces
