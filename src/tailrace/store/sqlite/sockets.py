"""The directory in which the processes of a file have a socket each.

A socket's address holds 107 bytes, less than a path may have. So it is not given by its path but
through a descriptor of the directory: `/proc/self/fd/7/name`. macOS has no such path, and room for
103 bytes: a store with a longer path has no sockets there. Windows has none at all. Then whoever
watches looks into the file each second, as wherever hints are lost.

Linux says with each datagram who has sent it. macOS does not: there the directory must be closed to
all others.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Final

from tailrace.store.sqlite.location import is_ours

__all__ = ["TELLS_SENDER", "Sockets"]

TELLS_SENDER: Final = hasattr(socket, "SO_PASSCRED")
"""The system says who has sent a datagram."""

_MOST_NAME_BYTES: Final = 64
_MOST_ADDRESS_BYTES: Final = 103
"""Of macOS's `sun_path`, without the NUL at its end."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_BY_DESCRIPTOR: Final = "/proc/self/fd"


class Sockets:
    """The directory, held open.

    Args:
        path: Made if it is missing, for its owner only.

    Raises:
        OSError: There are no such sockets; the directory cannot be made or opened; or it is a
            link, or another user has made it, who would be told of every append.
    """

    def __init__(self, path: str) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT), path)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._directory = os.open(path, flags)
        by_descriptor = f"{_BY_DESCRIPTOR}/{self._directory}"
        self._above = by_descriptor if os.path.exists(by_descriptor) else path
        found = os.fstat(self._directory)
        is_shared = not TELLS_SENDER and found.st_mode & _OTHERS
        if is_shared or not is_ours(path, found):
            os.close(self._directory)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    @staticmethod
    def new() -> socket.socket:
        """A socket without a name, which sends."""
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def bind(self, name: str) -> socket.socket:
        """A new socket of that name.

        Raises:
            OSError: There can be none here.
        """
        if len(os.fsencode(self.address(name))) > _MOST_ADDRESS_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), self.address(name))
        made = self.new()
        try:
            made.bind(self.address(name))
        except BaseException:
            made.close()
            raise
        return made

    def address(self, name: str) -> str:
        """Where a socket is found."""
        return f"{self._above}/{name}"

    def names(self) -> list[str]:
        """All that are there, dead or alive."""
        return [name for name in os.listdir(self._directory) if len(name) <= _MOST_NAME_BYTES]

    def remove(self, name: str) -> None:
        """Unlink a socket."""
        with suppress(OSError):  # somebody else has done it, or it is not ours to do
            os.unlink(name, dir_fd=self._directory)

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._directory)
