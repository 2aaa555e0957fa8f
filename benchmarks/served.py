"""`tailrace serve` on a new SQLite store."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.server import Housed

__all__ = ["Served"]


class Served(Housed):
    """Its streams are below /v1/stream/, durable before they are acknowledged; without a log.

    Args:
        workers: How many processes serve.
    """

    def __init__(self, workers: int = 1) -> None:
        super().__init__("tailrace serve")
        self._workers = workers

    def _command(self) -> list[str]:
        tailrace = Path(sys.executable).with_name("tailrace")
        command = [str(tailrace), "serve", str(self.folder), "--port", str(self.port)]
        # A name that the directory's listing leaves out; any other place would be refused.
        store = f"sqlite:///{self.folder / '.streams.db'}"
        command += ["--store", store, "--workers", str(self._workers)]
        return [*command, "--log-level", "warning"]
