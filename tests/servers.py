"""Real servers for tests: each is a process of its own on a free port of 127.0.0.1.

    with serve("tests.apps.streams:app", "granian") as server:
        Connection(server.host, server.port)

A server is ended when the block is left, however it is left.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

__all__ = ["ALL_SERVERS", "SERVERS", "RunningServer", "ServerName", "serve"]

ServerName = Literal[
    "uvicorn",
    "uvicorn-h11",
    "uvloop",
    "uvicorn-tailrace",
    "uvloop-tailrace",
    "granian",
    "hypercorn",
    "hypercorn-trio",
    "uvicorn-zttp",
    "uvicorn-zttp-http2",  # spoken by prior knowledge: see tests/rawhttp2.py
    "gunicorn-uvicorn",
    "gunicorn-asgi",
    "daphne",
]
ALL_SERVERS: tuple[ServerName, ...] = get_args(ServerName)
SERVERS: tuple[ServerName, ...] = ALL_SERVERS[:8]
"""Those that a test with `server_name` runs on; `tests/sockets/test_matrix.py` runs on all."""

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"

START_DEADLINE = 20.0
"""Seconds until a server must accept; they take 1 s alone, more on a machine that is busy."""

STOP_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

POLL = 0.02
"""Seconds between two attempts to connect."""

# A HTTP/1.1 server in one process, where the server can do that. uvicorn's loop is named: with
# uvloop installed it would take that one.
COMMANDS: dict[ServerName, list[str]] = {
    "uvicorn": ["uvicorn", "{app}", "--host={host}", "--port={port}", "--loop=asyncio"],
    "uvicorn-h11": [
        *("uvicorn", "{app}", "--host={host}", "--port={port}", "--loop=asyncio", "--http=h11")
    ],
    "uvloop": ["uvicorn", "{app}", "--host={host}", "--port={port}", "--loop=uvloop"],
    "uvicorn-tailrace": [
        *("uvicorn", "{app}", "--host={host}", "--port={port}", "--loop=asyncio"),
        "--http=tailrace.server:HttpProtocol",
    ],
    "uvloop-tailrace": [
        *("uvicorn", "{app}", "--host={host}", "--port={port}", "--loop=uvloop"),
        "--http=tailrace.server:HttpProtocol",
    ],
    "granian": ["granian", "{app}", "--host={host}", "--port={port}", "--interface=asgi"],
    # No workers: hypercorn serves in the process that was started.
    "hypercorn": ["hypercorn", "{app}", "--bind={host}:{port}", "--workers=0"],
    "hypercorn-trio": [
        *("hypercorn", "{app}", "--bind={host}:{port}", "--workers=0", "--worker-class=trio")
    ],
    "uvicorn-zttp": [
        *("uvicorn", "{app}", "--host={host}", "--port={port}", "--loop=asyncio", "--http=zttp")
    ],
    "uvicorn-zttp-http2": [
        *("uvicorn", "{app}", "--host={host}", "--port={port}", "--loop=asyncio"),
        *("--http=zttp", "--http2"),
    ],
    # The heartbeat of its worker touches a file: not on a disk that is busy. Its control socket
    # would be one for all, in the home directory.
    "gunicorn-uvicorn": [
        *("gunicorn", "{app}", "--bind={host}:{port}", "--worker-tmp-dir=/dev/shm"),
        *("--no-control-socket", "--worker-class=uvicorn.workers.UvicornWorker"),
    ],
    "gunicorn-asgi": [
        *("gunicorn", "{app}", "--bind={host}:{port}", "--worker-tmp-dir=/dev/shm"),
        *("--no-control-socket", "--worker-class=asgi"),
    ],
    "daphne": ["daphne", "--bind={host}", "--port={port}", "{app}"],
}


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts connections.

    Attributes:
        pid: The process that was started.
        log_path: The file that its output goes to.
    """

    host: str
    port: int
    pid: int
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> str:
        """What the server has written so far, both streams."""
        return self.log_path.read_text(errors="replace")

    @property
    def worker(self) -> psutil.Process:
        """The process that runs the application: granian always serves from a child."""
        process = psutil.Process(self.pid)
        children = [child for child in process.children() if not is_tracker(child)]
        return children[0] if children else process


def is_tracker(process: psutil.Process) -> bool:
    """Whether this is the process in which multiprocessing counts its semaphores."""
    return any("resource_tracker" in word for word in process.cmdline())


@contextlib.contextmanager
def serve(
    app: str,
    server: ServerName = "uvicorn",
    *,
    env: Mapping[str, str] | None = None,
    **options: str | float | bool,
) -> Iterator[RunningServer]:
    """A real server that serves `app` while the block runs.

    Args:
        app: "module:attribute", importable from the root of the checkout.
        server: One of `SERVERS`.
        env: Environment variables beside those of the test's own process.
        options: Further options of that server's command line, in its own words:
            `timeout_keep_alive=1` is `--timeout-keep-alive=1`, True is a flag, False leaves it out.

    Raises:
        RuntimeError: The server ended or did not accept in time; the message holds its log.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m"),
        *(part.format(app=app, host=HOST, port=port) for part in COMMANDS[server]),
        *command_line(options),
    ]
    with tempfile.TemporaryDirectory(prefix="tailrace-server-") as folder:
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: what it forked can be ended with it, and nothing else.
                start_new_session=True,
            )
        try:
            running = RunningServer(HOST, port, process.pid, log_path)
            wait_until_accepting(process, running)
            yield running
        finally:
            stop(process)


def command_line(options: Mapping[str, str | float | bool]) -> Iterator[str]:
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            yield flag
        elif value is not False:
            yield f"{flag}={value}"


def free_port() -> int:
    """A port that nobody listens on.

    Below the kernel's range for outgoing connections (from 32768): a port of that range can be
    taken by any connection between here and the server's bind, also by our own attempt to connect,
    which then meets itself.
    """
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 20000 and 32000")


def wait_until_accepting(process: subprocess.Popen[bytes], server: RunningServer) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection((server.host, server.port), timeout=1).close()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(POLL)
            raise RuntimeError(f"the server ended with {code} before it accepted:\n{server.log}")
    raise RuntimeError(f"the server did not accept within {START_DEADLINE} s:\n{server.log}")


def stop(process: subprocess.Popen[Any], grace: float = STOP_GRACE) -> None:
    """End the process, and whatever of its group is left."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
