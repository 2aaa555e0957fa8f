from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given

from tailrace.errors import InvalidEvent
from tailrace.framing import Event
from tailrace.limits import MAX_RETRY_MS
from tests.framing.strategies import text


def fields_of(name: str, value: Any) -> dict[str, Any]:
    return {name: value}


def test_data_is_the_only_positional_field() -> None:
    assert Event("hello").data == "hello"
    with pytest.raises(TypeError):
        Event("hello", "tick")  # type: ignore[call-arg]  # what is tested


def test_an_event_cannot_be_changed_after_its_check() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Event("x").id = "1\n2"  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nb", "\n"])
def test_a_line_break_in_a_one_line_field_is_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidEvent, match=rf"{field}=.*one line") as caught:
        Event("x", **fields_of(field, value))
    assert caught.value.field == field


@pytest.mark.parametrize("value", ["a\u2028b", "a\x85b", "a\x0bb", "", " x"])
def test_what_no_parser_takes_for_a_line_break_is_allowed(value: str) -> None:
    assert Event("x", event=value, id=value).id == value


def test_nul_is_refused_in_an_id_only() -> None:
    assert Event("x", event="a\0b").event == "a\0b"
    with pytest.raises(InvalidEvent, match="NUL"):
        Event("x", id="a\0b")


@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_a_lone_surrogate_is_refused_by_field_and_place(field: str) -> None:
    with pytest.raises(InvalidEvent, match=rf"{field}=.*surrogate at character 2"):
        Event("x", **fields_of(field, "ab\udc80"))


@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_a_field_that_is_no_text_is_refused(field: str) -> None:
    with pytest.raises(InvalidEvent, match=f"{field}=7 cannot be sent: it must be a str"):
        Event("x", **fields_of(field, 7))


@pytest.mark.parametrize("value", [-1, MAX_RETRY_MS + 1, True, 1.5, "1000"])
def test_a_retry_out_of_its_range_is_refused(value: Any) -> None:
    with pytest.raises(InvalidEvent, match="retry="):
        Event("x", retry=value)


@pytest.mark.parametrize("value", [0, 1, MAX_RETRY_MS])
def test_a_retry_in_its_range_is_kept(value: int) -> None:
    assert Event(retry=value).retry == value


def test_an_event_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="needs data or one of the other fields"):
        Event()


@pytest.mark.parametrize("fields", [{"data": ""}, {"data": 0}, {"id": ""}, {"comment": ""}])
def test_one_field_is_enough_even_when_empty(fields: dict[str, Any]) -> None:
    Event(**fields)


@given(text, text)
def test_an_event_is_made_or_refused_by_the_line_breaks_and_nul_alone(name: str, id_: str) -> None:
    bad = any(char in name + id_ for char in "\r\n") or "\0" in id_
    try:
        Event("x", event=name, id=id_)
    except InvalidEvent:
        assert bad
    else:
        assert not bad
