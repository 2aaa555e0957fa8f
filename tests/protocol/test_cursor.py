from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.limits import CURSOR_INTERVAL, CURSOR_JITTER
from tailrace.protocol.cursor import EPOCH, interval_of, next_cursor, parse_cursor

MOST = int(CURSOR_JITTER / CURSOR_INTERVAL)

cursors = st.integers(0, 10**15 - 1)
times = st.floats(EPOCH, EPOCH + 10**9)
salts = st.integers(0, 2**32 - 1)


def test_cursors_count_spans_of_twenty_seconds() -> None:
    assert interval_of(EPOCH) == 0
    assert interval_of(EPOCH + 19.999) == 0
    assert interval_of(EPOCH + 20) == 1
    assert interval_of(EPOCH + 20 * 1000 + 1) == 1000


def test_a_clock_before_the_epoch_gives_no_negative_cursor() -> None:
    assert interval_of(0.0) == 0


def test_a_client_with_an_older_cursor_or_none_gets_that_of_now() -> None:
    now = EPOCH + 20 * 1000
    assert next_cursor(None, now, 1) == 1000
    assert next_cursor(999, now, 1) == 1000


@given(cursors, times, salts)
def test_a_cursor_never_goes_back_and_never_stays(given_: int, now: float, salt: int) -> None:
    got = next_cursor(given_, now, salt)
    assert got > given_
    assert got >= interval_of(now)


@given(cursors, salts)
def test_it_is_moved_on_by_an_hour_at_most(given_: int, salt: int) -> None:
    assert 1 <= next_cursor(given_, EPOCH, salt) - given_ <= MOST


@given(cursors, times, salts)
def test_clients_that_send_the_same_get_the_same(given_: int, now: float, salt: int) -> None:
    assert next_cursor(given_, now, salt) == next_cursor(given_, now, salt)


def test_processes_and_cursors_are_spread_over_the_hour() -> None:
    steps = {next_cursor(given_, EPOCH, 7) - given_ for given_ in range(2000)}
    assert len(steps) == MOST


@given(cursors)
def test_a_cursor_is_read_back(cursor: int) -> None:
    assert parse_cursor(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text", ["", "abc", "-1", "+1", "1.5", " 1", "1\n", "\u0661", "9" * 16, "9" * 5000]
)
def test_what_is_no_cursor_of_ours_is_none(text: str) -> None:
    assert parse_cursor(text) is None
