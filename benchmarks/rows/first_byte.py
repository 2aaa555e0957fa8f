"""How long the first byte takes when the source yields at once and then waits."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.apps import sources
from benchmarks.client import connect, receive, request_bytes
from benchmarks.measure import percentile, scaled
from benchmarks.report import Finding
from benchmarks.server import Server

REQUESTS = 300
WARM_UP = 20
WITHIN_MS = 1.0

BARE = "bare ASGI app"
STARLETTE = "Starlette StreamingResponse"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is requested of one side: the application and the path."""

    name: str
    app: str
    path: str


OURS: Final = (
    Endpoint("async generator in Starlette", "starlette_ours", "/first"),
    Endpoint("sync generator in Starlette", "starlette_ours", "/first-sync"),
    Endpoint("`yield` endpoint in FastAPI", "fastapi_ours", "/first"),
)
PEERS: Final = (
    Endpoint(BARE, "bare", "/first"),
    Endpoint(STARLETTE, "starlette_theirs", "/first"),
)


def run(scale: float) -> list[Finding]:
    endpoints = (*PEERS, *OURS)
    times: dict[str, list[float]] = {endpoint.name: [] for endpoint in endpoints}
    requests = scaled(REQUESTS, scale)
    with ExitStack() as stack:
        apps = {endpoint.app for endpoint in endpoints}
        ports = {
            app: stack.enter_context(Server(f"benchmarks.apps.{app}:app")).port for app in apps
        }
        socks = {
            endpoint: stack.enter_context(connect(ports[endpoint.app])) for endpoint in endpoints
        }
        for turn in range(WARM_UP + requests):
            for endpoint, sock in socks.items():
                seconds = _first_byte(sock, endpoint.path)
                if turn >= WARM_UP:
                    times[endpoint.name].append(seconds)
    findings = [_finding(times, BARE, ours.name, WITHIN_MS) for ours in OURS]
    findings.append(_finding(times, STARLETTE, OURS[0].name, None))
    return findings


def _first_byte(sock: socket.socket, path: str) -> float:
    """Seconds from the request to the first chunk of the body, on a connection that is open."""
    buffer = bytearray(4096)
    view = memoryview(buffer)
    filled = 0
    request = request_bytes(path)
    started = time.perf_counter()
    sock.sendall(request)
    while buffer.find(sources.FIRST, 0, filled) < 0:
        filled += receive(sock, view[filled:])
    seconds = time.perf_counter() - started
    if buffer.find(sources.SECOND, 0, filled) >= 0:
        raise RuntimeError(f"{path}: the first item waited for the second")
    while not buffer[:filled].endswith(b"0\r\n\r\n"):
        filled += receive(sock, view[filled:])
    return seconds


def _finding(
    times: dict[str, list[float]], peer: str, ours: str, within_ms: float | None
) -> Finding:
    later = (statistics.median(times[ours]) - statistics.median(times[peer])) * 1e3
    return Finding(
        what=f"first byte, {ours}",
        peer=peer,
        theirs=_told(times[peer]),
        ours=_told(times[ours]),
        ratio=f"{later:+.2f} ms",
        target="" if within_ms is None else f"within {within_ms:g} ms (medians)",
        holds=None if within_ms is None else later <= within_ms,
        rounds=(f"{len(times[ours])} requests each, in turn",),
    )


def _told(times: Sequence[float]) -> str:
    return f"{statistics.median(times) * 1e3:.2f} ms (p99 {percentile(times, 0.99) * 1e3:.2f} ms)"
