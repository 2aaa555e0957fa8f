"""`tailrace serve` on a new SQLite store."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.server import Housed

__all__ = ["Served"]


class Served(Housed):
    """`tailrace serve`, without a log. Its streams are below /v1/stream/, and durable.

    Args:
        workers: How many processes serve.
    """

    def __init__(self, workers: int = 1) -> None:
        super().__init__("tailrace serve")
        self._workers = workers

    def _command(self) -> list[str]:
        tailrace = Path(sys.executable).with_name("tailrace")
        command = [str(tailrace), "serve", str(self.folder), "--port", str(self.port)]
        # A hidden name, because `tailrace serve` refuses a store that clients could download.
        store = f"sqlite:///{self.folder / '.streams.db'}"
        command += ["--store", store, "--workers", str(self._workers)]
        return [*command, "--log-level", "warning"]
