"""How the processes that have the same file open tell each other of commits: by datagrams.

Each process that watches streams has a socket in a directory beside the file. The writer thread of
every other process sends to all sockets that are there (`Peers`). The process itself receives in a
thread (`Receiver`).

A datagram may be lost: the kernel keeps eleven for a process that does not read, and then takes no
more. The sender remembers which process missed some, and tells it so as soon as it reads again;
that process then looks into the file. The socket of a process that has ended takes nothing, and the
sender removes it.

A socket's address holds 107 bytes, less than a path may have. So a socket is addressed not by its
path but through a descriptor of the directory: `/proc/self/fd/7/name`. macOS has no `/proc`, and
room for 103 bytes: a store with a longer path has no sockets there. Windows has no such sockets. A
process without a socket that watches streams looks into the file each second.

Linux says with each datagram which user has sent it. macOS does not: there the directory must be
closed to all other users.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tailrace import limits
from tailrace.store.sqlite.datagram import MOST_BYTES, Datagram, body_of, head_of, parse
from tailrace.store.sqlite.location import is_ours
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.values import Change

__all__ = ["NoReceiver", "Peers", "Receiver", "SocketDirectory", "receiver_at"]

_TELLS_SENDER: Final = hasattr(socket, "SO_PASSCRED")
"""The system says which user has sent a datagram."""

_MOST_NAME_BYTES: Final = 64
_MOST_ADDRESS_BYTES: Final = 103
"""The room in macOS's `sun_path`, without the NUL at its end."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_BY_DESCRIPTOR: Final = "/proc/self/fd"


