"""An endpoint that is polled while another client downloads a file from the disk."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.apps import sources
from benchmarks.client import Body, connect, request_bytes
from benchmarks.disk import cached_share, evict, make
from benchmarks.measure import percentile, scaled
from benchmarks.report import Finding
from benchmarks.server import ROOT, Server
from benchmarks.sink import digest

FILE_MIB = 2048
ROUNDS = 3
UNDER_MS = 20.0
IDLE_POLLS = 500
MOST_CACHED = 0.01

APP: Final = "benchmarks.apps.files:app"
PEER: Final = "Starlette FileResponse, plain uvicorn"
OURS: Final = "Tailrace FileResponse, --http tailrace"

_PAUSE: Final = 0.001


@dataclass(slots=True)
class Polls:
    """What one side did, in all its turns.

    Args:
        idle: Seconds of each answer without a download.
        during: Seconds of each answer during a download.
        rates: Bytes per second of each download.
        cached: How much of the file was in the page cache before each download, 0 to 1.
    """

    idle: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        return percentile(self.during, 0.99) * 1e3


def run(scale: float) -> list[Finding]:
    mebibytes = scaled(FILE_MIB, scale)
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        path = Path(folder, "file")
        expected = make(path, mebibytes)
        env = {sources.FILE_VARIABLE: str(path)}
        protocol = "tailrace.server:HttpProtocol"
        evict(path)
        if (cached_share(path) or 0.0) > MOST_CACHED:
            return [_finding(mebibytes, "the page cache could not be dropped", None, None)]
        theirs, ours = Polls(), Polls()
        with Server(APP, env) as plain, Server(APP, env, http=protocol) as with_flag:
            for server, endpoint in ((plain, "/theirs"), (with_flag, "/ours")):
                evict(path)
                _verify(server, endpoint, expected)
            for _ in range(ROUNDS):
                for polls, server, endpoint in (
                    (theirs, plain, "/theirs"),
                    (ours, with_flag, "/ours"),
                ):
                    evict(path)
                    polls.cached.append(cached_share(path) or 0.0)
                    _poll(polls, server, endpoint)
    return [_finding(mebibytes, None, theirs, ours)]


def _verify(server: Server, path: str, expected: Body) -> None:
    if digest(server.port, path) != expected:
        raise RuntimeError(f"{path}: what arrived is not byte-equal to the file")


def _poll(polls: Polls, server: Server, path: str) -> None:
    with connect(server.port) as sock:
        for _ in range(IDLE_POLLS):
            polls.idle.append(_ask(sock))
        # In a process of its own, so that it does not take the interpreter lock of this one.
        command = [sys.executable, "-m", "benchmarks.sink", str(server.port), path]
        with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE) as download:
            _while(lambda: download.poll() is None, polls.during, sock)
            assert download.stdout is not None
            length, seconds = download.stdout.read().split()
    polls.rates.append(int(length) / float(seconds))


def _while(holds: Callable[[], bool], answers: list[float], sock: socket.socket) -> None:
    while holds():
        answers.append(_ask(sock))


def _ask(sock: socket.socket) -> float:
    """Wait `_PAUSE`, then send a request on a kept connection. Returns the seconds it took."""
    time.sleep(_PAUSE)
    started = time.perf_counter()
    sock.sendall(request_bytes("/ping"))
    answer = b""
    while not answer.endswith(b"pong"):
        piece = sock.recv(4096)
        if not piece:
            raise RuntimeError("the server closed the connection that polls it")
        answer += piece
    return time.perf_counter() - started


def _finding(
    mebibytes: int, why_not: str | None, theirs: Polls | None, ours: Polls | None
) -> Finding:
    what = f"an endpoint polled while a cold file of {mebibytes:,} MB is downloaded"
    if theirs is None or ours is None:
        told = why_not or ""
        return Finding(
            what=what, peer=PEER, theirs=told, ours=told, ratio="", target="", holds=None
        )
    return Finding(
        what=what,
        peer=PEER,
        theirs=_told(theirs),
        ours=_told(ours),
        ratio=f"{theirs.p99_ms / ours.p99_ms:.2f}x",
        target=f"p99 under {UNDER_MS:g} ms",
        holds=ours.p99_ms < UNDER_MS,
        rounds=(f"{PEER}: {_rounds(theirs)}", f"{OURS}: {_rounds(ours)}"),
    )


def _told(polls: Polls) -> str:
    rate = statistics.median(polls.rates) / 1e6
    return f"{_times(polls.during)}; download at {rate:,.0f} MB/s"


def _times(seconds: Sequence[float]) -> str:
    middle, tail = statistics.median(seconds) * 1e3, percentile(seconds, 0.99) * 1e3
    return f"p99 {tail:.1f} ms (median {middle:.2f} ms, most {max(seconds) * 1e3:.1f} ms)"


def _rounds(polls: Polls) -> str:
    rates = ", ".join(f"{rate / 1e6:,.0f} MB/s" for rate in polls.rates)
    idle, cached = _times(polls.idle), max(polls.cached)
    return f"{len(polls.during)} answers; without a download {idle}; {rates}; cached {cached:.1%}"
