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

from tailrace.framing import CSV, JSONArray, JSONLines, ServerSentEvents, json_text
from tailrace.streams.item import message_of
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
