"""When a client that is told to come back is answered again."""

from __future__ import annotations

from math import inf

import pytest

from tailrace import limits
from tailrace.connection.open_responses import Farewell, held_for, retry_range


@pytest.mark.parametrize(
    ("left", "lingering", "others", "held"),
    [
        pytest.param(10, [], 0, 0, id="nothing is open"),
        pytest.param(10, [0, 0], 0, 0, id="all end at once"),
        pytest.param(10, [0, inf], 0, 10, id="one has no farewell"),
        pytest.param(10, [0, 0], 1, 10, id="a response that is no stream"),
        pytest.param(10, [0, 2], 0, 2, id="a source has last words"),
        pytest.param(1, [0, 2], 0, 1, id="the server has less time than they have"),
        pytest.param(inf, [0, 2], 0, 2, id="a server without a limit and last words"),
        pytest.param(inf, [inf], 0, limits.LONGEST_STOP, id="a server without a limit"),
        pytest.param(inf, [0], 3, limits.LONGEST_STOP, id="no limit, and no streams"),
        pytest.param(10, [0, 0], -1, 0, id="fewer responses than streams were counted"),
    ],
)
def test_what_may_hold_a_server(
    left: float, lingering: list[float], others: int, held: float
) -> None:
    assert held_for(left, lingering, others) == held


def test_a_client_comes_back_after_the_old_server_and_the_start_of_the_new_one() -> None:
    least, most = limits.FAREWELL_RETRY
    assert retry_range(0, waits_in_line=False) == (least, most)
    assert retry_range(10, waits_in_line=False) == (10 + least, 10 + most)


def test_who_waits_in_line_may_come_back_at_once() -> None:
    assert retry_range(10, waits_in_line=True) == limits.FAREWELL_RETRY_IN_LINE


def test_each_client_draws_its_own() -> None:
    farewell = Farewell(left=10, retry=(12, 15))
    drawn = {farewell.draw_retry() for _ in range(50)}
    assert len(drawn) > 40
    assert all(12 <= each <= 15 for each in drawn)
