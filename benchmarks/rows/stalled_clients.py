"""One client that reads, alone and beside many that stopped reading."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.client import Client, connect, request_bytes
from benchmarks.measure import percentile, scaled
from benchmarks.report import Finding
from benchmarks.server import Server

STALLED = 500
STREAM_BYTES = 10 * 1024 * 1024
THEIR_READS = 40
OUR_READS = 200
AT_MOST = 1.5
STATED_BYTES = (2 * 64 + 64 + 64 + 40) * 1024

IDLE_THREADS = 11.0
"""Seconds after which anyio's pool has ended a thread without work (it does so after 10 s)."""

PEER = "Starlette StreamingResponse"


@dataclass(frozen=True, slots=True)
class Stall:
    """The results of one side.

    Args:
        alone: Seconds of each read on a server without stalled clients.
        beside: Seconds of each read on a server with them.
        threads_alone: Threads of the server without stalled clients, after the reads.
        threads_beside: Threads of the server with them, after the reads.
        bytes_each: Memory of the server for each stalled client.
        still_open: Connections of stalled clients that were still open after the last read.
    """

    alone: list[float]
    beside: list[float]
    threads_alone: int
    threads_beside: int
    bytes_each: float
    still_open: int

    def ratio(self, share: float) -> float:
        return percentile(self.beside, share) / percentile(self.alone, share)


def run(scale: float) -> list[Finding]:
    count = scaled(STALLED, scale)
    theirs = _measure("benchmarks.apps.starlette_theirs:app", count, THEIR_READS)
    ours = _measure("benchmarks.apps.starlette_ours:app", count, OUR_READS)
    what = f"{count:,} stalled clients of a 10 MB sync stream"
    held = ours.threads_beside - ours.threads_alone
    return [
        _reader(f"{what}: a reader beside them, against alone", theirs, ours),
        Finding(
            what=f"{what}: threads of the server without and with them",
            peer=PEER,
            theirs=f"{theirs.threads_alone}, {theirs.threads_beside}",
            ours=f"{ours.threads_alone}, {ours.threads_beside}",
            ratio=f"{held:+d}",
            target="no thread held for them",
            # The pool may have kept one thread more or less for the reader itself.
            holds=held <= 2,
        ),
        Finding(
            what=f"{what}: memory for each",
            peer=PEER,
            theirs=f"{theirs.bytes_each / 1024:.1f} KB",
            ours=f"{ours.bytes_each / 1024:.1f} KB",
            ratio=f"{theirs.bytes_each / ours.bytes_each:.2f}x",
            target=f"under {STATED_BYTES // 1024} KB, as docs/production.md states",
            holds=ours.bytes_each < STATED_BYTES,
        ),
    ]


def _measure(app: str, count: int, reads: int) -> Stall:
    """Two servers of one side take turns: one with the stalled clients, one without them.

    So other work of the machine affects both.
    """
    path = f"/stall?count={STREAM_BYTES}"
    client = Client(2 * STREAM_BYTES)
    alone, beside = [], []
    with Server(app) as quiet, Server(app) as busy, ExitStack() as stack:
        for _ in range(5):
            _read(client, quiet, path)
            _read(client, busy, path)
        busy.settle()
        before, sockets_before = busy.memory().now_bytes, busy.sockets()
        for _ in range(count):
            stack.enter_context(_stall(busy.port, path))
        busy.settle()
        each = (busy.memory().now_bytes - before) / count
        time.sleep(IDLE_THREADS)
        for _ in range(reads):
            alone.append(_read(client, quiet, path))
            beside.append(_read(client, busy, path))
        still_open = busy.sockets() - sockets_before
        return Stall(alone, beside, quiet.threads(), busy.threads(), each, still_open)


def _stall(port: int, path: str) -> socket.socket:
    sock = connect(port, remote=True)
    sock.sendall(request_bytes(path))
    return sock


def _read(client: Client, server: Server, path: str) -> float:
    transfer = client.transfer(server.port, path)
    if len(transfer.wire) < STREAM_BYTES or bytes(transfer.wire[-5:]) != b"0\r\n\r\n":
        raise RuntimeError(f"{path} was cut after {len(transfer.wire)} bytes")
    return transfer.seconds


def _reader(what: str, theirs: Stall, ours: Stall) -> Finding:
    ratios = [(stall.ratio(0.5), stall.ratio(0.99)) for stall in (theirs, ours)]
    told = [f"median {median:.2f}x, p99 {tail:.2f}x" for median, tail in ratios]
    return Finding(
        what=what,
        peer=PEER,
        theirs=f"{_times(theirs)}: {told[0]}",
        ours=f"{_times(ours)}: {told[1]}",
        ratio=told[1],
        target=f"at most {AT_MOST:g}x alone",
        holds=max(ratios[1]) <= AT_MOST,
        rounds=(f"{PEER}: {_rounds(theirs)}", f"ours: {_rounds(ours)}"),
    )


def _times(stall: Stall) -> str:
    return f"{_told(stall.beside)} beside, {_told(stall.alone)} alone"


def _told(seconds: Sequence[float]) -> str:
    median, tail = statistics.median(seconds), percentile(seconds, 0.99)
    return f"{median * 1e3:.0f} ms (p99 {tail * 1e3:.0f} ms)"


def _rounds(stall: Stall) -> str:
    return (
        f"{len(stall.alone)} reads on each of two servers, in turn; "
        f"{stall.still_open} stalled connections open after the last read"
    )
