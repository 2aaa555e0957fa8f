"""A TCP proxy that resets open connections, as a bad network does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.servers import HOST

__all__ = ["CuttingProxy", "cutting_proxy"]

_RESET = struct.pack("ii", 1, 0)
"""A linger of 0 s: closing sends an RST, and bytes that were not delivered are dropped."""

_WAIT = 30.0
"""Seconds to wait for anything that must come."""


@dataclass(eq=False)
class _Pair:
    """A client's connection, and ours to the server.

    Attributes:
        asked: What the client has sent.
        left: How many bytes of the server may still pass before both are reset; None: all.
    """

    client: socket.socket
    server: socket.socket
    asked: bytearray = field(default_factory=bytearray)
    left: int | None = None

    def reset(self) -> None:
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # This wakes the thread that reads from it; `close` alone does not.
                sock.shutdown(socket.SHUT_RD)
            sock.close()


class CuttingProxy:
    """Forwards to a port of this machine, and resets a connection when it is told to.

    Attributes:
        port: The port on which it listens.
        cuts: How many connections it has reset.
        requests: The first line of each request, ordered by connection; also of later requests on
            the same connection.
    """

    def __init__(self, upstream: int) -> None:
        self.cuts = 0
        self._upstream = upstream
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._changed = threading.Condition()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def requests(self) -> list[str]:
        with self._changed:
            asked = b"\n".join(bytes(pair.asked) for pair in self._pairs)
        return [line for line in asked.decode("latin-1").splitlines() if " HTTP/1." in line]

    def cut_after(self, count: int, path: str) -> None:
        """Let `count` more bytes of the newest answer to a path pass, then reset its connection.

        Returns when that has happened.

        Raises:
            TimeoutError: Not so many bytes came in time.
        """
        with self._changed:
            pair = next(p for p in reversed(self._pairs) if path.encode() in p.asked)
            pair.left = count
            if not self._changed.wait_for(lambda: pair.left is None, _WAIT):
                raise TimeoutError(f"no {count} bytes came to be cut")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for pair in self._pairs:
            pair.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self._upstream), timeout=_WAIT)
            except OSError:  # the server is down
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server.settimeout(None)
            pair = _Pair(client, server)
            with self._changed:
                self._pairs.append(pair)
            threading.Thread(target=self._ask, args=(pair,), daemon=True).start()
            threading.Thread(target=self._answer, args=(pair,), daemon=True).start()

    def _ask(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while data := pair.client.recv(65536):
                with self._changed:
                    pair.asked += data
                pair.server.sendall(data)
        pair.reset()

    def _answer(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while data := pair.server.recv(65536):
                left = pair.left
                pair.client.sendall(data if left is None else data[:left])
                if left is not None and self._is_cut(pair, left - len(data)):
                    return
        pair.reset()

    def _is_cut(self, pair: _Pair, left: int) -> bool:
        if left > 0:
            pair.left = left
            return False
        pair.reset()
        with self._changed:
            pair.left = None
            self.cuts += 1
            self._changed.notify_all()
        return True


@contextlib.contextmanager
def cutting_proxy(upstream: int) -> Iterator[CuttingProxy]:
    """A proxy in front of a port of this machine, while the block runs."""
    proxy = CuttingProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
