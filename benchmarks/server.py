"""A server under test: uvicorn in a process of its own, and its CPU and memory from the kernel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["Housed", "Memory", "Server"]

ROOT: Final = Path(__file__).resolve().parent.parent
START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 5.0
PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")

_REST: Final = 0.02
"""Seconds that a server has for its work after the last byte, before its CPU is read."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a process: now, and the most it ever had."""

    now_bytes: int
    peak_bytes: int


class Server:
    """uvicorn with one worker and its defaults (uvloop, httptools), without an access log.

    Args:
        app: "module:attribute", as uvicorn takes it.
        env: Variables that are added to the environment.
        http: The value of `--http`; None leaves the flag out.
    """

    def __init__(
        self, app: str, env: dict[str, str] | None = None, *, http: str | None = None
    ) -> None:
        self.app = app
        self.port = _free_port()
        self._env = os.environ | (env or {})
        self._http = http
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command(), cwd=ROOT, env=self._env)
        self._await_start()
        return self

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "uvicorn", self.app, "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--no-access-log", "--log-level", "warning"]
        return command if self._http is None else [*command, "--http", self._http]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            # uvicorn waits for open streams for ever, but the row needs them no more.
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not started"
        return self._process.pid

    def pids(self) -> list[int]:
        """The processes of the server: the one that was started, and all that it has started."""
        return _with_descendants(self.pid)

    def cpu(self) -> float:
        """Seconds of CPU, user and system, that its processes have used, with all their threads.

        It is utime + stime of /proc/PID/stat, but read from the process's CPU clock: stat counts in
        ticks of 10 ms, which is too coarse for the short rows. It sleeps first, because the kernel
        adds a thread's time only when the thread stops running.

        Source: clock_getcpuclockid(3); the kernel's include/linux/posix-timers.h (~pid << 3 | 2).
        """
        time.sleep(_REST)
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def memory(self) -> Memory:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return Memory(pages * PAGE_BYTES, int(self._status("VmHWM").split()[0]) * 1024)

    def threads(self) -> int:
        return int(self._status("Threads"))

    def sockets(self) -> int:
        """How many sockets the process has open, with the listening one and those of its loop."""
        names = (entry.readlink() for entry in Path(f"/proc/{self.pid}/fd").iterdir())
        return sum(str(name).startswith("socket:") for name in names)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def settle(self, quiet: float = 0.3, timeout: float = 60.0) -> None:
        """Wait until the server is idle: it uses less than 2% of a core for `quiet` seconds.

        Raises:
            RuntimeError: It was not idle within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        before = self.cpu()
        while time.monotonic() < deadline:
            time.sleep(quiet)
            after = self.cpu()
            if after - before < 0.02 * quiet:
                return
            before = after
        raise RuntimeError(f"{self.app} was still at work after {timeout:g} s")

    def _status(self, name: str) -> str:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return line.split(":", 1)[1].strip()
        raise LookupError(f"/proc/{self.pid}/status has no {name}")

    def _await_start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if not self.alive():
                raise RuntimeError(f"{self.app} could not be started: its output is above")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"{self.app} did not listen in {START_TIMEOUT:g} s")


class Housed(Server):
    """A server that has a temporary folder of its own while it runs."""

    def __enter__(self) -> Self:
        self._house = tempfile.TemporaryDirectory(prefix="tailrace-bench-")
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._house.cleanup()

    @property
    def folder(self) -> Path:
        return Path(self._house.name)


def _with_descendants(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += _with_descendants(int(child))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
