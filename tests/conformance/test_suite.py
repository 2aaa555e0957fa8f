"""How the report of vitest is read: nothing that did not pass is passed over."""

from __future__ import annotations

from typing import Any

from tests.conformance.suite import Verdict, verdict_of


def report(*tests: tuple[str, str], message: str = "") -> dict[str, Any]:
    """vitest's report on one file: the name and the status of each test."""
    results = [{"fullName": name, "status": status} for name, status in tests]
    return {"testResults": [{"message": message, "assertionResults": results}]}


def test_tests_that_passed_are_counted() -> None:
    assert verdict_of(report(("a", "passed"), ("b", "passed"))) == Verdict(2, ())


def test_a_test_that_failed_is_named_with_its_message() -> None:
    found = report(("a", "passed"), ("b", "failed"))
    found["testResults"][0]["assertionResults"][1]["failureMessages"] = ["404 is not 200"]
    verdict = verdict_of(found)
    assert verdict == Verdict(1, ("failed: b\n    404 is not 200",))
    assert str(verdict).startswith("1 of 2 passed, 338 are meant")


def test_a_test_that_was_skipped_has_not_passed() -> None:
    assert verdict_of(report(("a", "skipped"))) == Verdict(0, ("skipped: a\n    no message",))


def test_a_file_that_could_not_be_loaded_has_not_passed() -> None:
    assert verdict_of(report(message="no such package")) == Verdict(0, ("no such package",))
