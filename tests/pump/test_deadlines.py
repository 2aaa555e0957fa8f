"""The clock of a stream, without a loop: what is due when."""

from __future__ import annotations

from math import inf

import pytest

from tailrace import limits
from tailrace.pump import Deadlines, Due, StallClock
from tailrace.pump.deadlines import Verdict


def deadlines(
    *, heartbeat: float = inf, send_timeout: float | None = 30.0, **limits: float
) -> Deadlines:
    return Deadlines(0.0, send_timeout=send_timeout, heartbeat=heartbeat, **limits)


def test_before_the_grace_is_over_nothing_is_due() -> None:
    verdict = deadlines(start_grace=0.1).check(0.05, None)
    assert verdict.due is Due.NOTHING
    assert verdict.again == 0.1


def test_a_late_first_item_makes_the_start_due() -> None:
    assert deadlines(start_grace=0.1).check(0.1, None).due is Due.START


def test_a_stream_that_has_begun_is_not_started_again() -> None:
    clock = deadlines(start_grace=0.1)
    clock.begun()
    assert clock.check(0.1, None).due is not Due.START


def test_a_head_that_went_out_alone_is_pushed_once_when_the_first_item_is_late() -> None:
    clock = deadlines()
    assert clock.check(0.0, None) == Verdict(Due.START, limits.START_GRACE)
    clock.begun()
    clock.writing(0, 0.01)
    clock.written(0.01)
    assert clock.check(0.05, None).due is Due.NOTHING
    assert clock.check(limits.START_GRACE, None).due is Due.PUSH
    clock.pushed()
    assert clock.check(limits.START_GRACE, None).due is Due.NOTHING


def test_a_head_with_an_item_behind_it_needs_no_push() -> None:
    clock = deadlines()
    clock.begun()
    clock.writing(5, 0.05)
    clock.written(0.05)
    assert clock.check(limits.START_GRACE, None).due is Due.NOTHING


def test_silence_makes_a_heartbeat_due() -> None:
    clock = deadlines(heartbeat=15.0)
    clock.begun()
    clock.writing(5, 1.0)
    clock.written(1.0)
    assert clock.check(15.9, None).due is Due.NOTHING
    assert clock.check(16.0, None).due is Due.HEARTBEAT


def test_a_write_puts_the_heartbeat_off() -> None:
    clock = deadlines(heartbeat=15.0)
    clock.begun()
    clock.writing(5, 14.0)
    clock.written(14.0)
    verdict = clock.check(15.0, None)
    assert verdict.due is Due.NOTHING
    assert verdict.again == 29.0


def test_a_format_without_a_heartbeat_never_has_one_due() -> None:
    clock = deadlines(send_timeout=None)
    clock.begun()
    clock.writing(5, 0.0)
    clock.written(0.0)
    verdict = clock.check(1000.0, None)
    assert verdict.due is Due.NOTHING
    assert verdict.again == inf


def test_a_write_without_progress_is_stalled_after_the_send_timeout() -> None:
    clock = deadlines(send_timeout=30.0)
    clock.begun()
    clock.writing(100, 10.0)
    verdict = clock.check(39.9, None)
    assert verdict.due is Due.NOTHING
    assert verdict.again == 40.0
    assert clock.check(40.0, None).due is Due.STALLED


def test_a_write_that_begins_after_a_look_is_looked_at_in_time() -> None:
    clock = deadlines(send_timeout=30.0)
    clock.begun()
    again = clock.check(5.0, None).again
    clock.writing(100, 5.0)
    assert again <= 35.0


def test_a_shrinking_write_buffer_is_progress() -> None:
    clock = deadlines(send_timeout=30.0)
    clock.begun()
    clock.writing(100, 0.0)
    clock.check(0.0, 1000)
    assert clock.check(29.0, 900).due is Due.NOTHING
    assert clock.check(58.0, 900).due is Due.NOTHING
    assert clock.check(59.0, 900).due is Due.STALLED


def test_a_write_buffer_that_stands_still_is_none() -> None:
    clock = deadlines(send_timeout=30.0)
    clock.begun()
    clock.writing(100, 0.0)
    clock.check(0.0, 1000)
    assert clock.check(30.0, 1000).due is Due.STALLED


def test_a_client_below_the_least_rate_is_too_slow() -> None:
    clock = deadlines(send_timeout=None, min_rate=1000.0)
    clock.begun()
    now = 0.0
    for _ in range(3):
        clock.writing(5000, now)
        now += limits.MIN_RATE_WINDOW / 3
        clock.written(now)
    clock.writing(5000, now)
    assert clock.check(now + 0.1, None).due is Due.TOO_SLOW


def test_a_client_above_the_least_rate_is_left_alone() -> None:
    clock = deadlines(send_timeout=None, min_rate=1000.0)
    clock.begun()
    now = 0.0
    for _ in range(30):
        clock.writing(20_000, now)
        assert clock.check(now, None).due is Due.NOTHING
        now += 10.0
        assert clock.check(now, None).due is Due.NOTHING
        clock.written(now)


def test_time_in_which_the_source_waits_does_not_count_against_the_client() -> None:
    clock = deadlines(send_timeout=None, min_rate=1000.0)
    clock.begun()
    for now in (0.0, 1000.0, 2000.0):
        clock.writing(10, now)
        clock.written(now)
        assert clock.check(now + 999.0, None).due is Due.NOTHING


@pytest.mark.parametrize("unsent", [None, 10])
def test_it_never_asks_to_be_asked_in_the_past(unsent: int | None) -> None:
    clock = deadlines(heartbeat=15.0, min_rate=1.0)
    now = 0.0
    for step in range(200):
        verdict = clock.check(now, unsent)
        if verdict.due in (Due.STALLED, Due.TOO_SLOW):
            return
        assert verdict.again > now
        if step == 3:
            clock.begun()
        if step == 5:
            clock.writing(10, now)
        now = verdict.again
    raise AssertionError("a write without an end was never cut off")


def test_a_response_that_begins_at_once_needs_neither_start_nor_push() -> None:
    clock = deadlines()
    clock.begins_at_once()
    assert clock.check(0.0, None) == Verdict(Due.NOTHING, 30.0)
    assert clock.check(30.0, None) == Verdict(Due.NOTHING, 60.0)


def test_what_waits_since_before_it_was_looked_at_is_stalled_by_that_time() -> None:
    clock = deadlines()
    clock.begins_at_once()
    clock.wait(10.0)
    assert clock.check(39.0, 0).due is Due.NOTHING
    assert clock.check(40.0, 0).due is Due.STALLED
    clock.wait(None)
    assert clock.check(40.0, 0).due is Due.NOTHING


def test_a_stall_clock_looks_four_times_in_the_time_that_it_gives() -> None:
    clock = StallClock(8.0)
    clock.wait(0.0)
    assert clock.look_again(0.0) == 8.0
    assert not clock.is_stalled(0.0, -5)
    assert clock.look_again(0.0) == 2.0
    assert not clock.is_stalled(7.0, -6)
    assert not clock.is_stalled(14.0, -6)
    assert clock.look_again(14.0) == 15.0
    assert clock.is_stalled(15.0, -6)
