"""The directory in which the processes of a file have a socket each.

A socket's address holds 107 bytes, less than a path may have. So it is not given by its path but
through a descriptor of the directory: `/proc/self/fd/7/name`.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Final

from tailrace.store.sqlite.location import is_ours

__all__ = ["Sockets"]

_MOST_NAME_BYTES: Final = 64


class Sockets:
    """The directory, held open.

    Args:
        path: Made if it is missing, for its owner only.

    Raises:
        OSError: It cannot be made or opened; or it is a link, or another user has made it, who
            would be told of every append.
    """

    def __init__(self, path: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._directory = os.open(path, flags)
        if not is_ours(path, os.fstat(self._directory)):
            os.close(self._directory)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    def bind(self, name: str) -> socket.socket:
        """A new socket of that name."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.bind(self.address(name))
        except BaseException:
            made.close()
            raise
        return made

    def address(self, name: str) -> str:
        """Where a socket is found."""
        return f"/proc/self/fd/{self._directory}/{name}"

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
