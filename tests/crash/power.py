"""Power cuts at random places of a recorded trace."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.disk import BLOCKS, Disk, Image
from tests.crash.trace import Record

__all__ = ["PowerCut", "memory_folder", "power_cuts"]


@dataclass(frozen=True, slots=True)
class PowerCut:
    """One power cut.

    Attributes:
        place: The place in the trace; everything before it was done.
        block: The size of a block, which the disk does not tear.
        image: What is on the disk.
    """

    place: int
    block: int
    image: Image

    def restore(self, folder: Path) -> None:
        """Write the image into a folder, which must not exist yet."""
        folder.mkdir(parents=True)
        for name, data in self.image.items():
            (folder / name).write_bytes(data)

    def __str__(self) -> str:
        sizes = {name: len(data) for name, data in self.image.items()}
        return f"power cut at {self.place}, blocks of {self.block}, {sizes}"


def power_cuts(
    initial: Mapping[str, bytes],
    records: Sequence[Record],
    count: int,
    rng: random.Random,
    since: int = 0,
) -> Iterator[PowerCut]:
    """Cut the power at `count` random places of a trace, in their order.

    Args:
        initial: The files that existed when the trace began.
        records: The trace.
        count: How many cuts.
        rng: Draws the places and the images.
        since: The first place at which the power may be cut.
    """
    disk = Disk(initial)
    for place in sorted(rng.randint(since, len(records)) for _ in range(count)):
        while disk.place < place:
            disk.follow(records[disk.place])
        block = rng.choice(BLOCKS)
        yield PowerCut(place, block, disk.cut(rng, block))


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory, if the machine has one: syncs are fast there, and the trace has them."""
    shared = "/dev/shm"
    where = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tailrace-crash-", dir=where) as folder:
        yield Path(folder)
