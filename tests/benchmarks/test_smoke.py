"""The benchmarks still run. What they measure is not checked here."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from benchmarks.measure import Cost
from benchmarks.rows import appends, attached, catch_up, growing, python_readers

from benchmarks import peers, rows

ROOT = Path(__file__).resolve().parents[2]
APPS = [
    "bare",
    "fastapi_ours",
    "fastapi_ours_checked",
    "fastapi_theirs",
    "files",
    "live",
    "sse_starlette_theirs",
    "starlette_ours",
    "starlette_theirs",
]


@pytest.mark.parametrize("name", sorted(rows.ROWS))
def test_every_row_has_a_script(name: str) -> None:
    assert callable(rows.load(name))


@pytest.mark.parametrize("app", APPS)
def test_every_application_can_be_imported(app: str) -> None:
    assert callable(import_module(f"benchmarks.apps.{app}").app)


def test_a_peer_that_is_missing_is_told_and_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(peers, "ELSEWHERE", "")
    assert not peers.has_nchan()
    assert peers.nginx_version() is None
    cost = [Cost(wall=1.0, cpu=1.0)]
    found = attached.finding({attached.OURS: cost}, subscribers=1, messages=1)
    assert (found.theirs, found.holds) == (peers.NOT_INSTALLED, None)


def test_the_reference_server_may_be_missing_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "_NODE", tmp_path)
    assert not peers.has_node_server()
    cost = [Cost(wall=1.0, cpu=1.0)]
    found = appends.finding({appends.OURS: cost}, streams=1, appends=1)
    assert (found.theirs, found.holds) == (peers.NOT_INSTALLED, None)
    read = catch_up.finding({catch_up.OURS: cost}, size=200, length=200, times=1)
    assert read.theirs == peers.NOT_INSTALLED


def test_what_grows_is_seen_by_the_largest_size_and_not_by_the_first() -> None:
    case = growing.CASES[0]
    cheap, dear = growing.Turn(1.0, 1.0, 1.0), growing.Turn(1.0, 1.3, 1.0)
    assert growing.finding(case, (1, 4, 16), [[dear], [cheap], [cheap]]).holds
    assert not growing.finding(case, (1, 4, 16), [[dear], [cheap], [dear]]).holds


@pytest.mark.slow
def test_a_process_beside_something_has_its_turns() -> None:
    with growing.Beside("watched", 3) as side:
        turn = side.turn()
    assert turn.cpu > 0
    assert turn.longest > 0


@pytest.mark.slow
def test_readers_in_python_are_counted_and_checked() -> None:
    (found,) = python_readers.run(0.01)
    assert "readers in Python" in found.what
    assert "µs CPU" in found.ours


@pytest.mark.slow
def test_a_tiny_row_runs_from_the_servers_to_the_table() -> None:
    command = [sys.executable, "-m", "benchmarks", "--scale", "0.0005", "numbers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "100 lines" in done.stdout, done.stderr
