"""`tailrace serve` as a process of its own, and the lines of its access log, one by one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.running_demo import TAILRACE
from tests.servers import ROOT, free_port, stop

__all__ = ["Running", "running_serve", "running_uvicorn"]

DEADLINE = 20.0
"""Seconds to wait for what must come. A start takes 1 s, and more on a busy machine."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections.

    Attributes:
        process: The server's process.
        port: The port of 127.0.0.1 on which it listens.
        log_path: The file with what it writes to stderr.
        unread: Bytes of the access log that `entry` has not returned yet.
    """

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    unread: bytearray = field(default_factory=bytearray)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def entry(self) -> dict[str, Any]:
        """The next line of the access log.

        Raises:
            RuntimeError: No line came in time.
        """
        assert self.process.stdout is not None
        # Read from the descriptor, because select does not know what a file object has buffered.
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            ready, _, _ = select.select([descriptor], [], [], DEADLINE)
            data = os.read(descriptor, 65536) if ready else b""
            if not data:
                raise RuntimeError(f"no line came:\n{self.log}")
            self.unread.extend(data)
        line, _, rest = bytes(self.unread).partition(b"\n")
        self.unread[:] = rest
        found: dict[str, Any] = json.loads(line)
        return found


@contextlib.contextmanager
def running_serve(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    command: Sequence[str | Path] = (TAILRACE,),
) -> Iterator[Running]:
    """`tailrace serve` with these arguments, on a free port, while the block runs.

    Args:
        arguments: The arguments after `serve`.
        env: Environment variables, beside those of the test's own process.
        command: The command that runs instead of `tailrace`.

    Raises:
        RuntimeError: It ended, or did not start in time; the message has its log.
    """
    words = [*command, "serve", "--port", "0", *arguments]
    with _running(words, env or {}) as (process, log):
        said = _until(process, log, re.compile(r" on https?://[^ ]+:(\d+)/files/ "))
        yield Running(process, int(said[1]), log)


@contextlib.contextmanager
def running_uvicorn(app: str, *arguments: str) -> Iterator[Running]:
    """uvicorn with our protocol and an application that writes its access log to stdout itself."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", app, "--no-access-log", f"--port={port}"),
        *("--http", "tailrace.server:HttpProtocol", *arguments),
    ]
    with _running(command, {"TAILRACE_SEND_TIMEOUT": "0.4"}) as (process, log):
        _until(process, log, re.compile(r"Uvicorn running on"))
        yield Running(process, port, log)


@contextlib.contextmanager
def _running(
    command: Sequence[str | Path], env: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    with tempfile.TemporaryDirectory(prefix="tailrace-serve-") as folder:
        log = Path(folder) / "stderr"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            yield process, log
        finally:
            stop(process)
            assert process.stdout is not None
            process.stdout.close()


def _until(process: subprocess.Popen[bytes], log: Path, said: re.Pattern[str]) -> re.Match[str]:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if match := said.search(log.read_text(errors="replace")):
            return match
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(0.02)
            raise RuntimeError(f"it ended with {code}:\n{log.read_text(errors='replace')}")
    raise RuntimeError(f"it did not start:\n{log.read_text(errors='replace')}")
