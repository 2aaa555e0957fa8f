"""Responses that are over at once: three chunks of a generator, and a file of 4 KiB."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.apps import sources
from benchmarks.client import connect, receive, request_bytes
from benchmarks.measure import Cost, Side, in_turn, middle, scaled
from benchmarks.report import Finding
from benchmarks.server import Server

REQUESTS: Final = 2_000
ROUNDS: Final = 7
FILE_BYTES: Final = 4096
THEIRS: Final = "Starlette"
OURS: Final = "Tailrace"


@dataclass(frozen=True, slots=True)
class Short:
    """A response that both sides give.

    Args:
        what: How the table calls it.
        apps: The application of each side, and the path there.
        end: The last bytes of the response.
        most: Of Starlette's CPU.
    """

    what: str
    apps: dict[str, tuple[str, str]]
    end: bytes
    most: float


def _generator(what: str, path: str, most: float) -> Short:
    apps = {THEIRS: ("starlette_theirs", path), OURS: ("starlette_ours", path)}
    return Short(what, apps, b"0\r\n\r\n", most)


SHORT: Final = (
    _generator("three chunks of an async generator", "/short", 1.0),
    _generator("three chunks of a sync generator", "/short-sync", 0.6),
    Short(
        "a file of 4 KiB",
        {THEIRS: ("files", "/theirs"), OURS: ("files", "/ours")},
        b"end of the file\n",
        0.5,
    ),
)
PROTOCOLS: Final = {"uvicorn": None, "our protocol": "tailrace.server:HttpProtocol"}


def run(scale: float) -> list[Finding]:
    requests = scaled(REQUESTS, scale)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "short.bin"
        file.write_bytes(b"x" * (FILE_BYTES - 16) + b"end of the file\n")
        env = {sources.FILE_VARIABLE: str(file)}
        return [
            _finding(short, protocol, requests, _costs(short, http, requests, env))
            for short in SHORT
            for protocol, http in PROTOCOLS.items()
        ]


def _costs(
    short: Short, http: str | None, requests: int, env: dict[str, str]
) -> dict[str, list[Cost]]:
    with ExitStack() as stack:
        sides = []
        for name, (app, path) in short.apps.items():
            # Starlette's side is what people have: uvicorn with its own protocol.
            protocol = http if name == OURS else None
            server = stack.enter_context(Server(f"benchmarks.apps.{app}:app", env, http=protocol))
            sock = stack.enter_context(connect(server.port))
            _ask(sock, path, short.end, min(requests, 200))
            sides.append(Side(name, server, _turn(sock, path, short.end, requests), ROUNDS))
        return in_turn(sides)


def _turn(
    sock: socket.socket, path: str, end: bytes, requests: int
) -> Callable[[], tuple[float, Callable[[], None]]]:
    def turn() -> tuple[float, Callable[[], None]]:
        started = time.perf_counter()
        _ask(sock, path, end, requests)
        return time.perf_counter() - started, lambda: None

    return turn


def _ask(sock: socket.socket, path: str, end: bytes, times: int) -> None:
    """Ask on one kept connection; each response is checked by its end."""
    request, buffer = request_bytes(path), bytearray(64 * 1024)
    view = memoryview(buffer)
    for _ in range(times):
        sock.sendall(request)
        filled = 0
        while not buffer.endswith(end, 0, filled):
            filled += receive(sock, view[filled:])


def _finding(short: Short, protocol: str, requests: int, costs: dict[str, list[Cost]]) -> Finding:
    theirs, ours = (1e6 * middle(costs[name], "cpu") / requests for name in (THEIRS, OURS))
    return Finding(
        what=f"{short.what}, {protocol}",
        peer="Starlette on uvicorn",
        theirs=f"{theirs:.0f} us CPU",
        ours=f"{ours:.0f} us CPU",
        ratio=f"{ours / theirs:.2f}x",
        target=f"at most {short.most:g}x (cpu)",
        holds=ours <= short.most * theirs,
        rounds=tuple(
            f"{name}: {', '.join(f'{1e6 * cost.cpu / requests:.0f} us' for cost in costs[name])}"
            for name in (THEIRS, OURS)
        ),
    )
