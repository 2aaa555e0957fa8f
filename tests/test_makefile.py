"""What `make demo` prints and on which port it serves; and which tests `make check` leaves out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.examples import ROOT

MADE = ("made.stamp", "demo.stamp")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the files that make reads, and a `tailrace` that only prints its arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").touch()
    command = tmp_path / ".venv/bin/tailrace"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho called with "$@"\n')
    command.chmod(0o755)
    return tmp_path


def make(clone: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Without the variables of the make that may have started the tests.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    inherited.pop("PORT", None)
    return subprocess.run(
        ["make", *arguments],
        cwd=clone,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )


def has_environment(clone: Path) -> None:
    for name in MADE:
        (clone / ".venv" / name).touch()


@pytest.mark.parametrize(
    ("arguments", "port"), [((), "8000"), (("PORT=8001",), "8001"), (("PORT=0",), "0")]
)
def test_the_demo_is_on_the_port_that_is_named(
    clone: Path, arguments: tuple[str, ...], port: str
) -> None:
    has_environment(clone)
    end = make(clone, "demo", *arguments)
    assert end.returncode == 0
    assert end.stdout == (
        f"make: starting the tour on port {port} (make demo PORT=... takes another)\n"
        f"called with demo --port {port}\n"
    )


def test_the_environment_may_name_the_port_too(clone: Path) -> None:
    has_environment(clone)
    assert "--port 8002" in make(clone, "demo", PORT="8002").stdout


def test_before_anything_takes_time_it_says_what_it_does(clone: Path) -> None:
    end = make(clone, "demo", "PYTHON=no-such-python")
    assert end.returncode != 0
    assert end.stdout == "make: making an environment for Python in .venv\n"
    assert "no-such-python was not found" in end.stderr


def test_before_it_installs_anything_it_says_so(clone: Path) -> None:
    (clone / ".venv/made.stamp").touch()
    end = make(clone, "demo")  # it fails, because there is no pip
    assert end.returncode != 0
    assert end.stdout.startswith("make: installing what the tour needs into .venv")


def test_a_check_installs_nothing_of_the_system(clone: Path) -> None:
    has_environment(clone)
    (clone / ".venv/test.stamp").touch()
    planned = make(clone, "--dry-run", "check").stdout
    assert "-m pytest" in planned
    assert "scripts/install" not in planned
    assert "scripts/install" in make(clone, "--dry-run", "test").stdout
