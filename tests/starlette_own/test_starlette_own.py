"""Starlette's tests of StreamingResponse hold for ours, except where docs/differences.md says why.

Starlette's own class runs through the same harness: its failures would be the harness's.
"""

from __future__ import annotations

import pytest

from tests.starlette_own.differences import listed_differences
from tests.starlette_own.suite import Outcome, fetch_suite, start_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    """What the tests came to with Starlette's class, and with ours; the two run side by side."""
    suite = fetch_suite()
    folder = tmp_path_factory.mktemp("starlette")
    runs = [
        start_run(suite, "starlette.responses:StreamingResponse", folder / "theirs.json"),
        start_run(suite, "tailrace:StreamingResponse", folder / "ours.json"),
    ]
    try:
        theirs, ours = (run.result() for run in runs)
    finally:
        for run in runs:
            run.process.kill()  # nothing, for one that has ended
            run.process.communicate()
    return theirs, ours


@pytest.fixture(scope="module")
def theirs(outcomes: tuple[Outcome, Outcome]) -> Outcome:
    return outcomes[0]


@pytest.fixture(scope="module")
def ours(outcomes: tuple[Outcome, Outcome]) -> Outcome:
    return outcomes[1]


def test_every_test_passes_with_starlettes_own_class(theirs: Outcome) -> None:
    assert theirs.passed
    assert not theirs.failed, theirs.output


def test_no_test_fails_with_ours_that_is_not_listed(ours: Outcome) -> None:
    assert ours.failed - listed_differences().keys() == set(), ours.output


def test_every_listed_test_fails_with_ours(ours: Outcome) -> None:
    assert listed_differences().keys() - ours.failed == set()


def test_the_same_tests_ran_with_both(theirs: Outcome, ours: Outcome) -> None:
    assert ours.passed | ours.failed == theirs.passed | theirs.failed


def test_ours_was_sent_wherever_theirs_was(theirs: Outcome, ours: Outcome) -> None:
    assert theirs.sent_in
    assert ours.sent_in == theirs.sent_in


def test_a_row_of_the_list_is_read() -> None:
    page = "| test | why |\n|---|---|\n| `tests/test_a.py::test_b[trio]` | it is better |\n"
    assert listed_differences(page) == {"tests/test_a.py::test_b[trio]": "it is better"}


@pytest.mark.parametrize("rows", ["| `tests/a.py::b` | |\n", "| `tests/a.py::b` | why |\n" * 2])
def test_a_row_without_a_reason_or_a_second_one_is_refused(rows: str) -> None:
    with pytest.raises(ValueError, match="twice, or without"):
        listed_differences(rows)
