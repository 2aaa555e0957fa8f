from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.background import BackgroundTask

from tailrace import StreamOptions, negotiate
from tailrace.testing import SourceProbe
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio

JSONL = b'{"a":1}\n{"a":2}\n'
ARRAY = b'[{"a":1},{"a":2}]'
SSE = b'data: {"a":1}\n\ndata: {"a":2}\n\n'
CSV = b"a\r\n1\r\n2\r\n"


def rows() -> Iterator[dict[str, int]]:
    yield {"a": 1}
    yield {"a": 2}


async def arows() -> AsyncIterator[dict[str, int]]:
    for row in rows():
        yield row


def serving(items: Any, **kwargs: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await negotiate(items, Request(scope), **kwargs)(scope, receive, send)

    return app


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        ("application/jsonl", JSONL),
        ("application/x-ndjson", JSONL),
        ("application/json", ARRAY),
        ("text/event-stream", SSE),
        ("text/csv", CSV),
        ("*/*", JSONL),
        ("", JSONL),
        ("text/*", SSE),
        ("application/json;q=0.5, text/csv", CSV),
        ("application/json, text/csv;q=0.9", ARRAY),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSONL),
        ("*/*, application/jsonl;q=0, application/x-ndjson;q=0", ARRAY),
        ("TEXT/CSV", CSV),
    ],
)
@pytest.mark.parametrize("make", [rows, arows])
async def test_the_format_is_what_accept_likes_best(make: Any, accept: str, body: bytes) -> None:
    assert (await fetch(serving(make()), accept=accept)).body == body


async def test_without_accept_it_is_json_lines() -> None:
    got = await fetch(serving(rows()))
    assert (got.headers["content-type"], got.body) == ("application/jsonl", JSONL)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/json", "application/json"),
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("text/csv", "text/csv; charset=utf-8"),
    ],
)
async def test_the_content_type_is_the_one_that_was_chosen(accept: str, content_type: str) -> None:
    got = await fetch(serving(rows()), accept=accept)
    assert got.headers["content-type"] == content_type


async def test_events_keep_their_headers() -> None:
    got = await fetch(serving(rows()), accept="text/event-stream")
    assert got.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("accept", ["*/*", "text/csv", "application/json", "image/png"])
async def test_caches_are_told_that_it_varies(accept: str) -> None:
    vary = (await fetch(serving(rows()), accept=accept)).headers["vary"].lower()
    assert "accept" in [name.strip() for name in vary.split(",")]


async def test_several_accept_lines_are_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = [
            *scope["headers"],
            (b"accept", b"application/json;q=0.1"),
            (b"accept", b"text/csv"),
        ]
        await negotiate(rows(), Request(scope))(scope, receive, send)

    assert (await fetch(app)).body == CSV


# Where none fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["image/png", "text/html", "*/*;q=0", "application/xml, text/a"])
async def test_where_none_fits_the_answer_lists_what_is_offered(accept: str) -> None:
    got = await fetch(serving(rows()), accept=accept)
    assert got.status == 406
    assert got.headers["content-type"] == "application/problem+json"
    problem = json.loads(got.body)
    assert (problem["status"], problem["code"]) == (406, "not_acceptable")
    assert problem["offered"] == [
        "application/jsonl",
        "application/x-ndjson",
        "application/json",
        "text/event-stream",
        "text/csv",
    ]


@pytest.mark.parametrize("make", [rows, arows])
async def test_where_none_fits_the_items_are_closed_unread(make: Any) -> None:
    probe = SourceProbe()
    await fetch(serving(probe.watch(make())), accept="image/png")
    assert probe.closed.is_set()
    assert not probe.started.is_set()


async def test_items_that_cannot_be_iterated_are_refused_whatever_is_accepted() -> None:
    request = Request({"type": "http", "headers": [(b"accept", b"image/png")]})
    with pytest.raises(TypeError, match="not int"):
        negotiate(5, request)


# What is passed on -------------------------------------------------------------------------------


async def test_background_and_options_are_passed_on() -> None:
    ran: list[str] = []

    async def note() -> None:
        ran.append("background")

    app = serving(rows(), background=BackgroundTask(note), options=StreamOptions(compress=True))
    got = await fetch(app, accept="text/csv", accept_encoding="gzip")
    assert got.headers["content-encoding"] == "gzip"
    assert ran == ["background"]


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        ("application/jsonl", JSONL + b'{"end":{}}\n'),
        ("application/json", ARRAY),
        ("text/csv", CSV + b"#end\r\n"),
        ("text/event-stream", SSE + b"event: end\ndata: {}\n\n"),
    ],
)
async def test_the_end_can_be_told_in_each_format(accept: str, body: bytes) -> None:
    assert (await fetch(serving(rows(), end_mark=True), accept=accept)).body == body


async def test_it_is_what_an_endpoint_returns() -> None:
    app = FastAPI()

    @app.get("/rows")
    async def endpoint(request: Request) -> Response:
        return negotiate(arows(), request)

    assert (await fetch(app, "/rows", accept="text/csv")).body == CSV
    assert (await fetch(app, "/rows", accept="image/png")).status == 406
