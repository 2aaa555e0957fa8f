"""Thousands of clients of sync generators that sleep, and other requests beside them.

python -m tests.sockets.sleepers --clients 2000

Every client must get its next line within twice the time that its generator sleeps. A download, an
append, a listing and a run may take 1.5 times as long as without these clients. When the server is
told to end, it must end in time. A process of its own reads for the clients, so that it does not
delay what is measured here.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

import psutil

from tailrace import limits
from tests.servers import ROOT, RunningServer, ServerName, serve

__all__ = ["Readers", "Report", "ask", "end", "measure"]

FILE_BYTES = 50_000_000
BIG = b"[" + b"1," * 150_000 + b"1]"
"""JSON that is so long that the server checks it in a thread."""

GRACE = 2
"""Seconds that the server waits for open responses when it is told to stop."""

CONNECTING = 60.0
"""Seconds in which all clients must have received their first line."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What the clients received.

    Attributes:
        lines: The number of lines, of all clients together.
        longest: The longest silence of any client, in seconds.
        late: How many clients had a silence of more than twice the pace.
        silent: How many clients received no line.
        refused: How many clients received a 503.
    """

    lines: int
    longest: float
    late: int
    silent: int
    refused: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured.

    Attributes:
        clients: The number of clients.
        pace: Seconds that each generator sleeps between two lines.
        crowd: What the clients received.
        beside: For each of the other requests: the median of its seconds without the clients, and
            beside them.
        core: CPU of the server beside the clients, as a share of one core.
        ended: Seconds from SIGTERM to the end of the process.
    """

    clients: int
    pace: float
    crowd: Crowd
    beside: dict[str, tuple[float, float]]
    core: float
    ended: float

    @property
    def is_good(self) -> bool:
        slowest = max(beside / alone for alone, beside in self.beside.values())
        met = self.crowd.late + self.crowd.silent + self.crowd.refused
        # A response that was cut waits until the `next()` of its generator returns.
        return not met and slowest <= 1.5 and self.ended <= GRACE + limits.CLEANUP_TIMEOUT

    def __str__(self) -> str:
        crowd = self.crowd
        met = (
            f"{self.clients} clients, a line every {self.pace:g} s: {crowd.lines} lines, the "
            f"longest silence {crowd.longest:.2f} s; {crowd.late} late, {crowd.silent} without "
            f"any, {crowd.refused} refused; {100 * self.core:.0f} % of a core"
        )
        lines = [met]
        for name, (alone, beside) in self.beside.items():
            ratio = beside / alone
            lines.append(f"{name}: {alone * 1e3:.1f} ms alone, {beside * 1e3:.1f} ms: {ratio:.2f}x")
        lines.append(f"ended {self.ended:.1f} s after SIGTERM, of which {GRACE} s are its grace")
        return "\n".join(lines)


def measure(
    clients: int,
    *,
    pace: float = 1.0,
    times: int = 30,
    server: ServerName = "uvloop-tailrace",
    store: str | None = None,
) -> Report:
    """Serve many clients, send other requests beside them, and end the server.

    Args:
        clients: The number of clients; each reads a page whose generator sleeps.
        pace: Seconds that the generators sleep.
        times: How often each of the other requests is sent, without the clients and beside them.
        server: The server that is started.
        store: The URL of the store; None is a new SQLite file.
    """
    _allow_descriptors(2 * clients + 200)
    with tempfile.TemporaryDirectory(prefix="tailrace-sleepers-") as folder:
        files = Path(folder, "files")
        files.mkdir()
        (files / "film.bin").write_bytes(bytes(FILE_BYTES))
        env = {
            "SLEEPERS_PACE": str(pace),
            "SLEEPERS_FILES": str(files),
            "SLEEPERS_STORE": store or f"sqlite:///{folder}/streams.db",
        }
        with serve(
            "tests.apps.sleepers:app", server, env=env, timeout_graceful_shutdown=GRACE
        ) as running:
            ask(running, "PUT", "/v1/stream/notes")
            runs = count()
            _in_turn(running, runs, 3)  # not measured: the first requests are slow
            alone = _in_turn(running, runs, times)
            with _crowd(running, clients, pace) as crowd:
                worker = running.worker
                cpu, began = _cpu(worker), time.monotonic()
                found = _in_turn(running, runs, times)
                # Long enough that each client receives some lines.
                time.sleep(max(0.0, began + 5 * pace - time.monotonic()))
                core = (_cpu(worker) - cpu) / (time.monotonic() - began)
                met = crowd()
                ended = end(running)
    beside = {name: (alone[name], found[name]) for name in alone}
    return Report(clients, pace, met, beside, core, ended)


