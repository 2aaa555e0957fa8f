"""`tailrace serve` with several workers; a test can kill it and start it again on the same port."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.cli.running_demo import TAILRACE
from tests.rawhttp import ReplyError, request
from tests.servers import HOST, ROOT, free_port, is_tracker, stop

__all__ = ["Served"]

START_DEADLINE = 30.0
"""Seconds in which it must answer. A start takes 2 s, and more on a busy machine."""


class Served:
    """A server with a port and a folder of its own.

    Attributes:
        database: The file of its store.
        files: The directory that it serves.

    Args:
        folder: The folder of its store, its files and its log.
        workers: The number of worker processes.
        options: More options of `tailrace serve`.
    """

    def __init__(self, folder: Path, workers: int, options: Sequence[str] = ()) -> None:
        self.database = folder / "streams.db"
        self.files = folder / "files"
        self.files.mkdir(exist_ok=True)
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.log_path = folder / "log"
        self._command = [
            *(
                str(TAILRACE),
                "serve",
                str(self.files),
                f"--port={self.port}",
                f"--workers={workers}",
            ),
            *(f"--store=sqlite:///{self.database}", "--log-level=warning", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers; a supervisor accepts earlier than that.

        Raises:
            RuntimeError: It ended or did not answer in time; the message has its log.
        """
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"it ended with {self._process.returncode}:\n{self.log}")
            with contextlib.suppress(OSError, ReplyError):
                request(HOST, self.port, "/healthz")
                return
            time.sleep(0.02)
        raise RuntimeError(f"it did not start:\n{self.log}")

    def workers(self) -> list[int]:
        """The ids of the worker processes that exist now."""
        assert self._process is not None
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self._process.pid).children()
            return [child.pid for child in children if not is_tracker(child)]
        return []

    def kill_worker(self, rng: random.Random) -> bool:
        """Kill one of the worker processes; the supervisor starts another.

        Returns:
            Whether there was a worker.
        """
        pids = self.workers()
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(pids), signal.SIGKILL)
        return True

    def kill(self) -> None:
        """Kill all its processes at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # The port is free only when all workers are gone.
        deadline = time.monotonic() + START_DEADLINE
        while _group_lives(self._process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)

    def restart(self, *, kill: bool) -> None:
        """End it, with SIGKILL or with SIGTERM, and start it again on the same port."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def stop(self) -> None:
        """End it with SIGTERM."""
        if self._process is not None:
            stop(self._process, grace=15)


def _group_lives(group: int) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
