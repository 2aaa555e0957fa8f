"""The cost of an append to a stream that tasks read in Python (`streams.read(follow=True)`)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from typing import Final

from benchmarks.measure import scaled
from benchmarks.report import Finding
from benchmarks.server import ROOT

READERS: Final = 500
APPENDS: Final = 100
ROUNDS: Final = 5
AT_MOST_MICROS: Final = 30.0
AT_MOST_READS: Final = 1.0


def run(scale: float) -> list[Finding]:
    readers, appends = scaled(READERS, scale), scaled(APPENDS, scale)
    with tempfile.TemporaryDirectory() as folder:
        sizes = [str(size) for size in (readers, appends, ROUNDS)]
        command = [sys.executable, "-m", "benchmarks.readers", *sizes, f"{folder}/streams.db"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    micros = [cpu * 1e6 for cpu, _ in turns]
    reads = max(asked for _, asked in turns)
    middle = statistics.median(micros)
    return [
        Finding(
            what=f"a message to one of {readers:,} readers in Python of a stream",
            peer="",
            theirs="",
            ours=f"{middle:.1f} µs CPU; reads of the store for an append: {reads:.2f}",
            ratio="",
            target=f"at most {AT_MOST_MICROS:g} µs, and {AT_MOST_READS:g} read",
            holds=middle <= AT_MOST_MICROS and reads <= AT_MOST_READS,
            rounds=(f"Tailrace: {', '.join(f'{each:.1f} µs' for each in micros)}",),
        )
    ]
