"""Conditional requests: each header, which of them counts, and when a part may be sent."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.semantics import ByteRange, Outcome, Validators, answer, format_date, is_entity_tag

NOW = 1_700_000_000.0
CHANGED = NOW - 3600
ETAG = '"v1"'
VALIDATORS = Validators(ETAG, CHANGED + 0.75)
BEFORE, SAME, AFTER = (format_date(CHANGED + hours * 600) for hours in (-1, 0, 1))
SIZE = 1000

WHOLE, PARTIAL = Outcome.WHOLE, Outcome.PARTIAL
NOT_MODIFIED, FAILED = Outcome.NOT_MODIFIED, Outcome.FAILED


def outcome(
    method: str = "GET", validators: Validators = VALIDATORS, now: float = NOW, **headers: str
) -> Outcome:
    given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(method, given_headers, validators, SIZE, now=now).outcome


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"v1"', WHOLE),
        ('"v0", "v1"', WHOLE),
        ('"v0"\t,,"v1",', WHOLE),
        ("*", WHOLE),
        (" * ", WHOLE),
        ('"v2"', FAILED),
        ('W/"v1"', FAILED),  # strong comparison
        ("v1", FAILED),
        ("", FAILED),
        ('"v0" "v1"', WHOLE),
        ('"v1', FAILED),
    ],
)
def test_if_match_compares_strongly(value: str, expected: Outcome) -> None:
    assert outcome(if_match=value) is expected
    assert outcome("HEAD", if_match=value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"v1"', NOT_MODIFIED),
        ('W/"v1"', NOT_MODIFIED),  # weak comparison
        ('"v0", W/"v1"', NOT_MODIFIED),
        ('"a,b", "v1"', NOT_MODIFIED),  # a comma inside of a tag
        ("*", NOT_MODIFIED),
        ('"v2"', WHOLE),
        ("v1", WHOLE),
        ("", WHOLE),
        ('w/"v1"', WHOLE),
    ],
)
def test_if_none_match_compares_weakly(value: str, expected: Outcome) -> None:
    assert outcome(if_none_match=value) is expected
    assert outcome("HEAD", if_none_match=value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(BEFORE, WHOLE), (SAME, NOT_MODIFIED), (AFTER, NOT_MODIFIED), ("yesterday", WHOLE)],
)
def test_if_modified_since_compares_whole_seconds(value: str, expected: Outcome) -> None:
    assert outcome(if_modified_since=value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(BEFORE, FAILED), (SAME, WHOLE), (AFTER, WHOLE), ("yesterday", WHOLE)],
)
def test_if_unmodified_since_compares_whole_seconds(value: str, expected: Outcome) -> None:
    assert outcome(if_unmodified_since=value) is expected


def test_if_unmodified_since_does_not_count_beside_if_match() -> None:
    assert outcome(if_match=ETAG, if_unmodified_since=BEFORE) is WHOLE
    assert outcome(if_match='"v2"', if_unmodified_since=AFTER) is FAILED


def test_if_modified_since_does_not_count_beside_if_none_match() -> None:
    assert outcome(if_none_match='"v2"', if_modified_since=AFTER) is WHOLE
    assert outcome(if_none_match=ETAG, if_modified_since=BEFORE) is NOT_MODIFIED


def test_a_condition_that_fails_comes_before_one_that_spares() -> None:
    assert outcome(if_match='"v2"', if_none_match=ETAG) is FAILED
    assert outcome(if_unmodified_since=BEFORE, if_none_match=ETAG) is FAILED
    assert outcome(if_match=ETAG, if_none_match=ETAG) is NOT_MODIFIED


def test_conditions_come_before_the_range() -> None:
    assert outcome(range="bytes=0-9", if_none_match=ETAG) is NOT_MODIFIED
    assert outcome(range="bytes=0-9", if_match='"v2"') is FAILED
    assert outcome(range="bytes=9999-", if_none_match=ETAG) is NOT_MODIFIED
    assert outcome(range="bytes=0-9", if_match=ETAG, if_none_match='"v2"') is PARTIAL


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ETAG, PARTIAL),
        (f" {ETAG} ", PARTIAL),
        ('"v2"', WHOLE),
        (f"W/{ETAG}", WHOLE),
        (SAME, PARTIAL),
        (AFTER, WHOLE),  # exactly the date, not one after it
        (BEFORE, WHOLE),
        ("yesterday", WHOLE),
        ("*", WHOLE),
        (f'{ETAG}, "v2"', WHOLE),
    ],
)
def test_if_range_holds_for_exactly_what_the_client_has(value: str, expected: Outcome) -> None:
    assert outcome(range="bytes=0-9", if_range=value) is expected


def test_if_range_never_holds_for_a_weak_tag() -> None:
    weak = Validators('W/"v1"', CHANGED)
    for value in ('W/"v1"', '"v1"'):
        assert outcome(validators=weak, range="bytes=0-9", if_range=value) is WHOLE


def test_if_range_does_not_hold_for_a_date_within_whose_second_more_could_change() -> None:
    """RFC 9110 8.8.2.2: such a date is weak."""
    for later, expected in [(0.0, WHOLE), (0.9, WHOLE), (1.0, PARTIAL), (60.0, PARTIAL)]:
        now = int(CHANGED) + later
        assert outcome(now=now, range="bytes=0-9", if_range=SAME) is expected


def test_if_range_without_a_range_does_nothing() -> None:
    assert outcome(if_range='"v2"') is WHOLE


def test_if_range_that_does_not_hold_spares_an_unsatisfiable_range() -> None:
    assert outcome(range="bytes=9999-") is Outcome.UNSATISFIABLE
    assert outcome(range="bytes=9999-", if_range='"v2"') is WHOLE


def test_a_range_gives_its_bytes() -> None:
    given_answer = answer("GET", {"range": "bytes=0-9"}, VALIDATORS, SIZE, now=NOW)
    assert given_answer.ranges == (ByteRange(0, 10),)


def test_head_has_no_ranges() -> None:
    assert outcome("HEAD", range="bytes=0-9") is WHOLE
    assert outcome("HEAD", range="bytes=9999-") is WHOLE


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_another_method_has_been_carried_out_and_is_not_judged(method: str) -> None:
    assert outcome(method, if_match='"v2"', if_none_match=ETAG, range="bytes=0-9") is WHOLE


def test_without_validators_only_stars_match_and_dates_are_ignored() -> None:
    nothing = Validators(None, None)
    assert outcome(validators=nothing, if_match="*") is WHOLE
    assert outcome(validators=nothing, if_match=ETAG) is FAILED
    assert outcome(validators=nothing, if_none_match=ETAG) is WHOLE
    assert outcome(validators=nothing, if_none_match="*") is NOT_MODIFIED
    assert outcome(validators=nothing, if_modified_since=AFTER) is WHOLE
    assert outcome(validators=nothing, if_unmodified_since=BEFORE) is WHOLE
    assert outcome(validators=nothing, range="bytes=0-9", if_range=SAME) is WHOLE
    assert outcome(validators=nothing, range="bytes=0-9") is PARTIAL


VALUES = {
    "if-match": [None, ETAG, '"v2"'],
    "if-unmodified-since": [None, BEFORE, AFTER],
    "if-none-match": [None, ETAG, '"v2"'],
    "if-modified-since": [None, BEFORE, AFTER],
    "if-range": [None, ETAG, '"v2"'],
    "range": [None, "bytes=0-9", "bytes=9999-"],
}


@pytest.mark.parametrize("values", list(itertools.product(*VALUES.values())))
def test_every_combination_goes_by_the_steps_of_the_rfc(values: tuple[str | None, ...]) -> None:
    headers = {name: value for name, value in zip(VALUES, values, strict=True) if value}
    got = answer("GET", headers, VALIDATORS, SIZE, now=NOW).outcome
    assert got is by_the_steps(headers)


def by_the_steps(headers: dict[str, str]) -> Outcome:
    """RFC 9110 13.2.2, step by step as it stands there, for the values above."""
    if "if-match" in headers:  # 1
        if headers["if-match"] != ETAG:
            return FAILED
    elif headers.get("if-unmodified-since") == BEFORE:  # 2
        return FAILED
    if "if-none-match" in headers:  # 3
        if headers["if-none-match"] == ETAG:
            return NOT_MODIFIED
    elif headers.get("if-modified-since") == AFTER:  # 4
        return NOT_MODIFIED
    if "range" in headers and headers.get("if-range", ETAG) == ETAG:  # 5
        return PARTIAL if headers["range"] == "bytes=0-9" else Outcome.UNSATISFIABLE
    return WHOLE  # 6


@given(st.dictionaries(st.sampled_from(list(VALUES)), st.text(), max_size=6))
def test_no_headers_raise(headers: dict[str, str]) -> None:
    answer("GET", headers, VALIDATORS, SIZE, now=NOW)


def test_a_tag_beyond_the_limit_matches_nothing() -> None:
    padding = '"x",' * 10_000
    assert outcome(if_none_match=padding + ETAG) is WHOLE
    assert outcome(if_match=padding + ETAG) is FAILED


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('""', True),
        ("a", False),
        ('"a b"', False),
        ('"a"b"', False),
    ],
)
def test_an_entity_tag_is_in_quotes(text: str, is_one: bool) -> None:
    assert is_entity_tag(text) is is_one
