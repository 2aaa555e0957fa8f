"""What tests/conftest.py does for every run, tested with a run of a few tests that misbehave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import test_errors, test_servers
from tests.conftest import file_serves
from tests.servers import ROOT

MISBEHAVING = """
import signal, subprocess, sys, time
import anyio, pytest

@pytest.mark.timeout(2)
def test_that_blocks():
    time.sleep(60)

@pytest.mark.anyio
@pytest.mark.timeout(2)
async def test_that_hangs():
    await anyio.sleep(60)

@pytest.mark.anyio
async def test_behind_it():
    await anyio.sleep(0)

def test_with_a_child_that_is_interrupted():
    program = "import time; print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with child:
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(10) in (1, -signal.SIGINT)

kept = []
def test_that_leaves_a_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(61.25)"]))
"""


def test_a_file_that_starts_servers_is_seen_by_what_it_imports() -> None:
    assert file_serves(test_servers)
    assert not file_serves(test_errors)


@pytest.mark.slow
def test_a_hanging_test_fails_alone_and_nothing_is_left(tmp_path: Path) -> None:
    """A test that hangs must not end the run, and a test must not depend on inherited signals."""
    (tmp_path / "test_misbehaving.py").write_text(MISBEHAVING)
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", *plugins, "--rootdir", tmp_path, tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # As in a job that a shell has started with `&`.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    said = run.stdout
    assert "3 failed, 4 passed" in said, said
    for hanging in ("test_that_blocks", "test_that_hangs[asyncio]", "test_that_hangs[trio]"):
        assert re.search(f"FAILED .*::{re.escape(hanging)}", said), said
    assert "left behind by a test" in said
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert not [each for each in psutil.process_iter(["cmdline"]) if _is_left(each)]


def _is_left(process: psutil.Process) -> bool:
    return any("time.sleep(61.25)" in word for word in process.info["cmdline"] or ())
