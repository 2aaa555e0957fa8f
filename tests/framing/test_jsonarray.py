from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidChunk, Problem
from tailrace.framing import JSONArray
from tests.framing.strategies import json_values


@given(st.lists(json_values))
def test_the_array_gives_back_the_items(items: list[Any]) -> None:
    framing = JSONArray()
    wire = b"".join(framing.frame(item) for item in items) + framing.closing()
    assert json.loads(wire) == items


def test_an_empty_source_is_an_empty_array() -> None:
    assert JSONArray().closing() == b"[]"


def test_the_first_item_opens_the_array_and_the_others_follow_a_comma() -> None:
    framing = JSONArray()
    assert [framing.frame(1), framing.frame("a"), framing.closing()] == [b"[1", b',"a"', b"]"]


def test_a_failed_array_is_left_unclosed() -> None:
    framing = JSONArray()
    wire = framing.frame(1) + framing.failure(Problem("stream_failed", "it broke"))
    assert wire == b"[1"
    with pytest.raises(json.JSONDecodeError):
        json.loads(wire)


def test_an_item_that_was_refused_leaves_no_comma_behind() -> None:
    framing = JSONArray()
    with pytest.raises(InvalidChunk, match="jsonarray response gave object"):
        framing.frame(object())
    assert framing.frame(1) + framing.closing() == b"[1]"
