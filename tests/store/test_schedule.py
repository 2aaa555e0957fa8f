"""A schedule has one entry for each thing, and gives those whose time has come, in its order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace.store.schedule import Schedule
from tests.store.work import lines


def scheduled(count: int) -> Schedule[int]:
    made: Schedule[int] = Schedule()
    for number in range(count):
        made.set(number, 10 * number)
    return made


def test_what_is_due_comes_in_the_order_of_its_times_and_once() -> None:
    made: Schedule[str] = Schedule()
    for key, at in (("late", 9), ("first", 1), ("second", 2)):
        made.set(key, at)
    assert made.next == 1
    assert made.due(0, 10) == []
    assert made.due(2, 10) == ["first", "second"]
    assert (made.due(8, 10), made.next, len(made)) == ([], 9, 1)


def test_no_more_are_given_than_were_asked_for() -> None:
    made = scheduled(5)
    assert made.due(100, 2) == [0, 1]
    assert made.due(100, 9) == [2, 3, 4]


def test_a_look_can_be_moved_forward_and_not_back() -> None:
    made: Schedule[str] = Schedule()
    made.set("a", 5)
    made.set("a", 9)
    assert made.next == 5
    made.set("a", 3)
    assert made.due(5, 10) == ["a"]
    assert (made.next, len(made)) == (None, 0)  # type: ignore[comparison-overlap] # it has changed


def test_what_was_taken_back_does_not_stay() -> None:
    made = scheduled(0)
    for number in range(10_000):
        made.set(number, number)
        made.take_back(number)
    assert len(made) == 0
    assert len(made._order) < 100
    assert made.next is None


def test_the_next_of_a_thousand_costs_what_the_next_of_ten_does() -> None:
    few, many = scheduled(10), scheduled(1000)
    assert lines(lambda: few.due(0, 5)) == lines(lambda: many.due(0, 5))
    assert lines(lambda: few.set(-1, 5)) == lines(lambda: many.set(-1, 5))


KEYS = st.integers(0, 5)


@given(st.lists(st.tuples(st.sampled_from(["set", "take_back", "due"]), KEYS, st.integers(0, 20))))
def test_it_says_what_a_dictionary_of_all_would(history: list[tuple[str, int, int]]) -> None:
    made: Schedule[int] = Schedule()
    model: dict[int, int] = {}
    for verb, key, at in history:
        if verb == "set":
            made.set(key, at)
            model[key] = min(at, model.get(key, at))
        elif verb == "take_back":
            made.take_back(key)
            model.pop(key, None)
        else:
            expected = sorted((due, each) for each, due in model.items() if due <= at)[:2]
            assert made.due(at, 2) == [each for _, each in expected]
            for _, each in expected:
                del model[each]
        assert len(made) == len(model)
        assert made.next == min(model.values(), default=None)
