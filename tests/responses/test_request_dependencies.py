from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI, HTTPException

from tailrace import EventSourceResponse, StreamingResponse, StreamOptions
from tailrace.responses import release_dependencies
from tailrace.testing import Client, SourceProbe
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio

RELEASE = StreamOptions(release_dependencies=True)


class Session:
    """A `yield` dependency that notes when it is opened and closed."""

    def __init__(self, journal: list[str], name: str) -> None:
        self.journal = journal
        self.name = name

    async def __call__(self) -> AsyncIterator[Session]:
        self.journal.append(f"{self.name} opened")
        yield self
        self.journal.append(f"{self.name} closed")


def serving(journal: list[str], options: StreamOptions, first: Any, second: Any) -> FastAPI:
    app = FastAPI()

    async def source() -> AsyncIterator[str]:
        journal.append("source started")
        yield "x"
        journal.append("source ended")

    needed = [Depends(first), Depends(second)]

    @app.api_route("/", methods=["GET", "HEAD"], dependencies=needed)
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(source(), options=options)

    return app


async def test_they_are_released_in_order_before_the_source_starts() -> None:
    journal: list[str] = []
    app = serving(journal, RELEASE, Session(journal, "first"), Session(journal, "second"))
    await fetch(app)
    assert journal == [
        "first opened",
        "second opened",
        "second closed",
        "first closed",
        "source started",
        "source ended",
    ]


async def test_unless_asked_for_they_are_held_until_the_stream_is_over() -> None:
    journal: list[str] = []
    first, second = Session(journal, "first"), Session(journal, "second")
    await fetch(serving(journal, StreamOptions(), first, second))
    assert journal[2:] == ["source started", "source ended", "second closed", "first closed"]


async def test_a_sync_dependency_is_released_too() -> None:
    journal: list[str] = []

    def connection() -> Iterator[str]:
        yield "connection"
        journal.append("connection closed")

    await fetch(serving(journal, RELEASE, connection, Session(journal, "session")))
    assert journal.index("connection closed") < journal.index("source started")


async def test_what_was_released_is_free_for_the_next_request_while_the_stream_goes_on() -> None:
    app = FastAPI()
    pool = anyio.Semaphore(1)

    async def session() -> AsyncIterator[None]:
        async with pool:
            yield

    async def endless() -> AsyncIterator[str]:
        yield "x"
        await anyio.sleep(1000)

    @app.get("/", dependencies=[Depends(session)])
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(endless(), options=RELEASE)

    async with (
        Client(app) as client,
        client.open("GET", "/") as first,
        client.open("GET", "/") as second,
    ):
        assert await first.read() == b"x"
        assert await second.read() == b"x"


async def test_the_applications_options_release_those_of_a_yield_endpoint() -> None:
    journal: list[str] = []
    app = FastAPI()
    app.state.stream_options = RELEASE

    session = Session(journal, "session")

    @app.get("/", response_class=EventSourceResponse, dependencies=[Depends(session)])
    async def endpoint() -> AsyncIterator[str]:
        journal.append("source started")
        yield "x"

    await fetch(app)
    assert journal == ["session opened", "session closed", "source started"]


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("commit failed"), 500), (HTTPException(409, "late"), 409)]
)
async def test_an_error_in_a_dependencys_exit_is_an_ordinary_error_response(
    error: Exception, status: int
) -> None:
    journal: list[str] = []

    async def session() -> AsyncIterator[None]:
        yield
        raise error

    got = await fetch(serving(journal, RELEASE, session, Session(journal, "other")))
    assert got.status == status
    if status == 409:
        assert json.loads(got.body) == {"detail": "late"}
    assert "source started" not in journal


async def test_a_source_that_cannot_start_for_a_dependencys_error_is_closed() -> None:
    app = FastAPI()
    probe = SourceProbe()

    async def session() -> AsyncIterator[None]:
        yield
        raise RuntimeError("commit failed")

    async def source() -> AsyncIterator[str]:
        yield "x"

    @app.get("/", dependencies=[Depends(session)])
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(probe.watch(source()), options=RELEASE)

    await fetch(app)
    assert probe.closed.is_set()
    assert not probe.started.is_set()


async def test_head_runs_them_down_as_usual() -> None:
    journal: list[str] = []
    app = serving(journal, RELEASE, Session(journal, "first"), Session(journal, "second"))
    assert (await fetch(app, method="HEAD")).body == b""
    assert journal[2:] == ["second closed", "first closed"]


async def test_without_fastapi_there_is_nothing_to_release() -> None:
    assert (await fetch(StreamingResponse(["x"], options=RELEASE))).body == b"x"


async def test_something_else_under_fastapis_name_is_left_alone() -> None:
    await release_dependencies({"type": "http", "fastapi_inner_astack": object()})
