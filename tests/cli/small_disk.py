"""`tailrace serve` with its streams on a disk that is full, or that cannot be written.

A small disk is a tmpfs in the server's own mount namespace: no other process sees it, and it is
gone with the server. Not every machine allows that (a container or a chroot may not), so
`may_mount` tells. What must hold on a full disk is also tested with writes that fail with ENOSPC.
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

__all__ = [
    "SmallDisk",
    "may_mount",
    "serve_on_small_disk",
    "serve_with_full_disk",
    "serve_without_rights",
]

_MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
_OWN_MOUNTS = ["--mount"] if os.geteuid() == 0 else ["--map-root-user", "--mount"]
_WITHOUT_OVERRIDE = "--bounding-set=-dac_override,-dac_read_search"


def may_mount() -> bool:
    """Whether this machine allows a mount namespace of our own."""
    asked = ["unshare", *_OWN_MOUNTS, "true"]
    return subprocess.run(asked, check=False, stderr=subprocess.DEVNULL).returncode == 0


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A small disk that only the server sees.

    Args:
        pid: The server's process, whose mount namespace has the disk.
        place: The path at which it is mounted there.
    """

    pid: int
    place: Path

    @property
    def root(self) -> Path:
        """The path of the disk for this process."""
        return Path(f"/proc/{self.pid}/root{self.place}")

    def fill(self) -> None:
        """Fill the disk."""
        with (self.root / "filling").open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass
        assert os.statvfs(self.root).f_bavail == 0

    def make_room(self) -> None:
        """Free what `fill` has taken."""
        (self.root / "filling").unlink()


@contextlib.contextmanager
def serve_on_small_disk(
    directory: Path, place: Path, *options: str
) -> Iterator[tuple[Running, SmallDisk]]:
    """The server while the block runs, with its store on a disk of 2 MiB. It needs `may_mount`.

    Args:
        directory: What is served under /files/.
        place: An existing directory; the disk is mounted over it.
        options: More options of `tailrace serve`.
    """
    unshare = [tool("unshare"), *_OWN_MOUNTS]
    command: list[str | Path] = [*unshare, "sh", "-c", _MOUNT, "sh", "size=2m", place, TAILRACE]
    with running_serve(directory, _store(place), *options, command=command) as server:
        yield server, SmallDisk(server.process.pid, place)


@contextlib.contextmanager
def serve_with_full_disk(
    directory: Path, place: Path, first: int, last: int, *options: str
) -> Iterator[Running]:
    """The server while the block runs; its writes from number `first` to `last` get ENOSPC."""
    full = f"inject=pwrite64:error=ENOSPC:when={first}..{last}"
    strace = [tool("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", full]
    with running_serve(directory, _store(place), *options, command=[*strace, TAILRACE]) as server:
        yield server


@contextlib.contextmanager
def serve_without_rights(directory: Path, place: Path, *options: str) -> Iterator[Running]:
    """The server while the block runs; as root, too, it may write only what its user may."""
    root = [tool("setpriv"), _WITHOUT_OVERRIDE] if os.geteuid() == 0 else []
    with running_serve(directory, _store(place), *options, command=[*root, TAILRACE]) as server:
        yield server


def _store(place: Path) -> str:
    return f"--store=sqlite:///{place}/streams.db"
