"""The tests that docs/testing.md shows pass, on both event loops."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path

import pytest

from tailrace.testing import Clock
from tests.examples import ROOT, Example, examples_in, load

PAGE = ROOT / "docs" / "testing.md"

EXAMPLES = [
    example
    for example in examples_in(PAGE.read_text(), "docs/testing.md")
    if "def test_" in example.code
]


def test_the_page_shows_tests() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.anyio
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
async def test_the_tests_of_an_example_pass(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(example, tmp_path, monkeypatch)
    tests = [test for name, test in vars(module).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        wants_clock = "clock" in inspect.signature(test).parameters
        with Clock() if wants_clock else nullcontext() as clock:
            await (test(clock=clock) if wants_clock else test())
