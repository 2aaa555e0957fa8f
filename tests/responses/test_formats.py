from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from tailrace import (
    CSVResponse,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    StreamOptions,
)
from tailrace.errors import InvalidChunk, InvalidOption
from tailrace.testing import Client, Clock, Truncated
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio


class Price(BaseModel):
    name: str
    price: float


@dataclass
class Point:
    x: int
    y: int


def rows() -> Iterator[Any]:
    yield {"name": "oil", "price": 1.5}
    yield Price(name="gas", price=0.5)


async def arows() -> AsyncIterator[Any]:
    for row in rows():
        yield row


SOURCES = [rows, arows, lambda: list(rows())]


@pytest.mark.parametrize("make", SOURCES)
async def test_json_lines_are_one_value_to_a_line(make: Callable[[], Any]) -> None:
    got = await fetch(JSONLinesResponse(make()))
    assert got.headers["content-type"] == "application/jsonl"
    assert got.body == b'{"name":"oil","price":1.5}\n{"name":"gas","price":0.5}\n'


@pytest.mark.parametrize("make", SOURCES)
async def test_a_json_array_holds_all_items(make: Callable[[], Any]) -> None:
    got = await fetch(JSONArrayResponse(make()))
    assert got.headers["content-type"] == "application/json"
    assert got.body == b'[{"name":"oil","price":1.5},{"name":"gas","price":0.5}]'


@pytest.mark.parametrize("make", SOURCES)
async def test_csv_has_a_header_and_a_row_for_each_item(make: Callable[[], Any]) -> None:
    got = await fetch(CSVResponse(make()))
    assert got.headers["content-type"] == "text/csv; charset=utf-8"
    assert got.body == b"name,price\r\noil,1.5\r\ngas,0.5\r\n"


@pytest.mark.parametrize(
    ("response", "body"),
    [(JSONLinesResponse([]), b""), (JSONArrayResponse([]), b"[]"), (CSVResponse([]), b"")],
)
async def test_no_items_are_a_whole_response(response: Any, body: bytes) -> None:
    got = await fetch(response)
    assert (got.status, got.body) == (200, body)


async def test_a_json_array_is_parsed_however_large_it_is() -> None:
    got = await fetch(JSONArrayResponse({"number": number} for number in range(20_000)))
    assert json.loads(got.body) == [{"number": number} for number in range(20_000)]


async def test_a_media_type_of_ones_own_is_kept() -> None:
    got = await fetch(JSONLinesResponse([1], media_type="application/x-ndjson"))
    assert got.headers["content-type"] == "application/x-ndjson"


async def test_a_response_that_is_sent_twice_begins_its_format_anew() -> None:
    response = CSVResponse([{"a": 1}])
    assert (await fetch(response)).body == (await fetch(response)).body == b"a\r\n1\r\n"
    array = JSONArrayResponse([1])
    assert (await fetch(array)).body == (await fetch(array)).body == b"[1]"


async def test_csv_takes_mappings_models_dataclasses_and_sequences() -> None:
    items: list[Any] = [{"x": 1, "y": 2}, Point(3, 4), (5, 6), [7, 8]]
    got = await fetch(CSVResponse(items))
    assert list(csv.reader(io.StringIO(got.body.decode(), newline=""))) == [
        ["x", "y"],
        ["1", "2"],
        ["3", "4"],
        ["5", "6"],
        ["7", "8"],
    ]


async def test_csv_columns_are_picked_and_ordered() -> None:
    got = await fetch(CSVResponse([{"a": 1, "b": 2}], columns=["b", "a"]))
    assert got.body == b"b,a\r\n2,1\r\n"


async def test_csv_can_go_without_a_header() -> None:
    assert (await fetch(CSVResponse([{"a": 1}], header=False))).body == b"1\r\n"


