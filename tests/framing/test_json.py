"""JSON as FastAPI and pydantic write it, in each format that carries it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tailrace.errors import InvalidChunk, InvalidOption, Problem
from tailrace.framing import CSV, JSONArray, JSONLines, ServerSentEvents, json_text
from tailrace.streams.item import message_of
from tests.framing.strategies import json_values
from tests.responses.fetched import fetch


class Colour(Enum):
    RED = "red"


class Kind(StrEnum):
    TICK = "tick"


INFINITY, NAN = float("inf"), float("nan")
KEYS: list[Any] = [
    "a",
    "None",
    'None":',
    INFINITY,
    -INFINITY,
    NAN,
    1.5,
    1,
    True,
    None,
    Decimal("1.50"),
    b"octets",
    Colour.RED,
    Kind.TICK,
    UUID(int=1),
    datetime(2026, 1, 31, 8, tzinfo=UTC),
    date(2026, 1, 31),
    timedelta(seconds=5),
    (1, "b"),
    (),
]
VALUES: list[Any] = [INFINITY, NAN, 1, "None,", None, [INFINITY, None], {"b": NAN}]


@pytest.mark.anyio
@pytest.mark.parametrize("key", KEYS, ids=repr)
async def test_keys_and_values_are_written_as_fastapi_writes_them(key: Any) -> None:
    app = FastAPI()

    async def rows() -> Any:
        for value in VALUES:
            yield {key: value}

    rows.__annotations__["return"] = AsyncIterator[dict[type(key), Any]]  # type: ignore[misc] # known when it runs
    app.get("/rows")(rows)
    lines = (await fetch(app, "/rows")).body.splitlines()
    for value, line in zip(VALUES, lines, strict=True):
        item = {key: value}
        assert JSONLines().frame(item) == line + b"\n"
        assert ServerSentEvents().frame(item) == b"data: " + line + b"\n\n"
        assert JSONArray().frame(item) == b"[" + line


def test_a_cell_of_csv_and_a_message_of_a_stream_are_written_alike() -> None:
    cell = {INFINITY: NAN}
    assert CSV(columns=["a"], header=False).frame({"a": cell}) == b'"{""inf"":null}"\r\n'
    assert message_of(cell) == b'{"inf":null},'


def test_keys_that_differ_stay_different() -> None:
    item = {INFINITY: INFINITY, -INFINITY: 1, NAN: NAN, None: 2, ("a", INFINITY): 3}
    assert json.loads(json_text([item])) == [
        {"inf": None, "-inf": 1, "nan": None, "None": 2, "a,inf": 3}
    ]


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
