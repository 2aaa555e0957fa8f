"""Starlette's tests of its responses hold for ours, except where docs/differences.md says why.

Starlette's own classes run through the same harness: their failures would be the harness's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from tests.starlette_own.differences import listed_differences, variants
from tests.starlette_own.suite import Outcome, fetch_suite, start_run

pytestmark = pytest.mark.slow

NOT_FOR_ROOT = {
    f"tests/test_staticfiles.py::test_staticfiles_with_invalid_dir_permissions_returns_401[{loop}]"
    for loop in ("asyncio", "trio")
}
"""They take a right away, and root has it all the same."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the tests of one class came to.

    Attributes:
        replaced: The class's name.
        theirs: With Starlette's.
        ours: With ours.
    """

    replaced: str
    theirs: Outcome
    ours: Outcome

    @property
    def listed(self) -> set[str]:
        ran = self.ours.passed | self.ours.failed
        rows = listed_differences(self.replaced)
        unknown = [row for row in rows if not variants(row, ran)]
        assert not unknown, f"no such tests: {unknown}"
        return {test for row in rows for test in variants(row, ran)}


@pytest.fixture(scope="module", params=["StreamingResponse", "FileResponse"])
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What the tests came to with Starlette's class, and with ours; the two run side by side."""
    name = request.param
    suite = fetch_suite()
    folder = tmp_path_factory.mktemp("starlette")
    runs = [
        start_run(suite, name, f"starlette.responses:{name}", folder / "theirs.json"),
        start_run(suite, name, f"tailrace:{name}", folder / "ours.json"),
    ]
    try:
        theirs, ours = (run.result() for run in runs)
    finally:
        for run in runs:
            run.process.kill()  # nothing, for one that has ended
            run.process.communicate()
    return Outcomes(name, theirs, ours)


def impossible_here() -> set[str]:
    return NOT_FOR_ROOT if os.geteuid() == 0 else set()


def test_every_test_passes_with_starlettes_own_class(outcomes: Outcomes) -> None:
    assert outcomes.theirs.passed
    assert outcomes.theirs.failed <= impossible_here(), outcomes.theirs.output


def test_no_test_fails_with_ours_that_is_not_listed(outcomes: Outcomes) -> None:
    unexpected = outcomes.ours.failed - outcomes.listed - impossible_here()
    assert unexpected == set(), outcomes.ours.output


def test_every_listed_test_fails_with_ours(outcomes: Outcomes) -> None:
    assert outcomes.listed - outcomes.ours.failed == set()


def test_the_same_tests_ran_with_both(outcomes: Outcomes) -> None:
    ours, theirs = outcomes.ours, outcomes.theirs
    assert ours.passed | ours.failed == theirs.passed | theirs.failed


def test_ours_was_sent_wherever_theirs_was(outcomes: Outcomes) -> None:
    assert outcomes.theirs.sent_in
    assert outcomes.ours.sent_in == outcomes.theirs.sent_in


PAGE = """\
## `One`

| test | why |
|---|---|
| `tests/test_a.py::test_b[trio]` | it is better |

## `Two`

| test | why |
|---|---|
| `tests/test_a.py::test_c` | so is this |
"""


def test_the_rows_under_the_heading_of_a_class_are_read() -> None:
    assert listed_differences("One", PAGE) == {"tests/test_a.py::test_b[trio]": "it is better"}
    assert listed_differences("Two", PAGE) == {"tests/test_a.py::test_c": "so is this"}


@pytest.mark.parametrize("rows", ["| `tests/a.py::b` | |\n", "| `tests/a.py::b` | why |\n" * 2])
def test_a_row_without_a_reason_or_a_second_one_is_refused(rows: str) -> None:
    with pytest.raises(ValueError, match="twice, or without"):
        listed_differences("One", f"## `One`\n{rows}")


def test_a_row_without_parameters_is_about_all_of_them() -> None:
    ran = {"t.py::a[asyncio]", "t.py::a[trio]", "t.py::ab[trio]", "t.py::c"}
    assert variants("t.py::a", ran) == {"t.py::a[asyncio]", "t.py::a[trio]"}
    assert variants("t.py::c", ran) == {"t.py::c"}
    assert variants("t.py::d", ran) == set()
