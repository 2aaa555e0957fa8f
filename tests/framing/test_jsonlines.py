from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tailrace.errors import InvalidChunk, InvalidOption, Problem
from tailrace.framing import JSONLines
from tests.framing.strategies import json_values


class Row(BaseModel):
    n: int


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({"a": 1}, b'{"a":1}\n'),
        ("text\n", b'"text\\n"\n'),
        (b"bytes", b'"bytes"\n'),
        (None, b"null\n"),
        ([float("nan"), float("inf")], b"[null,null]\n"),
        (Row(n=1), b'{"n":1}\n'),
    ],
)
def test_each_item_is_one_line_of_json(item: object, line: bytes) -> None:
    assert JSONLines().frame(item) == line


@pytest.mark.parametrize("item", [object(), b"\xff", "\ud800", memoryview(b"x")])
def test_what_is_no_json_is_refused_by_its_type(item: object) -> None:
    with pytest.raises(InvalidChunk, match=f"jsonlines response gave {type(item).__name__}"):
        JSONLines().frame(item)


def test_the_reason_names_what_is_inside_an_item() -> None:
    with pytest.raises(InvalidChunk, match=r"unknown type: <class 'object'>"):
        JSONLines().frame({"a": [object()]})


def test_a_failure_is_a_line_that_no_item_can_be_taken_for() -> None:
    line = JSONLines().failure(Problem("stream_failed", "it broke"))
    assert line.endswith(b"\n")
    assert json.loads(line) == {"error": {"code": "stream_failed", "message": "it broke"}}


def test_an_end_mark_is_a_line_of_its_own() -> None:
    assert JSONLines(end_mark=True).closing() == b'{"end":{}}\n'
    assert JSONLines().closing() == b""


@pytest.mark.parametrize("mark", ["end", None, 1])
def test_an_end_mark_is_true_or_false(mark: Any) -> None:
    with pytest.raises(InvalidOption, match=r"end_mark=.*True or False"):
        JSONLines(end_mark=mark)


@given(st.lists(json_values))
def test_the_lines_give_back_the_items(items: list[Any]) -> None:
    framing = JSONLines()
    wire = b"".join(framing.frame(item) for item in items) + framing.closing()
    lines = wire.split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == items