class SocketDirectory:
    """The directory of the sockets, held open.

    Args:
        path: The directory; made if it is missing, for its owner only.

    Raises:
        OSError: The system has no Unix sockets; the directory cannot be made or opened; it is a
            link; or another user has made it, or may open it where the system does not say who
            has sent a datagram.
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
        is_shared = not _TELLS_SENDER and found.st_mode & _OTHERS
        if is_shared or not is_ours(path, found):
            os.close(self._directory)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    @staticmethod
    def new() -> socket.socket:
        """A new socket without a name, for sending."""
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def bind(self, name: str) -> socket.socket:
        """A new socket of that name.

        Raises:
            OSError: Its address is too long, or it cannot be made.
        """
        address = self.address(name)
        if len(os.fsencode(address)) > _MOST_ADDRESS_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), address)
        made = self.new()
        try:
            made.bind(address)
        except BaseException:
            made.close()
            raise
        return made

    def address(self, name: str) -> str:
        """The address of the socket of that name."""
        return f"{self._above}/{name}"

    def names(self) -> list[str]:
        """The names of all sockets there, also of processes that have ended."""
        return [name for name in os.listdir(self._directory) if len(name) <= _MOST_NAME_BYTES]

    def remove(self, name: str) -> None:
        """Unlink a socket."""
        with suppress(OSError):  # another process has done it, or this user may not
            os.unlink(name, dir_fd=self._directory)

    def close(self) -> None:
        """Close the directory."""
        os.close(self._directory)


# Sending -----------------------------------------------------------------------------------------

_GONE: Final = (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK, errno.EPROTOTYPE)
_SLOWEST: Final = 1.0
"""The most seconds between two attempts to tell a process that does not read."""


@dataclass(slots=True)
class _Peer:
    counter: int = 0
    retry_at: float | None = None
    """When to tell it that it missed something; None: it has missed nothing."""
    retry_after: float = limits.HINT_RETRY


class Peers:
    """The other processes that listen; used by the writer thread only.

    Args:
        path: The directory of their sockets.
        me: The name of this process's own socket.
        lock: Says when a process has started or stopped listening.
    """

    def __init__(self, path: str, me: str, lock: WriteLock) -> None:
        self._path = path
        self._me = me
        self._lock = lock
        self._seen: bytes | None = None
        self._sender = secrets.token_bytes(8)
        self._peers: dict[str, _Peer] = {}
        self._sockets: SocketDirectory | None = None
        self._socket: socket.socket | None = None

    def look(self) -> bool:
        """Whether any other process listens."""
        board = self._lock.peers
        if board != self._seen:
            self._seen = board
            self._list()
        return bool(self._peers)

    def tell(self, changes: Sequence[Change]) -> None:
        """Send the changes to each process, in one datagram."""
        body = body_of(changes)
        for name, peer in list(self._peers.items()):
            # One that has missed something must look into the file anyway.
            if peer.retry_at is None:
                self._send(name, peer, body)

    def next_in(self) -> float | None:
        """Seconds until `retry` has something to do."""
        times = [peer.retry_at for peer in self._peers.values() if peer.retry_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def retry(self) -> None:
        """Tell processes that they missed something, if it is time."""
        now = time.monotonic()
        for name, peer in list(self._peers.items()):
            if peer.retry_at is not None and now >= peer.retry_at:
                self._send(name, peer, b"")

    def close(self) -> None:
        """Close the sockets."""
        if self._socket is not None:
            self._socket.close()
        if self._sockets is not None:
            self._sockets.close()
        self._peers.clear()

    def _list(self) -> None:
        if self._sockets is None:
            try:
                self._sockets = SocketDirectory(self._path)
            except OSError:
                return  # watchers look into the file each second, too
            self._socket = self._sockets.new()
            self._socket.setblocking(False)
        try:
            names = sorted(name for name in self._sockets.names() if name != self._me)
        except OSError:
            names = []
        known, self._peers = self._peers, {}
        for name in names[: limits.MAX_PEERS]:
            self._peers[name] = known.get(name) or _Peer()

    def _send(self, name: str, peer: _Peer, body: bytes) -> None:
        assert self._sockets is not None
        assert self._socket is not None
        peer.counter += 1
        parts = (head_of(self._sender, peer.counter), body)
        try:
            self._socket.sendmsg(parts, (), 0, self._sockets.address(name))
        except OSError as error:
            if error.errno in _GONE:
                self._sockets.remove(name)
                del self._peers[name]
            else:
                # Full, or not allowed: either way it has missed something.
                peer.retry_at = time.monotonic() + peer.retry_after
                peer.retry_after = min(peer.retry_after * 2, _SLOWEST)
            return
        peer.retry_at = None
        peer.retry_after = limits.HINT_RETRY


# Receiving ---------------------------------------------------------------------------------------

_MOST_SENDERS: Final = 4 * limits.MAX_PEERS
_CREDENTIALS: Final = struct.Struct("3i")


def receiver_at(path: str, name: str) -> Receiver | NoReceiver:
    """A socket that receives, or a `NoReceiver` where there can be none.

    Args:
        path: The directory of the sockets.
        name: The name of the new socket.
    """
    try:
        sockets = SocketDirectory(path)
    except OSError:
        return NoReceiver()
    try:
        return Receiver(sockets, name)
    except OSError:
        sockets.close()
        return NoReceiver()


class NoReceiver:
    """Used where there can be no socket: it only waits, and the file is looked at each second."""

    receives = False

    def __init__(self) -> None:
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def receive(self, seconds: float) -> Datagram | None:
        self._woken.wait(seconds)
        return None

    def missed(self) -> bool:
        return False

    def close(self) -> None:
        pass


class Receiver:
    """The socket of this process, and the counter of each sender's last datagram.

    Args:
        sockets: The directory of the sockets; closed with this socket.
        name: The name of this socket.
    """

    receives = True

    def __init__(self, sockets: SocketDirectory, name: str) -> None:
        self._sockets = sockets
        self._name = name
        self._counters: dict[bytes, int] = {}
        self._missed = False
        sockets.remove(name)
        self._waker = sockets.new()
        try:
            self._socket = sockets.bind(name)
        except BaseException:
            self._waker.close()
            raise
        if _TELLS_SENDER:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._waker.setblocking(False)

    def wake(self) -> None:
        """Make `receive` return; for another thread."""
        with suppress(OSError):  # its queue is full: that wakes it as well
            self._waker.sendto(b"", self._sockets.address(self._name))

    def receive(self, seconds: float) -> Datagram | None:
        """The next datagram; None after that many seconds, and for one that is not ours."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data, extra, flags, _ = self._socket.recvmsg(MOST_BYTES, socket.CMSG_SPACE(12))
        except TimeoutError:
            return None
        datagram = parse(data) if _is_from_us(extra) and not flags & socket.MSG_TRUNC else None
        if datagram is None:
            return None
        if len(self._counters) > _MOST_SENDERS:
            self._counters.clear()
        expected = self._counters.get(datagram.sender, 0) + 1
        self._counters[datagram.sender] = datagram.counter
        if datagram.changes is None or datagram.counter != expected:
            self._missed = True
        return datagram

    def missed(self) -> bool:
        """Whether a datagram was missed since this was asked last."""
        missed, self._missed = self._missed, False
        return missed

    def close(self) -> None:
        """Remove the socket."""
        self._socket.close()
        self._waker.close()
        self._sockets.remove(self._name)
        self._sockets.close()


def _is_from_us(extra: Sequence[tuple[int, int, bytes]]) -> bool:
    """Whether a datagram comes from a process of our user, or of root; the kernel says so."""
    if not _TELLS_SENDER:
        return True  # no other user can open the directory: see `SocketDirectory`
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            _, user, _ = _CREDENTIALS.unpack(data)
            return user in (os.geteuid(), 0)
    return False
