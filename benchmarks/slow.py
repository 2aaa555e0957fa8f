"""Many clients that read slowly, in a process of their own, which can be stopped and continued."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from benchmarks.client import connect, request_bytes
from benchmarks.server import ROOT

__all__ = ["Pace", "SlowClients"]

_TICK: Final = 0.01
_BUFFER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Pace:
    """What the slow clients did: the seconds in which they read, and the bytes of all of them."""

    seconds: float
    length: int


class SlowClients:
    """Clients that each read `rate_bytes` of one response every second.

    Args:
        port: The server's.
        path: Of their requests.
        count: The number of clients.
        rate_bytes: Bytes that each client reads in a second.
    """

    def __init__(self, port: int, path: str, count: int, rate_bytes: int) -> None:
        self._command = [sys.executable, "-m", "benchmarks.slow"]
        self._command += [str(port), path, str(count), str(rate_bytes)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the slow clients could not connect: see above")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def hold(self) -> None:
        """Stop their process, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def finish(self) -> Pace:
        """End their reading. Returns what they did."""
        assert self._process is not None
        told, _ = self._process.communicate("\n", timeout=30)
        seconds, length = told.split()
        return Pace(float(seconds), int(length))


def _read_slowly(socks: list[socket.socket], rate_bytes: int) -> Pace:
    """Read until a line comes on standard input. At each tick some of the sockets are read, so that
    each is read once a second.
    """
    buffer = memoryview(bytearray(rate_bytes))
    ticks, length = 0, 0
    share = len(socks) * _TICK
    while not select.select([sys.stdin], [], [], 0)[0]:
        started = time.perf_counter()
        first, last = round(ticks * share), round((ticks + 1) * share)
        wanted = [socks[at % len(socks)] for at in range(first, last)]
        for sock in wanted:
            try:
                got = sock.recv_into(buffer)
            except BlockingIOError:
                continue
            if not got:
                raise RuntimeError("the server ended the response of a slow client")
            length += got
        ticks += 1
        # Lost time is not made up: after a hold they do not read faster than before.
        time.sleep(max(0.0, started + _TICK - time.perf_counter()))
    return Pace(ticks * _TICK, length)


def main() -> None:
    port, path, count, rate_bytes = sys.argv[1:]
    socks = []
    for _ in range(int(count)):
        sock = connect(int(port), remote=True, buffer_bytes=_BUFFER_BYTES)
        sock.sendall(request_bytes(path))
        sock.setblocking(False)
        socks.append(sock)
    print("ready", flush=True)
    pace = _read_slowly(socks, int(rate_bytes))
    print(pace.seconds, pace.length)


if __name__ == "__main__":
    main()
