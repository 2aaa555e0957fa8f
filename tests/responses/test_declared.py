from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial, wraps
from typing import Annotated, Any, NamedTuple, Optional, Union

import fastapi.sse
import numpy as np
import pandas as pd
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel, Field, PlainSerializer, field_serializer
from starlette.responses import Response
from typing_extensions import TypedDict

from tailrace import (
    CSVResponse,
    Event,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    StreamingResponse,
    StreamRoute,
)
from tailrace.errors import InvalidItem
from tailrace.framing import Framing
from tailrace.testing import Client, Truncated
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio


class Public(BaseModel):
    name: str


class User(Public):
    password: str = "hash"


class Group(BaseModel):
    members: list[Public]


class Item(BaseModel):
    unit_price: float = Field(default=1.5, serialization_alias="unitPrice")
    note: str | None = None
    cost: float = 0.7


@dataclasses.dataclass
class Point:
    x: int


@dataclasses.dataclass
class SecretPoint(Point):
    key: str = "hash"


class Named(TypedDict):
    name: str


class Pair(NamedTuple):
    name: str
    price: Decimal


class Other(BaseModel):
    kind: int


Masked = Annotated[str, PlainSerializer(lambda text: "*" * len(text))]

TYPES: list[tuple[Any, list[Any]]] = [
    (Public, [User(name="ann"), {"name": "bob", "password": "hash"}, Public(name="eve")]),
    (Optional[Public], [User(name="ann"), None]),  # noqa: UP045 - both spellings are in use
    (Public | None, [User(name="ann"), None]),
    (Union[Public, Other], [User(name="ann"), Other(kind=1)]),  # noqa: UP007 - as above
    (list[Public], [[User(name="ann"), User(name="bob")], []]),
    (dict[str, Public], [{"a": User(name="ann")}]),
    (tuple[int, Public], [(1, User(name="ann"))]),
    (Group, [Group(members=[User(name="ann")]), {"members": [{"name": "bob", "password": "x"}]}]),
    (Named, [{"name": "ann", "password": "hash"}]),
    (Point, [SecretPoint(1), {"x": 2, "key": "hash"}]),
    (dict[str, float], [{"a": float("inf"), "b": 1}]),
    (dict[float, int], [{float("inf"): 1, float("nan"): 2}]),
    (datetime, [datetime(2026, 1, 31, 8, tzinfo=UTC)]),
    (int, [1, True, "3"]),
    (Any, [{"name": "ann"}, User(name="ann")]),
]


def endpoint_of(item_type: Any, items: list[Any], *, sync: bool) -> Callable[..., Any]:
    async def rows() -> Any:
        for item in items:
            yield item

    def sync_rows() -> Any:
        yield from items

    endpoint = sync_rows if sync else rows
    endpoint.__annotations__["return"] = (Iterator if sync else AsyncIterator)[item_type]
    return endpoint


def plain(app: FastAPI, endpoint: Any, **options: Any) -> str:
    """Below a route of FastAPI's own."""
    app.get("/rows", **options)(endpoint)
    return "/rows"


def described(app: FastAPI, endpoint: Any, **options: Any) -> str:
    router = APIRouter(route_class=StreamRoute)
    router.get("/rows", **options)(endpoint)
    app.include_router(router, prefix="/v1")
    return "/v1/rows"


def twice_included(app: FastAPI, endpoint: Any, **options: Any) -> str:
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer")
    inner.get("/rows", **options)(endpoint)
    outer.include_router(inner)
    app.include_router(outer)
    return "/outer/inner/rows"


def mounted(app: FastAPI, endpoint: Any, **options: Any) -> str:
    inside = FastAPI()
    inside.get("/rows", **options)(endpoint)
    app.mount("/inside", inside)
    return "/inside/rows"


ROUTES = [plain, described, twice_included, mounted]
Route = Callable[..., str]


async def body_of(route: Route, endpoint: Any, **options: Any) -> str:
    app = FastAPI()
    path = route(app, endpoint, **options)
    return (await fetch(app, path)).body.decode()


