"""HTTP dates in their three formats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.semantics import format_date, parse_date

NOW = 1_700_000_000.0  # 14 November 2023
EXAMPLE = 784_111_777  # RFC 9110's own


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
        "Mon, 06 Nov 1994 08:49:37 GMT",  # a weekday that is wrong
    ],
)
def test_each_format_of_the_rfc_is_read(text: str) -> None:
    assert parse_date(text, now=NOW) == EXAMPLE


def test_two_digits_of_a_year_are_not_more_than_fifty_years_ahead() -> None:
    assert parse_date("Sunday, 06-Nov-73 08:49:37 GMT", now=NOW) == 3_277_183_777  # 2073
    assert parse_date("Monday, 06-Nov-74 08:49:37 GMT", now=NOW) == 152_959_777  # 1974


def test_a_leap_second_is_the_second_after() -> None:
    text = "Sat, 31 Dec 2016 23:59:60 GMT"
    assert parse_date(text, now=NOW) == parse_date("Sun, 01 Jan 2017 00:00:00 GMT", now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "0", "784111777", "Sun, 06 Nov 1994 08:49:37", "06 Nov 1994"),
        *("Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 +0000"),
        *("Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT"),
        *("Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT"),
        *("Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 06 Nov 1994 08:49:37 GMT, and more"),
        "Sun, 0\u0666 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text, now=NOW) is None


@given(st.text())
def test_no_text_raises(text: str) -> None:
    parse_date(text, now=NOW)


@given(st.integers(0, 253_402_300_799), st.floats(0, 0.999))
def test_a_date_that_was_written_is_read_without_its_fraction(
    seconds: int, fraction: float
) -> None:
    assert parse_date(format_date(seconds + fraction), now=NOW) in (seconds, seconds + 1)
    assert parse_date(format_date(seconds), now=NOW) == seconds
