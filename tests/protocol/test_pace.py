"""When a body's client is given up, and who makes room: decided without waiting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.protocol.pace import Pace, who_makes_room


@dataclass(slots=True)
class Held:
    held: int


def test_waiting_uses_the_patience_up_and_bytes_give_it_back() -> None:
    pace = Pace(30.0)
    pace.wait(10.0)
    assert pace.left == 20.0
    pace.add(4 * limits.BODY_MIN_RATE)
    assert pace.left == 24.0
    pace.wait(25.0)
    assert pace.left == 0.0


@given(st.integers(0, 10**9))
def test_what_came_before_buys_no_more_than_the_patience(count: int) -> None:
    pace = Pace(30.0)
    pace.add(count)
    assert pace.left == 30.0


@given(st.lists(st.floats(0.01, 29.0), max_size=50))
def test_who_keeps_the_rate_is_never_given_up(waits: list[float]) -> None:
    pace = Pace(30.0)
    for seconds in waits:
        pace.wait(seconds)
        assert pace.left > 0
        pace.add(math.ceil(seconds * limits.BODY_MIN_RATE))
    assert pace.left == pytest.approx(30.0)


def test_no_rate_is_told_of_a_body_that_came_almost_at_once() -> None:
    pace = Pace(30.0)
    pace.add(1000)
    assert pace.rate(limits.BODY_SURE) == math.inf
    assert pace.rate(10.0) == 100.0


@pytest.mark.parametrize(
    ("need", "rate", "chosen"),
    [
        (10, math.inf, [10]),
        (11, math.inf, [10, 20]),
        (30, 5.0, [10, 20]),
        (31, 5.0, []),
        (1, 1.0, []),
        (60, math.inf, []),
    ],
)
def test_the_slowest_make_room_and_no_more_than_are_needed(
    need: int, rate: float, chosen: list[int]
) -> None:
    holders = [(2.0, Held(20)), (math.inf, Held(40)), (1.0, Held(10))]
    assert [each.held for each in who_makes_room(need, rate, holders)] == chosen
