"""When a download is tried again."""

from __future__ import annotations

import pytest

from tailrace.cli.download.retry import Patience, RetryPolicy

POLICY = RetryPolicy(retries=5, base=1.0, cap=10.0, longest=60.0)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10)])
def test_the_time_doubles_up_to_the_cap(failures: int, seconds: float) -> None:
    assert POLICY.delay(failures, None, random=1.0) == seconds


def test_half_of_the_time_is_drawn() -> None:
    assert POLICY.delay(1, None, random=0.0) == 0.5
    assert POLICY.delay(1, None, random=0.5) == 0.75


def test_after_the_last_retry_it_gives_up() -> None:
    assert POLICY.delay(6, None, random=0.5) is None
    assert RetryPolicy(retries=0).delay(1, None, random=0.5) is None


def test_what_the_server_asks_for_is_not_undercut() -> None:
    assert POLICY.delay(1, 7.0, random=0.0) == 7.0
    assert POLICY.delay(5, 7.0, random=1.0) == 10.0


def test_a_server_that_asks_for_too_much_is_given_up() -> None:
    assert POLICY.delay(1, 60.0, random=0.0) == 60.0
    assert POLICY.delay(1, 60.1, random=0.0) is None


def test_any_number_of_failures_is_a_time() -> None:
    assert RetryPolicy(retries=10_000).delay(9_999, None, random=1.0) == RetryPolicy().cap


def patience() -> Patience:
    return Patience(RetryPolicy(retries=2, base=1.0), lambda: 1.0)


def test_bytes_beyond_the_most_so_far_begin_the_count_anew() -> None:
    waits = patience()
    assert [waits.fail(have) for have in (0, 0, 10, 20, 30)] == [1.0, 2.0, 1.0, 1.0, 1.0]


def test_bytes_that_were_there_before_are_no_progress() -> None:
    waits = patience()
    assert [waits.fail(have) for have in (50, 10, 50)] == [1.0, 2.0, None]
