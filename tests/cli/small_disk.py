"""`tailrace serve` with its streams on a small disk, that can be full or read-only.

The disk is a tmpfs in a mount namespace of the server's own. So it needs no root where users may
have namespaces, nobody else sees it, and it is gone with the server.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cli.running_demo import TAILRACE
from tests.cli.running_serve import Running, running_serve
from tests.tools.tool import tool

__all__ = ["SmallDisk", "serve_on_small_disk"]

_MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A disk.

    Args:
        pid: The server, in whose namespace it is.
        place: Where it is mounted there.
    """

    pid: int
    place: Path

    @property
    def root(self) -> Path:
        """Where it is for us."""
        return Path(f"/proc/{self.pid}/root{self.place}")

    def fill(self) -> None:
        """Take all the room that is left."""
        with (self.root / "filling").open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass
        assert os.statvfs(self.root).f_bavail == 0

    def make_room(self) -> None:
        """Give back what `fill` took."""
        (self.root / "filling").unlink()

    def allow_writing(self) -> None:
        """Of one that was read-only from the start."""
        inside = [tool("nsenter"), "-t", str(self.pid), "-m", "-U", "--preserve-credentials"]
        subprocess.run([*inside, "mount", "-o", "remount,rw", str(self.place)], check=True)


@contextlib.contextmanager
def serve_on_small_disk(
    directory: Path, place: Path, *options: str, mounted: str = "size=2m"
) -> Iterator[tuple[Running, SmallDisk]]:
    """The server while the block runs.

    Args:
        directory: What is served under /files/.
        place: An existing directory, over which the disk is mounted.
        options: Further ones of `tailrace serve`.
        mounted: How, in the words of mount.
    """
    store = f"--store=sqlite:///{place}/streams.db"
    unshare = [tool("unshare"), "--map-root-user", "--mount"]
    command = [*unshare, "sh", "-c", _MOUNT, "sh", mounted, place, TAILRACE]
    with running_serve(directory, store, *options, command=command) as server:
        yield server, SmallDisk(server.process.pid, place)
