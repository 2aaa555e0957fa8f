"""Tells the other processes of a file what was committed, from the writer thread.

A hint may be lost: a process that does not read has room for eleven datagrams, then none is taken.
It is marked, and told that it missed some as soon as it reads again, which makes it look into the
file. One that does not exist any more refuses, and its socket is removed.
"""

from __future__ import annotations

import errno
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailrace import limits
from tailrace.store.sqlite.hint import News, body_of, head_of
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.sqlite.sockets import Sockets

__all__ = ["Peers"]

_GONE: Final = (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK, errno.EPROTOTYPE)
_SLOWEST: Final = 1.0
"""Seconds between two attempts to tell a process that does not read, at most."""


@dataclass(slots=True)
class _Peer:
    counter: int = 0
    retry_at: float | None = None
    """When to tell it that it missed something; None: it has missed nothing."""
    retry_after: float = limits.HINT_RETRY


class Peers:
    """The other processes that listen; belongs to the writer thread.

    Args:
        path: The directory of their sockets.
        me: The name of this process's own.
        lock: Says when somebody has begun or ended to listen.
    """

    def __init__(self, path: str, me: str, lock: WriteLock) -> None:
        self._path = path
        self._me = me
        self._lock = lock
        self._seen: bytes | None = None
        self._sender = secrets.token_bytes(8)
        self._peers: dict[str, _Peer] = {}
        self._sockets: Sockets | None = None
        self._socket: socket.socket | None = None

    def look(self) -> bool:
        """Whether anybody listens."""
        board = self._lock.peers
        if board != self._seen:
            self._seen = board
            self._list()
        return bool(self._peers)

    def tell(self, news: Sequence[News]) -> None:
        """Send a hint to each."""
        body = body_of(news)
        for name, peer in list(self._peers.items()):
            # One that has missed something must look into the file anyway.
            if peer.retry_at is None:
                self._send(name, peer, body)

    def next_in(self) -> float | None:
        """Seconds until `retry` has something to do."""
        times = [peer.retry_at for peer in self._peers.values() if peer.retry_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def retry(self) -> None:
        """Tell those that missed something."""
        now = time.monotonic()
        for name, peer in list(self._peers.items()):
            if peer.retry_at is not None and now >= peer.retry_at:
                self._send(name, peer, b"")

    def close(self) -> None:
        """Let go of the sockets."""
        if self._socket is not None:
            self._socket.close()
        if self._sockets is not None:
            self._sockets.close()
        self._peers.clear()

    def _list(self) -> None:
        if self._sockets is None:
            try:
                self._sockets = Sockets(self._path)
            except OSError:
                return  # hints are a convenience: who watches looks into the file each second
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
