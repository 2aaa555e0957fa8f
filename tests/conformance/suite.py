"""Runs the conformance suite of Durable Streams against a server, and reads its results."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.node import NODE, NODE_MODULES, require
from tests.servers import stop

__all__ = ["TESTS", "Verdict", "judge", "verdict_of"]

TESTS = 338
"""How many tests the suite has in the version that package.json names."""

DEADLINE = 150.0
"""Seconds for a whole run. It takes 30 s on an idle machine, mostly to wait for expiry."""

_FOLDER = Path(__file__).parent
_SHOWN = 600
"""Characters of the message of one failure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a run of the suite.

    Attributes:
        passed: How many tests passed.
        failures: The name and the reason of each test that did not pass, skipped ones too.
    """

    passed: int
    failures: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.passed} of {self.passed + len(self.failures)} passed, {TESTS} are meant"]
        return "\n\n".join([*lines, *self.failures])


def judge(url: str, *, long_poll: float) -> Verdict:
    """Run the whole suite.

    Args:
        url: The server's, without a path. The suite requests paths below /v1/stream/.
        long_poll: Seconds after which the server answers a long-poll for which nothing came.

    Raises:
        RuntimeError: The suite itself could not be run; the message holds its output.
    """
    require()
    with tempfile.TemporaryDirectory(prefix="tailrace-conformance-") as folder:
        report, log = Path(folder, "report.json"), Path(folder, "log")
        _run(url, long_poll, report, log)
        if not report.exists():
            raise RuntimeError(f"the suite did not run:\n{log.read_text(errors='replace')}")
        return verdict_of(json.loads(report.read_text()))


def _run(url: str, long_poll: float, report: Path, log: Path) -> None:
    command: list[str | Path] = [
        *(NODE, NODE_MODULES / "vitest" / "vitest.mjs", "run", f"--root={_FOLDER}"),
        # Not compiled: vitest would write the compiled configuration beside the original.
        *("--configLoader=native", "--reporter=json", f"--outputFile={report}"),
    ]
    environment = {
        **os.environ,
        "CONFORMANCE_URL": url,
        "CONFORMANCE_LONG_POLL_MS": str(round(long_poll * 1000)),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired as error:
        said = log.read_text(errors="replace")
        raise RuntimeError(f"the suite was not done in {DEADLINE:g} s:\n{said}") from error
    finally:
        stop(process)


def verdict_of(report: dict[str, Any]) -> Verdict:
    """The result in vitest's JSON report."""
    files = report["testResults"]
    tests = [test for file in files for test in file["assertionResults"]]
    failed = [test for test in tests if test["status"] != "passed"]
    # A file that could not be loaded has a message and no tests.
    broken = [file["message"] for file in files if not file["assertionResults"]]
    return Verdict(len(tests) - len(failed), (*broken, *map(_told, failed)))


def _told(test: dict[str, Any]) -> str:
    why = "\n".join(test.get("failureMessages") or [])
    return f"{test['status']}: {test['fullName']}\n    {why[:_SHOWN] or 'no message'}"