async def test_csv_can_keep_spreadsheets_from_computing() -> None:
    assert (await fetch(CSVResponse([["=1+1"]], neutralise=True))).body == b"'=1+1\r\n"
    assert (await fetch(CSVResponse([["=1+1"]]))).body == b"=1+1\r\n"


@pytest.mark.parametrize("columns", [["a", "a"], [], "a", [1]])
async def test_csv_columns_that_are_no_names_are_refused_where_it_is_made(columns: Any) -> None:
    with pytest.raises(InvalidOption, match="columns="):
        CSVResponse([{"a": 1}], columns=columns)


async def test_csv_is_written_in_the_charset_that_it_declares() -> None:
    rows = [{"name": "Zoë", "city": "Köln"}]
    got = await fetch(CSVResponse(rows, media_type="text/csv; charset=iso-8859-1"))
    assert got.headers["content-type"] == "text/csv; charset=iso-8859-1"
    assert got.body.decode("iso-8859-1").split() == ["name,city", "Zoë,Köln"]


async def test_csv_of_a_charset_that_nobody_knows_is_refused_where_it_is_made() -> None:
    with pytest.raises(InvalidOption, match="charset='klingon'"):
        CSVResponse([], media_type="text/csv; charset=klingon")


async def test_csv_can_begin_with_a_byte_order_mark() -> None:
    got = await fetch(CSVResponse([{"ü": 1}], bom=True))
    assert got.body.decode("utf-8") == "\ufeffü\r\n1\r\n"


@pytest.mark.parametrize("make", [JSONLinesResponse, JSONArrayResponse, EventSourceResponse])
async def test_what_is_always_utf_8_can_be_called_nothing_else(make: Any) -> None:
    for charset in ("UTF-8", "utf8"):
        got = await fetch(make([{"a": "é"}], media_type=f"{make.media_type}; charset={charset}"))
        assert "é".encode() in got.body
    for charset in ("latin-1", "klingon"):
        with pytest.raises(InvalidOption, match=f"charset='{charset}'.*utf-8"):
            make([], headers={"content-type": f"{make.media_type}; charset={charset}"})


# Ends and silence ---------------------------------------------------------------------------------

MARKED = [
    (JSONLinesResponse, b'{"a":1}\n{"end":{}}\n'),
    (JSONArrayResponse, b'[{"a":1}]'),
    (CSVResponse, b"a\r\n1\r\n#end\r\n"),
    (EventSourceResponse, b'data: {"a":1}\n\nevent: end\ndata: {}\n\n'),
]


@pytest.mark.parametrize(("make", "body"), MARKED)
async def test_the_end_can_be_told_in_the_body(make: Any, body: bytes) -> None:
    assert (await fetch(make([{"a": 1}], end_mark=True))).body == body


@pytest.mark.parametrize("make", [JSONLinesResponse, CSVResponse, EventSourceResponse])
async def test_a_stream_that_fails_has_no_end_mark(make: Any) -> None:
    body = await cut(make(ten_then_fail(), end_mark=True))
    assert not any(mark in body for mark in (b'{"end"', b"#end", b"event: end"))


@pytest.mark.parametrize("make", [JSONLinesResponse, CSVResponse, EventSourceResponse])
async def test_an_end_mark_of_a_format_is_a_switch(make: Any) -> None:
    with pytest.raises(InvalidOption, match="end_mark="):
        make([], end_mark="the end")


async def test_what_is_declared_of_the_items_is_not_asked_of_the_end_mark() -> None:
    class Marked(JSONLinesResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, end_mark=True)

    app = FastAPI()

    @app.get("/prices", response_class=Marked)
    def prices() -> Iterator[Price]:
        yield Price(name="oil", price=1)

    assert (await fetch(app, "/prices")).body == b'{"name":"oil","price":1.0}\n{"end":{}}\n'


async def first_then_silence() -> AsyncIterator[Any]:
    yield {"a": 1}
    await anyio.sleep_forever()