def _in_turn(server: RunningServer, runs: Iterator[int], times: int) -> dict[str, float]:
    """Send the other requests in turn, `times` times. Returns the median seconds of each."""
    asked: dict[str, Callable[[], bytes]] = {
        "a download of 50 MB": lambda: ask(server, "GET", "/files/film.bin"),
        "an append of 200 bytes": lambda: _append(server, b'"' + b"a" * 198 + b'"'),
        "an append of 300 KB": lambda: _append(server, BIG),
        "a listing": lambda: ask(server, "GET", "/files/"),
        "a run": lambda: ask(server, "POST", f"/run/{next(runs)}"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(times):
        for name, do in asked.items():
            began = time.perf_counter()
            do()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def _append(server: RunningServer, data: bytes) -> bytes:
    return ask(server, "POST", "/v1/stream/notes", data)


def ask(server: RunningServer, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:200]!r}")
        return data
    finally:
        connection.close()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def end(server: RunningServer) -> float:
    process = psutil.Process(server.pid)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    return time.monotonic() - began


def _allow_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


# The clients, in a process of their own


@contextmanager
def _crowd(server: RunningServer, clients: int, pace: float) -> Iterator[Callable[[], Crowd]]:
    command = [sys.executable, "-m", "tests.sockets.sleepers", "--crowd", str(server.port)]
    command += ["--clients", str(clients), "--pace", str(pace)]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def met() -> Crowd:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return Crowd(**json.loads(process.stdout.readline()))

    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the crowd could not connect: see above")
        yield met
    finally:
        process.kill()
        process.communicate()


class Readers:
    """Clients of one page, which record when each receives a line.

    Args:
        port: The server's.
        clients: The number of clients.
        pace: Seconds between two lines of the page; a silence of twice that is late.
        path: The page.
    """

    def __init__(self, port: int, clients: int, pace: float, path: str = "/page") -> None:
        self._pace = pace
        self._ready = selectors.DefaultSelector()
        self._socks: list[socket.socket] = []
        self.refused: set[int] = set()
        for number in range(clients):
            sock = socket.create_connection(("127.0.0.1", port), 30)
            sock.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
            sock.setblocking(False)
            self._socks.append(sock)
            self._ready.register(sock, selectors.EVENT_READ, number)
        self.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ready.close()
        for sock in self._socks:
            sock.close()

    def begin(self) -> None:
        """Forget what was received so far: the report begins here."""
        now = time.monotonic()
        self._last = [now] * len(self._socks)
        self._longest = [0.0] * len(self._socks)
        self._lines = [0] * len(self._socks)

    def hear(self, seconds: float) -> None:
        for key, _ in self._ready.select(seconds):
            number = key.data
            try:
                part = key.fileobj.recv(65536)  # type: ignore[union-attr] # a socket
            except OSError:
                part = b""
            now = time.monotonic()
            if not part:
                self._ready.unregister(key.fileobj)
            if part.startswith(b"HTTP/1.1 503"):
                self.refused.add(number)
            if lines := part.count(b"line\n"):
                self._lines[number] += lines
                self._longest[number] = max(self._longest[number], now - self._last[number])
                self._last[number] = now

    @property
    def are_all_served(self) -> bool:
        return all(self._lines[number] or number in self.refused for number in self._numbers)

    @property
    def _numbers(self) -> range:
        return range(len(self._socks))

    def report(self) -> Crowd:
        now = time.monotonic()
        silences = [
            max(longest, now - last)
            for longest, last in zip(self._longest, self._last, strict=True)
        ]
        return Crowd(
            lines=sum(self._lines),
            longest=max(silences),
            late=sum(each > 2 * self._pace for each in silences),
            silent=sum(not self._lines[n] for n in self._numbers if n not in self.refused),
            refused=len(self.refused),
        )


def _listen(port: int, clients: int, pace: float) -> None:
    readers = Readers(port, clients, pace)
    until = time.monotonic() + CONNECTING
    while not readers.are_all_served and time.monotonic() < until:
        readers.hear(0.1)
    readers.begin()
    print("ready", flush=True)  # noqa: T201 - for the process that measures
    asked = selectors.DefaultSelector()
    asked.register(sys.stdin, selectors.EVENT_READ)
    while not asked.select(0):
        readers.hear(0.05)
    found = readers.report()
    print(  # noqa: T201
        json.dumps({name: getattr(found, name) for name in Crowd.__dataclass_fields__}), flush=True
    )
    while True:
        readers.hear(1.0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sockets.sleepers", description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--pace", type=float, default=1.0, help="seconds between two lines")
    parser.add_argument("--times", type=int, default=30, help="each thing beside, so often")
    parser.add_argument("--server", default="uvloop-tailrace")
    parser.add_argument("--crowd", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    _allow_descriptors(options.clients + 100)
    if options.crowd is not None:
        _listen(options.crowd, options.clients, options.pace)
        return 0
    report = measure(options.clients, pace=options.pace, times=options.times, server=options.server)
    print(report)  # noqa: T201
    return int(not report.is_good)


if __name__ == "__main__":
    sys.exit(main())
