"""Runs Starlette's own tests, of the version that is installed, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath

__all__ = ["CACHE", "Run", "fetch_suite", "fetch_tests", "start_run"]

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache"

USED_BY = {"FileResponse": ("StaticFiles",)}
"""By the name of a class: what else in Starlette sends responses of this class."""

RUN_DEADLINE = 180.0
"""Seconds for one run. It takes about 10 s on two cores."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one run, by the tests' ids ("tests/test_responses.py::test_file[asyncio]").

    Attributes:
        passed: Tests that passed.
        failed: Tests that failed in any phase.
        sent_in: Tests in which a response of the class was sent.
        output: What pytest printed.
    """

    passed: frozenset[str]
    failed: frozenset[str]
    sent_in: frozenset[str]
    output: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was started."""

    process: subprocess.Popen[str]
    outcomes: Path

    def result(self) -> Outcome:
        """Wait until it has ended.

        Raises:
            RuntimeError: pytest could not run the tests; the message has its output.
        """
        output, _ = self.process.communicate(timeout=RUN_DEADLINE)
        # 0: all passed, 1: some failed. With any other code the tests did not run.
        if self.process.returncode not in (0, 1):
            raise RuntimeError(f"Starlette's tests did not run:\n{output}")
        written = json.loads(self.outcomes.read_text())
        by_outcome: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
        for test, outcome in written["outcomes"].items():
            by_outcome[outcome].add(test)
        return Outcome(
            frozenset(by_outcome["passed"]),
            frozenset(by_outcome["failed"]),
            frozenset(written["sent_in"]),
            output,
        )


def fetch_suite() -> Path:
    """The folder with the `tests` of the installed Starlette; the first call loads it from PyPI."""
    return fetch_tests("starlette", version("starlette"))


def fetch_tests(
    package: str, release: str, parts: tuple[str, ...] = ("tests", "pyproject.toml")
) -> Path:
    """The folder with the tests of a package; the first call loads it from PyPI.

    Only the tests and their settings are unpacked. If the package were beside them, they would test
    that copy, and not the one that Tailrace uses.
    """
    name = f"{package.replace('-', '_')}-{release}"
    suite = CACHE / name
    if suite.is_dir():
        return suite
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="unpacking-") as temporary:
        folder = Path(temporary)
        archive = download_source(package, release, folder)
        unpack_tests(archive, name, folder, parts)
        # In one step, so that an interrupted run leaves no half of a suite behind.
        (folder / name).rename(suite)
    return suite


def unpack_tests(archive: Path, name: str, folder: Path, parts: tuple[str, ...]) -> None:
    """Write the regular files that are wanted, each within `folder`.

    `extractall` is not used: in Debian 12's Python (3.11.2) it has no `filter=`, and without that
    an archive can write anywhere.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            wanted = any(path.is_relative_to(f"{name}/{part}") for part in parts)
            if not wanted or ".." in path.parts or (content := tar.extractfile(member)) is None:
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content.read())


def download_source(package: str, release: str, folder: Path) -> Path:
    pip = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-binary", package, "--dest", str(folder)),
            f"{package}=={release}",
        ],
        capture_output=True,
        text=True,
    )
    archive = folder / f"{package.replace('-', '_')}-{release}.tar.gz"
    if not archive.exists():
        raise RuntimeError(
            f"pip could not fetch the source of {package}:\n{pip.stdout}{pip.stderr}"
        )
    return archive


def start_run(suite: Path, replaced: str, by: str, outcomes: Path) -> Run:
    """Start a run of every test file that uses a class, with another class in its place.

    Args:
        suite: The result of `fetch_suite`.
        replaced: The name of a class in `starlette.responses`.
        by: The class in its place, as "module:name".
        outcomes: The file to which the run writes its outcomes.
    """
    words = [replaced, *USED_BY.get(replaced, ())]
    files = [
        str(path.relative_to(suite))
        for path in sorted((suite / "tests").rglob("test_*.py"))
        if any(word in path.read_text() for word in words)
    ]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "replace", "-p", "no:cacheprovider"),
            *("--quiet", "--tb=short"),
            *(f"--replaced={replaced}", f"--by={by}", f"--outcomes={outcomes}"),
            *files,
        ],
        cwd=suite,
        env={**os.environ, "PYTHONPATH": str(HERE), "PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Run(process, outcomes)