@pytest.mark.parametrize(("blank_lines", "beats"), [(False, b""), (True, b"\n\n")])
@pytest.mark.parametrize("make", [JSONLinesResponse, JSONArrayResponse, CSVResponse])
async def test_json_lines_have_a_heartbeat_where_it_is_asked_for(
    clock: Clock, make: Any, blank_lines: bool, beats: bytes
) -> None:
    options = StreamOptions(heartbeat=5, blank_lines=blank_lines)
    response = make(first_then_silence(), options=options)
    async with Client(response) as client, client.open("GET", "/") as exchange:
        await exchange.response()
        await clock.advance(11)
        await exchange.leave()
        await exchange.finished()
        body = b"".join(sent.message.get("body", b"") for sent in exchange.sends)
    silent = {JSONLinesResponse: b'{"a":1}\n' + beats, JSONArrayResponse: b'[{"a":1}'}
    assert body == silent.get(make, b"a\r\n1\r\n")


# Errors ------------------------------------------------------------------------------------------


async def ten_then_fail() -> AsyncIterator[Any]:
    for number in range(10):
        yield {"number": number}
    raise RuntimeError("password=secret")


async def cut(response: Any) -> bytes:
    """What a client has of a response that was cut."""
    async with Client(response) as client, client.open("GET", "/") as exchange:
        assert (await exchange.response()).status == 200
        with pytest.raises(Truncated) as caught:
            await exchange.read_all()
        assert isinstance(caught.value.__cause__, RuntimeError)
        return caught.value.partial


async def test_json_lines_that_fail_end_with_an_error_and_are_cut() -> None:
    lines = (await cut(JSONLinesResponse(ten_then_fail()))).splitlines()
    assert [json.loads(line) for line in lines[:10]] == [{"number": n} for n in range(10)]
    assert [json.loads(line) for line in lines[10:]] == [
        {"error": {"code": "stream_failed", "message": "the stream failed before its end"}}
    ]


async def test_an_error_is_told_to_the_client_only_where_that_is_asked_for() -> None:
    assert b"secret" not in await cut(JSONLinesResponse(ten_then_fail()))
    told = await cut(JSONLinesResponse(ten_then_fail(), options=StreamOptions(expose_errors=True)))
    assert b"RuntimeError: password=secret" in told


async def test_a_json_array_that_fails_is_left_unclosed() -> None:
    body = await cut(JSONArrayResponse(ten_then_fail()))
    assert json.loads(body + b"]") == [{"number": n} for n in range(10)]
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_csv_that_fails_ends_with_an_error_row_and_is_cut() -> None:
    body = await cut(CSVResponse(ten_then_fail()))
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
    assert rows[-2:] == [
        ["9"],
        ["#error", "stream_failed", "the stream failed before its end"],
    ]


@pytest.mark.parametrize("make", [JSONLinesResponse, JSONArrayResponse, CSVResponse])
async def test_the_cell_of_a_row_that_does_not_fit_is_named(make: Any) -> None:
    for rows in ([{"a": 1}, {"a": object()}], iter([{"a": 1}, {"a": object()}])):
        async with Client(make(rows)) as client, client.open("GET", "/") as exchange:
            with pytest.raises(Truncated) as caught:
                await exchange.read_all()
        error = caught.value.__cause__
        assert isinstance(error, InvalidChunk)
        assert (error.number, error.column) == (2, "a")
        assert "gave object in row 2, column 'a'" in str(error)


@pytest.mark.parametrize(
    ("make", "name"),
    [(JSONLinesResponse, "jsonlines"), (JSONArrayResponse, "jsonarray"), (CSVResponse, "csv")],
)
async def test_a_first_item_that_does_not_fit_is_raised_with_nothing_sent(
    clock: Clock, make: Any, name: str
) -> None:
    async with Client(make([object()])) as client, client.open("GET", "/") as exchange:
        with pytest.raises(InvalidChunk, match=f"source of a {name} response gave object"):
            await exchange.response()
        assert exchange.sends == []
