"""Run the tests of FastAPI and sse-starlette with our classes in place of theirs.

    python -m tests.peers [fastapi] [sse-starlette]

Each suite is fetched from PyPI in the version below. It runs twice, with their classes and with
ours, in an environment of its own below `.cache`; the first run takes minutes. A test that passes
with theirs and fails with ours must have a row with its reason in `docs/differences.md`; a row
whose test passes with ours is an error, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.starlette_own.differences import listed_differences, variants
from tests.starlette_own.suite import CACHE, fetch_tests

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HOME = CACHE / "peers"
PYTHON = HOME / "venv" / "bin" / "python"

DEADLINE = 600.0
"""Seconds for one run. The longer one takes 50 s on two idle cores."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The tests of one package that are about streams.

    Args:
        package: Its name on PyPI.
        version: The newest version that was compared.
        files: The files and folders that pytest runs.
        parts: The parts of the source distribution that are unpacked.
        needs: The packages that the tests import.
        options: Options for pytest.
    """

    package: str
    version: str
    files: tuple[str, ...]
    parts: tuple[str, ...] = ("tests", "pyproject.toml")
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


_IN = "tests/test_sse.py::TestEventSourceResponse"
_EITHER = "test_send_whenClientDisconnectsWithMemoryChannel_thenProducerIsCancelledCleanly"

SUITES = {
    suite.package: suite
    for suite in (
        Suite(
            "sse-starlette",
            "3.7.0",
            files=("tests",),
            needs=("pytest-asyncio", "httpx2", "uvicorn"),
            # A file and a test of a log need what is in its repository alone; one test goes either
            # way with ours, as its client leaves once a task waits that may never have to.
            options=(
                "--ignore=tests/test_broadcasting_example.py",
                f"--deselect={_IN}::test_disconnect_whenClientDisconnects_thenHandlesGracefully",
                f"--deselect={_IN}::{_EITHER}[0]",
            ),
        ),
        Suite(
            "fastapi",
            "0.165.0",
            files=(
                "tests/test_sse.py",
                "tests/test_stream_bare_type.py",
                "tests/test_stream_cancellation.py",
                "tests/test_stream_json_validation_error.py",
                "tests/test_stream_non_finite_floats.py",
                "tests/test_stream_status_code.py",
                "tests/test_dependency_after_yield_streaming.py",
                "tests/test_dependency_yield_scope.py",
                "tests/test_dependency_contextmanager.py",
                "tests/test_async_dependency_cleanup.py",
                "tests/test_router_include_context.py",
                "tests/test_tutorial/test_server_sent_events",
                "tests/test_tutorial/test_stream_data",
                "tests/test_tutorial/test_stream_json_lines",
                "tests/test_tutorial/test_custom_response",
            ),
            parts=("tests", "docs_src", "pyproject.toml"),
            needs=(
                *("dirty-equals", "inline-snapshot", "pytest-timeout", "pytest-xdist"),
                *("httpx", "orjson", "ujson", "pyyaml", "python-multipart", "trio"),
            ),
            options=("-p", "no:asyncio"),  # a plugin for the other suite
        ),
    )
}


def main() -> int:
    """Run the suites that are named, or all. Returns 1 if one differs from docs/differences.md."""
    names = sys.argv[1:] or list(SUITES)
    if unknown := set(names) - set(SUITES):
        print(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")  # noqa: T201
        return 2
    prepare([SUITES[name] for name in names])
    return max(compare(SUITES[name]) for name in names)


def prepare(suites: list[Suite]) -> None:
    """Make the environment, install the packages, and fetch the tests."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
    wanted = ["--editable", str(ROOT), "pytest"]
    for suite in suites:
        wanted += [f"{suite.package}=={suite.version}", *suite.needs]
        fetch_tests(suite.package, suite.version, suite.parts)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)


def compare(suite: Suite) -> int:
    """Run a suite with theirs and with ours. Returns 1 if it differs from docs/differences.md."""
    theirs, ours = run(suite, ours=False), run(suite, ours=True)
    passed = {test for test, outcome in theirs.items() if outcome == "passed"}
    differ = {test for test in passed if ours.get(test) != "passed"}
    rows = listed_differences(suite.package)
    listed = {test for row in rows for test in variants(row, theirs)}
    print(f"{suite.package} {suite.version}: {len(passed)} pass with theirs, {len(differ)} differ")  # noqa: T201
    unknown = {row for row in rows if not variants(row, theirs)}
    for words, tests in (
        ("differs, and is not in docs/differences.md", differ - listed),
        ("is in docs/differences.md, and does not differ", listed - differ),
        ("is in docs/differences.md, and does not exist", unknown),
    ):
        for test in sorted(tests):
            print(f"  {test}: {words}")  # noqa: T201
    return int(bool(differ ^ listed or unknown))


def run(suite: Suite, *, ours: bool) -> dict[str, str]:
    """Run a suite. Returns the outcome of each test, by its id.

    Raises:
        RuntimeError: pytest could not run the tests; the message has its output.
    """
    outcomes = HOME / f"{suite.package}-{'ours' if ours else 'theirs'}.json"
    outcomes.unlink(missing_ok=True)
    done = subprocess.run(
        [
            *(str(PYTHON), "-m", "pytest", "-p", "swap", f"--suite={suite.package}"),
            *(("--ours",) if ours else ()),
            *(f"--outcomes={outcomes}", "--quiet", "--tb=no", "-p", "no:cacheprovider"),
            *(*suite.options, *suite.files),
        ],
        cwd=fetch_tests(suite.package, suite.version, suite.parts),
        env={**os.environ, "PYTHONPATH": str(HERE), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the tests of {suite.package} did not run:\n{done.stdout}{done.stderr}")
    written: dict[str, str] = json.loads(outcomes.read_text())
    return written


if __name__ == "__main__":
    sys.exit(main())
