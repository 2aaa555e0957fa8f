"""Files for the rows that send one: in the page cache, or dropped from it."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Final

from benchmarks.client import Body

__all__ = ["cached_share", "evict", "make"]

_MIB: Final = 1024 * 1024
_SAMPLES: Final = 2_000


def make(path: Path, mebibytes: int) -> Body:
    """Write random bytes to the disk and the page cache. Returns their number and digest."""
    sha256 = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(mebibytes):
            piece = os.urandom(_MIB)
            sha256.update(piece)
            file.write(piece)
        # To the disk now: the kernel would do it while the first side has its turn.
        os.fsync(file.fileno())
    return Body(mebibytes * _MIB, sha256.hexdigest())


def evict(path: Path) -> None:
    """Drop a file from the page cache, except for what is not on the disk yet."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(path: Path) -> float | None:
    """How much of a file is in the page cache, 0 to 1; None if the file system cannot tell."""
    size = path.stat().st_size
    step = max(1, size // _SAMPLES)
    found = asked = 0
    with path.open("rb") as file:
        for at in range(0, size, step):
            asked += 1
            try:
                os.preadv(file.fileno(), [bytearray(1)], at, os.RWF_NOWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    return None
                raise
            found += 1
    return found / asked
