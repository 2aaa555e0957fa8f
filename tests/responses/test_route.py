from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from tailrace import (
    CSVResponse,
    Event,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    StreamingResponse,
    StreamOptions,
    StreamRoute,
)
from tailrace.errors import InvalidItem
from tailrace.testing import Client, Clock, Truncated
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio


class Price(BaseModel):
    name: str
    price: float = 0


GOOD: list[Any] = [Price(name="oil", price=1.5), {"name": "gas"}]

Build = Callable[[FastAPI], APIRouter]


def direct(app: FastAPI) -> APIRouter:
    app.router.route_class = StreamRoute
    return app.router


def included(app: FastAPI) -> APIRouter:
    return APIRouter(route_class=StreamRoute)


def twice_included(app: FastAPI) -> APIRouter:
    return APIRouter(route_class=StreamRoute, prefix="/inner")


def built(build: Build, response_class: Any, endpoint: Callable[..., Any]) -> tuple[FastAPI, str]:
    """An application with one endpoint, and the endpoint's path."""
    app = FastAPI()
    router = build(app)
    router.get("/prices", response_class=response_class)(endpoint)
    if build is direct:
        return app, "/prices"
    if build is included:
        app.include_router(router, prefix="/v1")
        return app, "/v1/prices"
    outer = APIRouter(prefix="/outer")
    outer.include_router(router)
    app.include_router(outer, prefix="/v1")
    return app, "/v1/outer/inner/prices"


def sync_endpoint(items: list[Any]) -> Callable[..., Any]:
    def prices() -> Iterator[Price]:
        yield from items

    return prices


def async_endpoint(items: list[Any]) -> Callable[..., Any]:
    async def prices() -> AsyncIterator[Price]:
        for item in items:
            yield item

    return prices


def described(app: FastAPI, path: str) -> Any:
    """What OpenAPI says of an endpoint's 200, by media type."""
    return app.openapi()["paths"][path]["get"]["responses"]["200"]["content"]


PRICE = {"$ref": "#/components/schemas/Price"}
BUILDS = [direct, included, twice_included]
ENDPOINTS = [sync_endpoint, async_endpoint]


# OpenAPI -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("make", ENDPOINTS)
async def test_events_are_described_with_the_schema_of_their_data(build: Build, make: Any) -> None:
    app, path = built(build, EventSourceResponse, make([]))
    content = described(app, path)
    assert list(content) == ["text/event-stream"]
    data = content["text/event-stream"]["itemSchema"]["properties"]["data"]
    assert data["contentSchema"] == PRICE
    assert "Price" in app.openapi()["components"]["schemas"]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("make", ENDPOINTS)
async def test_json_lines_are_described_with_the_schema_of_a_line(build: Build, make: Any) -> None:
    app, path = built(build, JSONLinesResponse, make([]))
    assert described(app, path) == {"application/jsonl": {"itemSchema": PRICE}}
    assert "Price" in app.openapi()["components"]["schemas"]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("make", ENDPOINTS)
async def test_a_json_array_is_described_as_an_array(build: Build, make: Any) -> None:
    app, path = built(build, JSONArrayResponse, make([]))
    content = described(app, path)
    assert list(content) == ["application/json"]
    schema = content["application/json"]["schema"]
    assert (schema["type"], schema["items"]) == ("array", PRICE)
    assert "Price" in app.openapi()["components"]["schemas"]


async def test_without_it_openapi_knows_nothing_of_the_items() -> None:
    app = FastAPI()
    app.get("/prices", response_class=EventSourceResponse)(async_endpoint([]))
    assert described(app, "/prices") == {"text/event-stream": {"schema": {"type": "string"}}}


@pytest.mark.parametrize("annotation", [AsyncIterable[Price], AsyncIterator[Price]])
async def test_either_name_of_an_iterator_names_the_item(annotation: Any) -> None:
    async def prices() -> Any:
        yield GOOD[0]

    prices.__annotations__["return"] = annotation
    app, path = built(direct, JSONLinesResponse, prices)
    assert described(app, path) == {"application/jsonl": {"itemSchema": PRICE}}


async def test_an_item_that_is_no_model_is_described_too() -> None:
    def numbers() -> Iterable[int]:
        yield 1

    app, path = built(direct, JSONLinesResponse, numbers)
    assert described(app, path)["application/jsonl"]["itemSchema"]["type"] == "integer"


async def test_the_document_is_the_same_when_it_is_asked_for_again() -> None:
    app, _ = built(included, JSONArrayResponse, async_endpoint([]))
    first = json.dumps(app.openapi())
    app.openapi_schema = None
    assert json.dumps(app.openapi()) == first


async def test_two_routers_that_include_the_same_routes_are_both_described() -> None:
    app = FastAPI()
    router = APIRouter(route_class=StreamRoute)
    router.get("/prices", response_class=EventSourceResponse)(async_endpoint(GOOD))
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    first, second = described(app, "/v1/prices"), described(app, "/v2/prices")
    assert first == second
    assert "Price" in json.dumps(first)


# Items -------------------------------------------------------------------------------------------

