"""One client that downloads a file, alone and beside many that read it slowly."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.apps import sources
from benchmarks.disk import make
from benchmarks.measure import scaled
from benchmarks.report import Finding
from benchmarks.server import Server
from benchmarks.sink import take
from benchmarks.slow import Pace, SlowClients

SLOW = 1_000
RATE_BYTES = 10_000
FILE_MIB = 512
READS = 15
AT_MOST = 1.5
UNDER_BYTES = 64 * 1024

APP: Final = "benchmarks.apps.files:app"
PEER: Final = "Starlette FileResponse, plain uvicorn"
OURS: Final = "Tailrace FileResponse, --http tailrace"

_BEFORE_A_READ: Final = 0.5
"""Seconds in which only the slow clients read, before the fast one starts."""


@dataclass(frozen=True, slots=True)
class Company:
    """The results of one side.

    Args:
        alone: Seconds of each transfer of the fast client, without slow ones.
        beside: Seconds of each transfer beside the slow clients.
        bytes_each: Memory of the server for each slow client.
        pace: What the slow clients read.
    """

    alone: list[float]
    beside: list[float]
    bytes_each: float
    pace: Pace

    @property
    def ratio(self) -> float:
        return statistics.median(self.beside) / statistics.median(self.alone)


def run(scale: float) -> list[Finding]:
    count = scaled(SLOW, scale)
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        path = Path(folder, "file")
        make(path, scaled(FILE_MIB, scale))
        env = {sources.FILE_VARIABLE: str(path)}
        theirs = _measure(Server(APP, env), Server(APP, env), "/theirs", count)
        protocol = "tailrace.server:HttpProtocol"
        quiet, busy = Server(APP, env, http=protocol), Server(APP, env, http=protocol)
        ours = _measure(quiet, busy, "/ours", count)
    what = f"{count:,} clients at {RATE_BYTES // 1000} KB/s each"
    return [
        Finding(
            what=f"{what}: a fast one beside them, against alone",
            peer=PEER,
            theirs=_times(theirs),
            ours=_times(ours),
            ratio=f"{ours.ratio:.2f}x",
            target=f"at most {AT_MOST:g}x alone",
            holds=ours.ratio <= AT_MOST,
            rounds=(f"{PEER}: {_rounds(theirs, count)}", f"{OURS}: {_rounds(ours, count)}"),
        ),
        Finding(
            what=f"{what}: memory of the server for each",
            peer=PEER,
            theirs=f"{theirs.bytes_each / 1024:.1f} KB",
            ours=f"{ours.bytes_each / 1024:.1f} KB",
            ratio=f"{theirs.bytes_each / max(1.0, ours.bytes_each):.2f}x",
            target="under 64 KB",
            holds=ours.bytes_each < UNDER_BYTES,
        ),
    ]


def _measure(quiet: Server, busy: Server, path: str, count: int) -> Company:
    """Two servers take turns: one with slow clients; one without, while these are stopped."""
    alone, beside = [], []
    with quiet, busy:
        for server in (quiet, busy):
            take(server.port, path)
        busy.settle()
        before = busy.memory().now_bytes
        with SlowClients(busy.port, path, count, RATE_BYTES) as slow:
            time.sleep(2.0)
            most = busy.memory().now_bytes
            for _ in range(READS):
                slow.hold()
                alone.append(take(quiet.port, path).seconds)
                slow.go_on()
                time.sleep(_BEFORE_A_READ)
                beside.append(take(busy.port, path).seconds)
                most = max(most, busy.memory().now_bytes)
            pace = slow.finish()
    return Company(alone, beside, (most - before) / count, pace)


def _times(company: Company) -> str:
    beside, alone = statistics.median(company.beside), statistics.median(company.alone)
    return f"{beside:.3f} s beside, {alone:.3f} s alone: {company.ratio:.2f}x"


def _rounds(company: Company, count: int) -> str:
    each = company.pace.length / count / company.pace.seconds / 1000
    beside, alone = _listed(company.beside), _listed(company.alone)
    return f"beside {beside}; alone {alone}; a slow client got {each:.1f} KB/s"


def _listed(seconds: Sequence[float]) -> str:
    return ", ".join(f"{each:.3f} s" for each in seconds)
