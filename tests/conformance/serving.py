"""Servers of streams: ours and the reference server, each in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cli.running_demo import TAILRACE
from tests.conformance.node import NODE, require
from tests.servers import HOST, ROOT, RunningServer, free_port, stop, wait_until_accepting

__all__ = ["LONG_POLL", "reference_server", "stream_server"]

LONG_POLL = 0.5
"""Seconds that a long-poll waits; few, because some tests wait until it ends without data."""


@contextlib.contextmanager
def stream_server(store: str, *, workers: int = 1) -> Iterator[RunningServer]:
    """`tailrace serve` on this store while the block runs; its streams are below /v1/stream/.

    Args:
        store: The URL of the store.
        workers: The number of worker processes.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tailrace-served-") as directory:
        command: list[str | Path] = [
            *(TAILRACE, "serve", directory, f"--port={port}", f"--store={store}"),
            *(f"--workers={workers}", f"--long-poll-timeout={LONG_POLL}", "--log-level=warning"),
            *("--webhooks-to-localhost", "--cors-origin=*"),  # the suite receives them here
        ]
        with _running(command, port) as server:
            yield server


@contextlib.contextmanager
def reference_server() -> Iterator[RunningServer]:
    """The reference server of the protocol, with its file store, while the block runs."""
    require()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tailrace-reference-") as folder:
        script = ROOT / "benchmarks" / "node_server.mjs"
        command: list[str | Path] = [NODE, script, str(port), folder, str(round(LONG_POLL * 1000))]
        with _running(command, port) as server:
            yield server


@contextlib.contextmanager
def _running(command: Sequence[str | Path], port: int) -> Iterator[RunningServer]:
    with tempfile.TemporaryDirectory(prefix="tailrace-server-") as folder:
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            server = RunningServer(HOST, port, process.pid, log_path)
            wait_until_accepting(process, server)
            yield server
        finally:
            stop(process)