BODIES = [
    (
        EventSourceResponse,
        b'data: {"name":"oil","price":1.5}\n\ndata: {"name":"gas","price":0.0}\n\n',
    ),
    (JSONLinesResponse, b'{"name":"oil","price":1.5}\n{"name":"gas","price":0.0}\n'),
    (JSONArrayResponse, b'[{"name":"oil","price":1.5},{"name":"gas","price":0.0}]'),
]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("make", ENDPOINTS)
@pytest.mark.parametrize(("response_class", "body"), BODIES)
async def test_items_that_fit_are_sent_as_what_they_were_validated_to(
    build: Build, make: Any, response_class: Any, body: bytes
) -> None:
    app, path = built(build, response_class, make(GOOD))
    assert (await fetch(app, path)).body == body


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("make", ENDPOINTS)
@pytest.mark.parametrize("response_class", [each for each, _ in BODIES])
async def test_a_first_item_that_does_not_fit_is_a_500(
    clock: Clock, build: Build, make: Any, response_class: Any
) -> None:
    app, path = built(build, response_class, make([{"price": 1}]))
    app.state.stream_options = StreamOptions(start_grace=0.1)  # events wait for nothing by default
    async with (
        Client(app, raise_app_exceptions=False) as client,
        client.open("GET", path) as exchange,
    ):
        assert (await exchange.response()).status == 500
        error = (await exchange.finished()).error
        assert isinstance(error, InvalidItem)
        assert error.endpoint == "prices"
        assert error.errors[0]["loc"] == ("item", "name")
        assert "prices yielded an item that does not fit its return annotation" in str(error)


TAILS = [
    (EventSourceResponse, b'event: error\ndata: {"error":{"code":"invalid_item",'),
    (JSONLinesResponse, b'{"error":{"code":"invalid_item",'),
]


@pytest.mark.parametrize("make", ENDPOINTS)
@pytest.mark.parametrize(("response_class", "tail"), TAILS)
async def test_a_later_item_that_does_not_fit_is_a_typed_tail(
    make: Any, response_class: Any, tail: bytes
) -> None:
    app, path = built(included, response_class, make([*GOOD, {"price": 1}]))
    async with Client(app) as client, client.open("GET", path) as exchange:
        with pytest.raises(Truncated) as cut:
            await exchange.read_all()
        assert isinstance(cut.value.__cause__, InvalidItem)
        assert b'"gas"' in cut.value.partial
        assert tail in cut.value.partial


@pytest.mark.parametrize("make", ENDPOINTS)
async def test_a_json_array_with_an_item_that_does_not_fit_is_left_unclosed(make: Any) -> None:
    app, path = built(included, JSONArrayResponse, make([*GOOD, {"price": 1}]))
    async with Client(app) as client, client.open("GET", path) as exchange:
        with pytest.raises(Truncated) as cut:
            await exchange.read_all()
        assert len(json.loads(cut.value.partial + b"]")) == 2


@pytest.mark.parametrize("make", ENDPOINTS)
async def test_fastapis_own_events_pass_unchecked(make: Any) -> None:
    event = ServerSentEvent(data={"anything": 1}, id="7")
    app, path = built(direct, EventSourceResponse, make([event]))
    async with Client(app) as client, client.open("GET", path) as exchange:
        got = await exchange.event()
        assert got is not None
        assert (got.id, got.json()) == ("7", {"anything": 1})


async def test_an_annotation_of_events_describes_no_data() -> None:
    async def prices() -> AsyncIterator[Event]:
        yield Event("free text")

    app, path = built(direct, EventSourceResponse, prices)
    assert list(described(app, path)) == ["text/event-stream"]
    assert (await fetch(app, path)).body == b"data: free text\n\n"


@pytest.mark.parametrize("response_class", [each for each, _ in BODIES])
async def test_without_an_annotation_items_are_not_checked(response_class: Any) -> None:
    async def prices():  # type: ignore[no-untyped-def] # that is what is tested
        yield {"anything": 1}

    app, path = built(direct, response_class, prices)
    assert b'{"anything":1}' in (await fetch(app, path)).body
    assert app.openapi()


async def test_events_beside_items_in_an_annotation_describe_and_check_the_items() -> None:
    wrong: Any = {"price": 1}

    async def prices() -> AsyncIterator[Price | Event]:
        yield Event("free text")
        yield Price(name="oil")
        yield wrong

    app, path = built(direct, EventSourceResponse, prices)
    data = described(app, path)["text/event-stream"]["itemSchema"]["properties"]["data"]
    assert data["contentSchema"] == PRICE
    async with Client(app) as client, client.open("GET", path) as exchange:
        got = [await exchange.event() for _ in range(3)]
        with pytest.raises(Truncated):
            await exchange.event()
    assert [event and event.event for event in got] == ["message", "message", "error"]
    assert got[2] is not None
    assert got[2].json()["error"]["code"] == "invalid_item"


# Other endpoints on such a route -----------------------------------------------------------------


async def test_an_endpoint_that_returns_its_response_is_as_it_was() -> None:
    async def prices() -> EventSourceResponse:
        return EventSourceResponse(["free"])

    app, path = built(direct, EventSourceResponse, prices)
    assert (await fetch(app, path)).body == b"data: free\n\n"
    assert list(described(app, path)) == ["text/event-stream"]


@pytest.mark.parametrize("response_class", [StreamingResponse, CSVResponse])
async def test_other_streams_on_such_a_route_go_on_working(response_class: Any) -> None:
    async def prices() -> AsyncIterator[Any]:
        yield ["x"] if response_class is CSVResponse else "x"

    app, path = built(direct, response_class, prices)
    assert (await fetch(app, path)).body.strip() == b"x"


async def test_an_ordinary_endpoint_on_such_a_route_is_as_it_was() -> None:
    app = FastAPI()
    app.router.route_class = StreamRoute

    @app.get("/price")
    async def price() -> Price:
        return Price(name="oil", price=1.5)

    @app.get("/plain", response_class=JSONResponse)
    async def plain() -> Response:
        return JSONResponse({"a": 1})

    assert json.loads((await fetch(app, "/price")).body) == {"name": "oil", "price": 1.5}
    assert json.loads((await fetch(app, "/plain")).body) == {"a": 1}
    assert described(app, "/price")["application/json"]["schema"] == PRICE