def data_of(text: str) -> list[Any]:
    """What the events of a stream carry."""
    lines = [line for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def items_of(response_class: Any, text: str) -> list[Any]:
    if response_class is JSONArrayResponse:
        return json.loads(text)  # type: ignore[no-any-return]
    if response_class is EventSourceResponse:
        return data_of(text)
    return [json.loads(line) for line in text.splitlines()]


FORMATS = [EventSourceResponse, JSONLinesResponse, JSONArrayResponse]


# Compared with FastAPI's own ------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("item_type", "items"), TYPES)
async def test_what_is_sent_is_what_fastapi_sends(
    route: Route, item_type: Any, items: list[Any], sync: bool
) -> None:
    endpoint = endpoint_of(item_type, items, sync=sync)
    lines = items_of(JSONLinesResponse, await body_of(plain, endpoint))
    assert "hash" not in str(lines) or item_type is Any
    events = await body_of(plain, endpoint, response_class=fastapi.sse.EventSourceResponse)
    assert data_of(events) == lines
    for ours in FORMATS:
        text = await body_of(route, endpoint, response_class=ours)
        assert items_of(ours, text) == lines, ours


OPTIONS: list[dict[str, Any]] = [
    {"response_model_exclude": {"cost"}},
    {"response_model_include": {"unit_price"}},
    {"response_model_exclude_none": True},
    {"response_model_exclude_unset": True},
    {"response_model_exclude_defaults": True},
    {"response_model_by_alias": False},
    {"response_model_by_alias": False, "response_model_exclude": {"note"}},
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("item_type", [Item, Any])
async def test_what_a_route_says_of_its_model_holds_for_each_item(
    route: Route, options: dict[str, Any], item_type: Any
) -> None:
    endpoint = endpoint_of(item_type, [Item(), Item(cost=2)], sync=False)
    lines = items_of(JSONLinesResponse, await body_of(plain, endpoint, **options))
    for ours in FORMATS:
        text = await body_of(route, endpoint, response_class=ours, **options)
        assert items_of(ours, text) == lines, ours


# What FastAPI's own leaves open ---------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("response_class", FORMATS)
@pytest.mark.parametrize("model", [Public, list[Public], Iterable[Public]])
async def test_a_response_model_names_the_item_or_the_stream(
    route: Route, response_class: Any, model: Any
) -> None:
    async def rows():  # type: ignore[no-untyped-def] # there is no annotation beside it
        yield User(name="ann")

    text = await body_of(route, rows, response_class=response_class, response_model=model)
    assert items_of(response_class, text) == [{"name": "ann"}]


async def test_fields_are_excluded_without_an_item_type_too() -> None:
    async def rows():  # type: ignore[no-untyped-def] # that is what is tested
        yield User(name="ann")

    options: dict[str, Any] = {"response_model_exclude": {"password"}}
    text = await body_of(plain, rows, response_class=JSONLinesResponse, **options)
    assert json.loads(text) == {"name": "ann"}


@pytest.mark.parametrize("route", ROUTES)
async def test_the_data_of_an_event_is_filtered(route: Route) -> None:
    async def rows() -> AsyncIterator[Public]:
        yield Event(User(name="ann"), id="1", event="user", retry=5, comment="c")  # type: ignore[misc] # what the type checker cannot stop

    text = await body_of(route, rows, response_class=EventSourceResponse)
    assert text == ': c\nevent: user\nretry: 5\ndata: {"name":"ann"}\nid: 1\n\n'


async def test_an_event_of_text_is_sent_as_it_is() -> None:
    async def rows() -> AsyncIterator[Public | Event]:
        yield Event("free text")
        yield Event(b"octets")
        yield Event(comment="only")

    text = await body_of(plain, rows, response_class=EventSourceResponse)
    assert text == "data: free text\n\ndata: octets\n\n: only\n\n"


async def test_data_of_an_event_that_does_not_fit_is_never_sent() -> None:
    async def rows() -> AsyncIterator[Public]:
        yield Public(name="ann")
        yield Event({"password": "hash"})  # type: ignore[misc] # what the type checker cannot stop

    app = FastAPI()
    path = plain(app, rows, response_class=EventSourceResponse)
    async with Client(app) as client, client.open("GET", path) as exchange:
        with pytest.raises(Truncated) as cut:
            await exchange.read_all()
    assert isinstance(cut.value.__cause__, InvalidItem)
    assert b"hash" not in cut.value.partial


async def test_an_annotation_that_names_events_lets_them_carry_other_data() -> None:
    async def rows() -> AsyncIterator[Public | Event]:
        yield Event(User(name="ann"))
        yield Event({"done": True}, event="end")

    text = await body_of(plain, rows, response_class=EventSourceResponse)
    assert data_of(text) == [{"name": "ann"}, {"done": True}]


async def test_fastapis_own_event_is_sent_as_fastapi_sends_it() -> None:
    async def rows() -> AsyncIterator[Any]:
        yield ServerSentEvent(data=User(name="ann"))

    rows.__annotations__["return"] = AsyncIterator[Public]
    own = await body_of(plain, rows, response_class=fastapi.sse.EventSourceResponse)
    ours = await body_of(plain, rows, response_class=EventSourceResponse)
    assert data_of(ours) == data_of(own)


async def test_an_event_in_another_format_is_an_item_that_does_not_fit() -> None:
    async def rows() -> AsyncIterator[Public]:
        yield Event(User(name="ann"))  # type: ignore[misc] # what the type checker cannot stop

    app = FastAPI()
    path = plain(app, rows, response_class=JSONLinesResponse)
    assert (await fetch(app, path)).status == 500


@pytest.mark.parametrize("response_class", [EventSourceResponse, JSONLinesResponse])
async def test_a_serializer_of_text_is_obeyed(response_class: Any) -> None:
    endpoint = endpoint_of(Masked, ["abc"], sync=False)
    text = await body_of(plain, endpoint, response_class=response_class)
    assert "***" in text
    assert "abc" not in text


async def test_text_stays_text_in_an_event() -> None:
    endpoint = endpoint_of(str, ["two\nlines"], sync=False)
    text = await body_of(plain, endpoint, response_class=EventSourceResponse)
    assert text == "data: two\ndata: lines\n\n"


CSV_ROWS: list[tuple[Any, list[Any], str]] = [
    (Public, [User(name="ann"), {"name": "bob", "password": "hash"}], "name\r\nann\r\nbob\r\n"),
    (Point, [SecretPoint(1)], "x\r\n1\r\n"),
    (Pair, [Pair("oil", Decimal("-1.50"))], "name,price\r\noil,-1.50\r\n"),
    (list[int], [[1, 2]], "1,2\r\n"),
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("item_type", "items", "body"), CSV_ROWS)
async def test_rows_of_csv_are_filtered(
    route: Route, item_type: Any, items: list[Any], body: str
) -> None:
    endpoint = endpoint_of(item_type, items, sync=True)
    assert await body_of(route, endpoint, response_class=CSVResponse) == body


def sqlite_rows(query: str) -> list[sqlite3.Row]:
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    found = database.execute(query).fetchall()
    database.close()
    return found


class Card(BaseModel):
    holder: str
    number: str

    @field_serializer("number", when_used="json")
    def mask(self, number: str) -> str:
        return "..." + number[-4:]


DECLARED_ROWS: list[tuple[Any, Callable[[], Any], dict[str, Any]]] = [
    (sqlite3.Row, lambda: sqlite_rows("select 1 as a, 'x' as b"), {"a": 1, "b": "x"}),
    (dict[str, Any], lambda: sqlite_rows("select 1 as a, 'x' as b"), {"a": 1, "b": "x"}),
    (Public, lambda: sqlite_rows("select 'ann' as name, 'hash' as password"), {"name": "ann"}),
    (dict[str, Any], lambda: [{"a": np.int64(1), "b": pd.NaT}], {"a": 1, "b": None}),
    (dict[str, datetime | None], lambda: [{"a": pd.NaT, "b": None}], {"a": None, "b": None}),
    (
        Card,
        lambda: [{"holder": "ann", "number": "4000123412341234"}],
        {"holder": "ann", "number": "...1234"},
    ),
]


@pytest.mark.parametrize(
    "response_class", [CSVResponse, EventSourceResponse, JSONArrayResponse, JSONLinesResponse]
)
@pytest.mark.parametrize(("item_type", "items", "read"), DECLARED_ROWS)
async def test_a_declared_row_is_the_same_in_each_format(
    item_type: Any, items: Callable[[], Any], read: dict[str, Any], response_class: Any
) -> None:
    endpoint = endpoint_of(item_type, items(), sync=True)
    text = await body_of(plain, endpoint, response_class=response_class)
    if response_class is CSVResponse:
        cells = ["" if value is None else str(value) for value in read.values()]
        assert text == ",".join(read) + "\r\n" + ",".join(cells) + "\r\n"
    else:
        assert items_of(response_class, text) == [read]


async def test_a_format_of_the_users_own_gets_filtered_values() -> None:
    class Reprs(Framing):
        def frame(self, item: Any) -> bytes:
            return repr(item).encode()

    class ReprResponse(StreamingResponse):
        def make_framing(self) -> Framing:
            return Reprs()

    endpoint = endpoint_of(Public, [User(name="ann")], sync=False)
    assert await body_of(plain, endpoint, response_class=ReprResponse) == "{'name': 'ann'}"


async def test_chunks_of_a_plain_stream_are_what_they_are() -> None:
    endpoint = endpoint_of(str, ["a", b"\xff"], sync=True)
    app = FastAPI()
    path = plain(app, endpoint, response_class=StreamingResponse)
    assert (await fetch(app, path)).body == b"a\xff"


async def test_an_endpoint_behind_a_decorator_is_filtered() -> None:
    endpoint = endpoint_of(Public, [User(name="ann")], sync=False)

    @wraps(endpoint)
    def decorated() -> Any:
        return endpoint()

    for each in (decorated, partial(endpoint)):
        text = await body_of(plain, each, response_class=JSONLinesResponse)
        assert json.loads(text) == {"name": "ann"}


async def test_an_endpoint_that_is_an_object_is_filtered() -> None:
    class Rows:
        async def __call__(self) -> AsyncIterator[Public]:
            yield User(name="ann")

    text = await body_of(plain, Rows(), response_class=JSONLinesResponse)
    assert json.loads(text) == {"name": "ann"}


# What is not an endpoint's own stream ---------------------------------------------------------


async def test_a_returned_response_stays_as_it_is() -> None:
    def rows() -> Iterator[Public]:
        yield User(name="ann")

    async def endpoint() -> AsyncIterator[Public]:
        return JSONLinesResponse(rows())  # type: ignore[return-value] # that is what is tested

    options: dict[str, Any] = {"response_model": None}  # FastAPI refuses the annotation otherwise
    text = await body_of(plain, endpoint, response_class=JSONLinesResponse, **options)
    assert json.loads(text) == {"name": "ann", "password": "hash"}


async def test_what_an_exception_handler_sends_is_not_the_endpoints_stream() -> None:
    app = FastAPI()

    @app.exception_handler(LookupError)
    async def handle(request: Request, error: Exception) -> Response:
        return EventSourceResponse([{"gone": True}])

    async def rows() -> AsyncIterator[Public]:
        raise LookupError
        yield Public(name="ann")

    path = plain(app, rows, response_class=EventSourceResponse)
    assert data_of((await fetch(app, path)).body.decode()) == [{"gone": True}]


async def test_the_error_names_no_value_of_the_item() -> None:
    async def rows() -> AsyncIterator[Public]:
        yield {"password": "hash"}  # type: ignore[misc] # what the type checker cannot stop

    app = FastAPI()
    path = plain(app, rows, response_class=JSONLinesResponse)
    async with (
        Client(app, raise_app_exceptions=False) as client,
        client.open("GET", path) as exchange,
    ):
        assert (await exchange.response()).status == 500
        error = (await exchange.finished()).error
    assert isinstance(error, InvalidItem)
    assert "hash" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("response_class", [JSONLinesResponse, JSONArrayResponse, CSVResponse])
@pytest.mark.parametrize("item", [Public | Event, Annotated[Public | Event, "both"]])
async def test_the_data_of_an_event_is_filtered_in_a_format_without_events(
    response_class: type[StreamingResponse], item: Any
) -> None:
    async def rows():  # type: ignore[no-untyped-def] # its annotation is set below
        yield Event(User(name="ann"), id="1")

    rows.__annotations__["return"] = AsyncIterator[item]
    text = await body_of(plain, rows, response_class=response_class)
    assert "ann" in text
    assert "hash" not in text


async def test_an_event_of_an_annotated_union_may_have_other_data() -> None:
    async def rows() -> AsyncIterator[Annotated[Public | Event, "both"]]:
        yield Event({"percent": 10})

    text = await body_of(plain, rows, response_class=EventSourceResponse)
    assert data_of(text) == [{"percent": 10}]


@pytest.mark.parametrize("first", [JSONLinesResponse, EventSourceResponse])
async def test_each_format_of_one_route_has_its_own_filter(first: type[StreamingResponse]) -> None:
    """`-> AsyncIterator[Event]`: in events it names no item, in lines it is the item."""
    chosen: list[type[StreamingResponse]] = []

    class Either(StreamingResponse):
        def make_framing(self) -> Framing:
            return chosen[-1]([]).make_framing()

    async def rows() -> AsyncIterator[Event]:
        yield User(name="ann")  # type: ignore[misc] # what the type checker cannot stop

    app = FastAPI()
    path = plain(app, rows, response_class=Either)
    bodies: dict[type[StreamingResponse], str] = {}
    for response_class in (first, JSONLinesResponse, EventSourceResponse):
        chosen.append(response_class)
        async with (
            Client(app, raise_app_exceptions=False) as client,
            client.open("GET", path) as exchange,
        ):
            status = (await exchange.response()).status
            bodies[response_class] = str(status)
            await exchange.finished()
    assert bodies == {JSONLinesResponse: "500", EventSourceResponse: "200"}
