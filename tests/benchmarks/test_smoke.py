"""The benchmarks still run; what they measure is no matter for a test."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import rows

ROOT = Path(__file__).resolve().parents[2]
APPS = [
    "bare",
    "fastapi_ours",
    "fastapi_ours_checked",
    "fastapi_theirs",
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


@pytest.mark.slow
def test_a_tiny_row_runs_from_the_servers_to_the_table() -> None:
    command = [sys.executable, "-m", "benchmarks", "--scale", "0.0005", "numbers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "100 lines" in done.stdout, done.stderr
