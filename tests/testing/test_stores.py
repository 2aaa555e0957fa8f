"""What docs/testing.md shows of a store of one's own passes as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import ROOT, examples_in

PAGE = ROOT / "docs" / "testing.md"

CONFTEST = """
from hypothesis import settings

pytest_plugins = ["tailrace.testing.plugin"]
settings.register_profile("few", max_examples=10, deadline=None)
settings.load_profile("few")
"""


@pytest.mark.slow
def test_the_store_of_the_page_is_tested_and_passes(tmp_path: Path) -> None:
    (example,) = (
        example
        for example in examples_in(PAGE.read_text(), "docs/testing.md")
        if "StoreContract" in example.code
    )
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_my_store.py").write_text(example.code)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = int(run.stdout.splitlines()[-1].split()[0])
    # On asyncio and on trio; the page says how many there are on each.
    assert 700 > passed > 600, run.stdout
    assert "skipped" not in run.stdout


def test_the_kit_itself_needs_neither_pytest_nor_hypothesis() -> None:
    code = "import sys, tailrace.testing; print({'pytest', 'hypothesis'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
