"""The time from an append in one worker process until readers on the others have its first byte."""

from __future__ import annotations

import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import psutil

from benchmarks.client import connect, order, request_bytes
from benchmarks.measure import scaled
from benchmarks.report import Finding
from benchmarks.served import Served

WORKERS = 4
READERS = 3
"""Readers on each of the other workers."""
APPENDS = 300
PAUSE = 0.01
"""Seconds between two appends, because the delay is measured and not the rate."""
AT_MOST_MS = 5.0

STREAM: Final = "/v1/stream/bench/across"
TRIES: Final = 400
"""How many connections are made, at most, until each worker has enough of them."""


def run(scale: float) -> list[Finding]:
    appends = scaled(APPENDS, scale)
    with Served(WORKERS) as server, ExitStack() as stack:
        _await_workers(server)
        order(server.port, "PUT", STREAM)
        writer, readers = _spread(server, stack)
        delays: list[float] = []
        for number in range(appends):
            delays += _append(writer, readers, b"%08d" % number)
            time.sleep(PAUSE)
    return [finding(delays, len(readers))]


def _await_workers(server: Served) -> None:
    """Wait until every worker accepts: the kernel gives connections only to workers that do."""
    deadline = time.monotonic() + 30
    while len(_seen(server)) < WORKERS:
        if time.monotonic() > deadline:
            raise RuntimeError("not every worker has served anything")


def _seen(server: Served) -> set[int]:
    """The workers that have accepted some of many connections."""
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(server.port)) for _ in range(16 * WORKERS)]
        for sock in socks:
            sock.sendall(request_bytes("/healthz"))
        for sock in socks:
            sock.recv(65536)
        return set(_owners(server, socks).values())


def _owners(server: Served, socks: list[socket.socket]) -> dict[socket.socket, int]:
    """The process that has accepted each connection, as the kernel knows it."""
    owner: dict[int, int] = {}
    for pid in server.pids():
        for known in psutil.Process(pid).net_connections("tcp4"):
            if known.raddr and known.laddr.port == server.port:
                owner[known.raddr.port] = pid
    return {sock: owner[sock.getsockname()[1]] for sock in socks}


def _spread(server: Served, stack: ExitStack) -> tuple[socket.socket, list[socket.socket]]:
    """A writer on one worker, and readers at the tail on each of the others."""
    on: dict[int, list[socket.socket]] = {}
    for _ in range(TRIES):
        if len(on) == WORKERS and all(len(each) == READERS for each in on.values()):
            break
        sock = connect(server.port)
        sock.sendall(request_bytes(f"{STREAM}?offset=now&live=sse"))
        while b"upToDate" not in sock.recv(65536):
            pass
        pid = _owners(server, [sock])[sock]
        if len(on.get(pid, ())) == READERS:
            sock.close()
        else:
            on.setdefault(pid, []).append(stack.enter_context(sock))
    else:
        raise RuntimeError("the kernel did not spread the connections over the workers")
    # The writer comes last, because the server closes a connection that is idle for 5 s.
    writer = stack.enter_context(connect(server.port))
    writer.sendall(request_bytes("/healthz"))
    writer.recv(65536)
    home = _owners(server, [writer])[writer]
    return writer, [sock for pid, each in on.items() if pid != home for sock in each]


def _append(writer: socket.socket, readers: list[socket.socket], body: bytes) -> list[float]:
    """Seconds from sending an append to each reader's first byte of it."""
    request = request_bytes(
        STREAM, method="POST", headers=["content-type: application/octet-stream"], body=body
    )
    waiting = set(readers)
    delays = []
    with _polled([*readers, writer]) as poll:
        begun = time.perf_counter()
        writer.sendall(request)
        answered = False
        while waiting or not answered:
            for descriptor in poll():
                now = time.perf_counter()
                sock = next(s for s in [*readers, writer] if s.fileno() == descriptor)
                data = sock.recv(65536)
                if not data:
                    raise RuntimeError("the server has closed a connection")
                if sock is writer:
                    answered = True
                elif sock in waiting:
                    waiting.discard(sock)
                    delays.append(now - begun)
    return delays


@contextmanager
def _polled(socks: list[socket.socket]) -> Iterator[Callable[[], list[int]]]:
    poll = select.epoll()
    for sock in socks:
        poll.register(sock, select.EPOLLIN)

    def ready() -> list[int]:
        events = poll.poll(30)
        if not events:
            raise RuntimeError("a reader did not get an append within 30 s")
        return [descriptor for descriptor, _ in events]

    try:
        yield ready
    finally:
        poll.close()


def finding(delays: list[float], readers: int) -> Finding:
    ordered = sorted(delays)
    half = statistics.median(ordered) * 1e3
    late = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3
    deciles = ", ".join(f"{each * 1e3:.2f}" for each in statistics.quantiles(ordered, n=10))
    return Finding(
        what=f"an append through one of {WORKERS} workers, until {readers} readers on the others "
        "have its first byte",
        peer="",
        theirs="",
        ours=f"p50 {half:.2f} ms, p99 {late:.2f} ms",
        ratio="",
        target=f"p50 under {AT_MOST_MS:g} ms",
        holds=half < AT_MOST_MS,
        rounds=(f"deciles in ms: {deciles}",),
    )
