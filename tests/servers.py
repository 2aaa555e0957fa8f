"""Real servers for tests: each is a process of its own on a free port of 127.0.0.1.

    with serve("tests.apps.streams:app", "granian") as server:
        Connection(server.host, server.port)

The server is ended when the block is left, also by an error.
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
"""The servers for tests with the fixture `server_name`; `tests/sockets/test_matrix.py` uses all."""

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"

START_DEADLINE = 20.0
"""Seconds in which a server must accept. A start takes 1 s, and more on a busy machine."""

STOP_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

POLL = 0.02
"""Seconds between two attempts to connect."""

# HTTP/1.1, in one process if the server can do that. uvicorn's loop is always set, because by
# default it takes uvloop if that is installed.
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
    # With no workers, hypercorn serves in the process that was started.
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
    # gunicorn's worker touches a file as its heartbeat, which must not be on a busy disk. Its
    # control socket is in the home directory, so all gunicorns of a user would share it.
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
        host: Its address.
        port: Its port.
        pid: The process that was started.
        log_path: The file to which its output is written.
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
        """What the server has written so far to stdout and stderr."""
        return self.log_path.read_text(errors="replace")

    @property
    def worker(self) -> psutil.Process:
        """The process that runs the application. granian, for example, serves from a child."""
        process = psutil.Process(self.pid)
        children = [child for child in process.children() if not is_tracker(child)]
        return children[0] if children else process


def is_tracker(process: psutil.Process) -> bool:
    """Whether this is multiprocessing's resource tracker, which serves nothing."""
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
        server: One of `ALL_SERVERS`.
        env: Environment variables, beside those of the test's own process.
        options: More options of that server's command line: `timeout_keep_alive=1` becomes
            `--timeout-keep-alive=1`. True is a flag without a value, False leaves it out.

    Raises:
        RuntimeError: The server ended or did not accept in time; the message has its log.
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
                # In a process group of its own, so that `stop` also ends what it has forked.
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
    """A port on which nothing listens.

    It is below the kernel's range for outgoing connections (from 32768). A port in that range may
    be taken by any connection before the server binds it, even by our own attempt to connect, which
    then connects to itself.
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
    """End the process: SIGTERM, and after `grace` seconds SIGKILL to its whole group."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
