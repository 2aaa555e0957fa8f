from __future__ import annotations

import io
import os
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI, Response
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.requests import Request
from starlette.responses import StreamingResponse as StarletteStreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from tailrace import (
    CSVResponse,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    MultipartMixedReplaceResponse,
    StreamingResponse,
    StreamOptions,
)
from tailrace.errors import InvalidOption, SourceSpent
from tailrace.semantics import content_disposition
from tailrace.testing import Client, SourceProbe, Truncated, no_leaks
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio

CHUNKS: list[Any] = ["one ", b"two ", bytearray(b"three "), memoryview(b"four")]


class Chunks:
    """An iterable that is not an iterator, and makes a new one each time."""

    def __iter__(self) -> Iterator[Any]:
        return iter(CHUNKS)


class OldChunks:
    """An iterable of the old kind, which only `iter()` knows."""

    def __getitem__(self, position: int) -> Any:
        return CHUNKS[position]


class AsyncChunks:
    """The same, asynchronous."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return agenerator()


class AsyncIteratorOnly:
    """An asynchronous iterator that is not a generator and has no `aclose`."""

    def __init__(self) -> None:
        self._left = list(CHUNKS)

    def __aiter__(self) -> AsyncIteratorOnly:
        return self

    async def __anext__(self) -> Any:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop(0)


def generator() -> Iterator[Any]:
    yield from CHUNKS


async def agenerator() -> AsyncIterator[Any]:
    for chunk in CHUNKS:
        yield chunk


async def waiting() -> AsyncIterator[Any]:
    for chunk in CHUNKS:
        await anyio.sleep(0)
        yield chunk


@pytest.mark.parametrize(
    "make",
    [
        lambda: list(CHUNKS),
        lambda: tuple(CHUNKS),
        lambda: iter(CHUNKS),
        lambda: deque(CHUNKS),
        lambda: dict.fromkeys(["one two ", "three four"]),
        Chunks,
        OldChunks,
        generator,
        agenerator,
        waiting,
        AsyncChunks,
        AsyncIteratorOnly,
        lambda: "one two three four",
        lambda: b"one two three four",
        lambda: bytearray(b"one two three four"),
        lambda: memoryview(b"one two three four"),
    ],
)
async def test_it_sends_whatever_can_be_iterated(make: Callable[[], Any]) -> None:
    assert (await fetch(StreamingResponse(make()))).body == b"one two three four"


async def test_it_is_starlettes() -> None:
    assert issubclass(StreamingResponse, StarletteStreamingResponse)


@pytest.mark.parametrize("make", [lambda: ["a", "b"], lambda: "ab", Chunks, AsyncChunks])
async def test_what_can_be_iterated_twice_can_be_sent_twice(make: Callable[[], Any]) -> None:
    response = StreamingResponse(make())
    assert (await fetch(response)).body == (await fetch(response)).body != b""


@pytest.mark.parametrize("make", [generator, agenerator, AsyncIteratorOnly])
async def test_what_can_be_iterated_once_is_spent_when_it_is_sent_again(
    make: Callable[[], Any],
) -> None:
    response = StreamingResponse(make())
    await fetch(response)
    async with Client(response) as client, client.open("GET", "/") as exchange:
        with pytest.raises(SourceSpent, match="make a new response for each request"):
            await exchange.response()


LINES = b"".join(b"line %d\n" % number for number in range(3_000))


@contextmanager
def temporary(make: Callable[[], Any]) -> Iterator[Any]:
    with make() as file:
        file.write(LINES)
        file.seek(0)
        yield file


OF_FILES: list[Callable[[], Any]] = [
    lambda: io.BytesIO(LINES),
    lambda: io.StringIO(LINES.decode()),
    partial(temporary, tempfile.TemporaryFile),
    partial(temporary, tempfile.SpooledTemporaryFile),
]


@pytest.mark.parametrize("make", OF_FILES)
async def test_a_file_object_stays_its_owners_and_may_be_sent_again(
    make: Callable[[], Any],
) -> None:
    with make() as file:
        file.seek(7)
        response = StreamingResponse(file)
        for _ in range(2):
            async with no_leaks():
                assert (await fetch(response)).body == LINES[7:]
        assert not file.closed
        file.seek(14)
        assert (await fetch(StreamingResponse(file))).body == LINES[14:]


async def test_a_text_file_of_which_a_line_was_taken_is_sent_from_there_once() -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.write("header\nfirst\nsecond\n")
        file.seek(0)
        assert next(file) == "header\n"  # and now it does not say where it stands
        response = StreamingResponse(file)
        assert (await fetch(response)).body == b"first\nsecond\n"
        async with Client(response) as client, client.open("GET", "/") as exchange:
            with pytest.raises(SourceSpent):
                await exchange.response()


async def test_a_file_object_that_is_being_sent_is_not_sent_beside_it() -> None:
    response = StreamingResponse(io.BytesIO(bytes(10_000_000)))
    async with Client(response) as client:
        async with client.open("GET", "/", window_bytes=1) as first:
            await first.read()
            async with client.open("GET", "/") as second:
                with pytest.raises(SourceSpent):
                    await second.response()


async def test_a_pipe_is_closed_as_every_source() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"once")
    os.close(writing)
    file = os.fdopen(reading, "rb")
    assert (await fetch(StreamingResponse(file))).body == b"once"
    assert file.closed


@pytest.mark.parametrize("content", ["text", b"text", bytearray(b"text"), memoryview(b"text")])
async def test_a_text_is_one_chunk(content: Any) -> None:
    assert [chunk async for chunk in StreamingResponse(content).body_iterator] == [content]


# What is said before the body ---------------------------------------------------------------------


async def test_status_and_headers_are_sent_as_given() -> None:
    response = StreamingResponse(["x"], 203, {"X-Name": "value", "Cache-Control": "no-cache"})
    got = await fetch(response)
    assert got.status == 203
    assert got.headers["x-name"] == "value"
    assert got.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("media_type", "content_type"),
    [
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/plain; charset=ascii", "text/plain; charset=ascii"),
        ("application/octet-stream", "application/octet-stream"),
        (None, None),
    ],
)
async def test_text_types_get_a_charset(media_type: str | None, content_type: str | None) -> None:
    got = await fetch(StreamingResponse(["x"], media_type=media_type))
    assert got.headers.get("content-type") == content_type


async def test_text_is_encoded_in_the_charset_of_the_class() -> None:
    class Latin(StreamingResponse):
        media_type = "text/plain"
        charset = "latin-1"

    got = await fetch(Latin(["é"]))
    assert got.headers["content-type"] == "text/plain; charset=latin-1"
    assert got.body == b"\xe9"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"media_type": "text/plain; charset=iso-8859-1"},
        {"media_type": 'application/javascript;CHARSET="latin1"'},
        {"headers": {"Content-Type": "text/plain; x=y; charset=latin-1"}},
    ],
)
async def test_text_is_encoded_in_the_charset_that_the_content_type_says(
    kwargs: dict[str, Any],
) -> None:
    assert (await fetch(StreamingResponse(["é"], **kwargs))).body == b"\xe9"


async def test_the_content_type_that_counts_is_the_one_that_is_sent() -> None:
    response = StreamingResponse(["é"], media_type="text/plain")
    response.headers["content-type"] = "text/plain; charset=cp437"
    assert (await fetch(response)).body == b"\x82"


async def test_bytes_go_out_under_any_label() -> None:
    got = await fetch(StreamingResponse([b"\x82"], media_type="text/plain; charset=x-klingon"))
    assert (got.headers["content-type"], got.body) == ("text/plain; charset=x-klingon", b"\x82")


STREAMS: list[Callable[..., StreamingResponse]] = [
    StreamingResponse,
    CSVResponse,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    MultipartMixedReplaceResponse,
]


@pytest.mark.parametrize("make", STREAMS)
async def test_no_stream_is_kept_by_caches_or_by_nginx(make: Any) -> None:
    got = await fetch(make([]))
    assert got.headers.getlist("cache-control") == ["no-store"]
    assert got.headers.getlist("x-accel-buffering") == ["no"]


@pytest.mark.parametrize("make", STREAMS)
async def test_what_the_application_says_to_caches_and_proxies_counts(make: Any) -> None:
    said = {"Cache-Control": "public, max-age=60", "X-Accel-Buffering": "yes"}
    for response in (make([], headers=said), make([])):
        response.headers.update(said)
        got = await fetch(response)
        assert got.headers.getlist("cache-control") == ["public, max-age=60"]
        assert got.headers.getlist("x-accel-buffering") == ["yes"]


async def test_what_a_dependency_says_by_its_response_parameter_counts() -> None:
    app = FastAPI()

    def kept(response: Response) -> None:
        response.headers["cache-control"] = "max-age=60"

    @app.get("/rows", response_class=JSONLinesResponse, dependencies=[Depends(kept)])
    def rows() -> Iterator[int]:
        yield 1

    got = await fetch(app, "/rows")
    assert got.headers.getlist("cache-control") == ["max-age=60"]
    assert got.headers.getlist("x-accel-buffering") == ["no"]


@pytest.mark.parametrize("make", STREAMS)
async def test_every_stream_can_have_a_file_name(make: Any) -> None:
    got = await fetch(make([], filename='Zoë\n".csv'))
    expected = content_disposition("attachment", 'Zoë\n".csv')
    assert got.headers["content-disposition"] == expected
    shown = make([], filename="a.csv", content_disposition_type="inline")
    assert shown.headers["content-disposition"] == 'inline; filename="a.csv"'
    own = make([], filename="a.csv", headers={"Content-Disposition": "inline"})
    assert own.headers.getlist("content-disposition") == ["inline"]
    assert "content-disposition" not in make([]).headers


# The end mark -------------------------------------------------------------------------------------


async def test_an_end_mark_is_behind_the_last_chunk_when_the_source_was_closed() -> None:
    probe = SourceProbe()
    response = StreamingResponse(probe.watch(["a\n", "b\n"]), end_mark="-- end --\n")
    assert (await fetch(response)).body == b"a\nb\n-- end --\n"
    assert probe.closed.is_set()


async def test_a_stream_that_failed_has_no_end_mark() -> None:
    def source() -> Iterator[str]:
        yield "a\n"
        raise RuntimeError

    app = StreamingResponse(source(), end_mark="-- end --\n")
    async with Client(app) as client, client.open("GET", "/") as exchange:
        with pytest.raises(Truncated) as caught:
            await exchange.read_all()
        assert caught.value.partial == b"a\n"


async def test_head_has_no_end_mark() -> None:
    assert (await fetch(StreamingResponse([], end_mark="end"), method="HEAD")).body == b""


@pytest.mark.parametrize("mark", [True, 1])
async def test_an_end_mark_that_is_no_text_is_refused_where_the_response_is_made(mark: Any) -> None:
    with pytest.raises(InvalidOption, match="end_mark="):
        StreamingResponse(["x"], end_mark=mark)


# Headers, again -----------------------------------------------------------------------------------


async def test_headers_and_cookies_can_be_set_until_it_is_sent() -> None:
    response = StreamingResponse(["x"])
    response.headers["x-late"] = "yes"
    response.set_cookie("name", "value")
    got = await fetch(response)
    assert got.headers["x-late"] == "yes"
    assert got.headers["set-cookie"].startswith("name=value;")


async def test_a_stream_has_no_content_length_of_its_own() -> None:
    assert "content-length" not in (await fetch(StreamingResponse(["x"]))).headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_content_length_is_kept(method: str) -> None:
    response = StreamingResponse(["12", "345"], headers={"content-length": "5"})
    assert (await fetch(response, method=method)).headers["content-length"] == "5"


# Background tasks --------------------------------------------------------------------------------


class Journal:
    """What happened, in order; the background task notes whether the source was closed by then."""

    def __init__(self) -> None:
        self.probe = SourceProbe()
        self.runs: list[bool] = []

    def task(self) -> BackgroundTask:
        return BackgroundTask(self.run)

    async def run(self) -> None:
        self.runs.append(self.probe.closed.is_set())


@pytest.mark.parametrize("make", [generator, agenerator])
async def test_background_runs_once_after_the_source_was_closed(make: Callable[[], Any]) -> None:
    journal = Journal()
    await fetch(StreamingResponse(journal.probe.watch(make()), background=journal.task()))
    assert journal.runs == [True]


async def test_background_runs_when_the_client_has_left() -> None:
    journal = Journal()

    async def endless() -> AsyncIterator[str]:
        with journal.probe.inside():
            while True:
                yield "x"
                await anyio.sleep(1000)

    response = StreamingResponse(endless(), background=journal.task())
    async with Client(response) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await exchange.leave()
        assert (await exchange.finished()).error is None
    assert journal.runs == [True]


async def test_background_runs_after_head() -> None:
    journal = Journal()
    response = StreamingResponse(journal.probe.watch(agenerator()), background=journal.task())
    await fetch(response, method="HEAD")
    assert journal.runs == [True]


async def test_background_does_not_run_after_a_failure() -> None:
    journal = Journal()

    async def failing() -> AsyncIterator[str]:
        yield "x"
        raise ConnectionResetError("the database left")

    response = StreamingResponse(failing(), background=journal.task())
    async with Client(response) as client, client.open("GET", "/") as exchange:
        with pytest.raises(Truncated):
            await exchange.read_all()
        assert isinstance((await exchange.finished()).error, ConnectionResetError)
    assert journal.runs == []


async def test_a_background_task_that_fails_is_raised_after_a_whole_response() -> None:
    async def fail() -> None:
        raise LookupError("no such report")

    response = StreamingResponse(["whole"], background=BackgroundTask(fail))
    async with Client(response) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_all() == b"whole"
        outcome = await exchange.finished()
        assert outcome.complete
        assert isinstance(outcome.error, LookupError)


async def test_several_background_tasks_run_in_order_also_sync_ones() -> None:
    ran: list[str] = []
    tasks = BackgroundTasks()
    tasks.add_task(ran.append, "first")
    tasks.add_task(ran.append, "second")
    await fetch(StreamingResponse(["x"], background=tasks))
    assert ran == ["first", "second"]


# HEAD and websockets -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [generator, agenerator])
async def test_head_sends_the_headers_and_closes_the_source_unstarted(
    make: Callable[[], Any],
) -> None:
    probe = SourceProbe()
    response = StreamingResponse(probe.watch(make()), 201, {"x-name": "value"}, "text/csv")
    got = await fetch(response, method="HEAD")
    assert (got.status, got.headers["x-name"], got.body) == (201, "value", b"")
    assert got.headers["content-type"] == "text/csv; charset=utf-8"
    assert probe.closed.is_set()
    assert not probe.started.is_set()


async def test_head_says_the_same_headers_as_get() -> None:
    def response() -> StreamingResponse:
        return StreamingResponse(["x"], media_type="text/plain")

    head = await fetch(response(), method="HEAD", accept_encoding="gzip")
    got = await fetch(response(), accept_encoding="gzip")
    assert head.headers.raw == got.headers.raw


@pytest.mark.parametrize("make", [generator, agenerator])
async def test_a_websocket_is_denied_with_it(make: Callable[[], Any]) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        raise AssertionError("the connection's messages are not the response's to read")

    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [],
        "extensions": {"websocket.http.response": {}},
    }
    await StreamingResponse(make(), 403, {"x-name": "value"})(scope, receive, send)
    assert {message["type"] for message in sent[1:]} == {"websocket.http.response.body"}
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 403
    assert (b"x-name", b"value") in sent[0]["headers"]
    assert b"".join(message["body"] for message in sent[1:]) == b"one two three four"
    assert sent[-1]["more_body"] is False


# Mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (5, "int"),
        (None, "NoneType"),
        (object(), "object"),
        (generator, "function"),
        (list, "type"),
        (Chunks, "type"),
    ],
)
async def test_what_cannot_be_iterated_is_refused_where_it_is_made(content: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"not {name}: give it a generator"):
        StreamingResponse(content)


async def test_a_coroutine_that_was_not_awaited_is_refused_by_its_type() -> None:
    async def rows() -> list[str]:
        return ["x"]

    coroutine = rows()
    with pytest.raises(TypeError, match="not coroutine"):
        StreamingResponse(coroutine)
    coroutine.close()


# The body iterator -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: list(CHUNKS), generator, agenerator])
async def test_the_body_iterator_gives_the_chunks_asynchronously(make: Callable[[], Any]) -> None:
    assert [chunk async for chunk in StreamingResponse(make()).body_iterator] == CHUNKS


async def test_a_body_iterator_that_is_set_is_sent_instead() -> None:
    response = StreamingResponse(["a", "b"])
    inner = response.body_iterator

    async def louder() -> AsyncIterator[str]:
        async for chunk in inner:
            yield chunk.upper()

    response.body_iterator = louder()
    assert (await fetch(response)).body == b"AB"


async def test_a_response_that_is_given_a_new_body_iterator_can_be_sent_again() -> None:
    response = StreamingResponse(generator())
    await fetch(response)
    response.body_iterator = generator()
    assert (await fetch(response)).body == b"one two three four"


async def test_a_body_iterator_that_cannot_be_iterated_is_refused() -> None:
    response = StreamingResponse(["a"])
    with pytest.raises(TypeError, match="not int"):
        response.body_iterator = 5


# Options -----------------------------------------------------------------------------------------


NAMED = StreamOptions(compress=True)


def mounted(
    main: Starlette, part: Starlette, *between: Starlette, middleware: bool = False
) -> Starlette:
    """An application in another, `/part/…/`, whose options are those of the main one."""

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(["x"], media_type="text/plain")

    part.add_route("/", endpoint)
    inner = part
    for each in (*between, main):
        each.mount("/part", inner)
        inner = each
    if middleware:
        main.add_middleware(Passing)
    return main


class Passing:
    """Calls in a task of its own, as BaseHTTPMiddleware does; hands `send` on as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.app, scope, receive, send)  # type: ignore[arg-type]


async def is_compressed(app: ASGIApp, path: str) -> bool:
    got = await fetch(app, path, accept_encoding="gzip")
    assert got.status == 200
    return "content-encoding" in got.headers


@pytest.mark.parametrize("part", [Starlette, FastAPI])
@pytest.mark.parametrize(
    ("main", "middleware"), [(Starlette, False), (FastAPI, False), (FastAPI, True)]
)
async def test_options_of_the_main_application_reach_what_is_mounted_in_it(
    main: type[Starlette], part: type[Starlette], middleware: bool
) -> None:
    app = mounted(main(), part(), middleware=middleware)
    assert not await is_compressed(app, "/part/")
    app.state.stream_options = NAMED
    assert await is_compressed(app, "/part/")


async def test_options_of_an_application_come_before_those_of_one_around_it() -> None:
    part, between, main = FastAPI(), FastAPI(), FastAPI()
    app = mounted(main, part, between)
    main.state.stream_options = NAMED
    assert await is_compressed(app, "/part/part/")
    between.state.stream_options = StreamOptions()
    assert not await is_compressed(app, "/part/part/")
    part.state.stream_options = NAMED
    assert await is_compressed(app, "/part/part/")


def application(response: StreamingResponse, options: StreamOptions | None) -> Starlette:
    async def endpoint(request: Request) -> StreamingResponse:
        return response

    app = Starlette(routes=[Route("/", endpoint)])
    if options is not None:
        app.state.stream_options = options
    return app


@pytest.mark.parametrize(
    ("of_response", "of_app", "compressed"),
    [
        (None, None, False),
        (None, True, True),
        (True, None, True),
        (True, False, True),
        (False, True, False),
    ],
)
async def test_the_responses_options_come_before_the_applications_before_the_defaults(
    of_response: bool | None, of_app: bool | None, compressed: bool
) -> None:
    def options(compress: bool | None) -> StreamOptions | None:
        return None if compress is None else StreamOptions(compress=compress)

    response = StreamingResponse(["x"], media_type="text/plain", options=options(of_response))
    got = await fetch(application(response, options(of_app)), accept_encoding="gzip")
    assert ("content-encoding" in got.headers) is compressed


async def test_a_responses_options_replace_the_applications_as_a_whole() -> None:
    response = StreamingResponse(
        ["x"], media_type="text/plain", options=StreamOptions(heartbeat=1.0)
    )
    app = application(response, StreamOptions(compress=True))
    assert "content-encoding" not in (await fetch(app, accept_encoding="gzip")).headers


async def test_what_are_no_options_is_refused_where_the_response_is_made() -> None:
    given: Any = {"compress": False}
    with pytest.raises(InvalidOption, match=r"^options=.*: give a StreamOptions$"):
        StreamingResponse(["x"], options=given)


async def test_what_are_no_options_of_the_application_are_refused_before_the_status_line() -> None:
    probe = SourceProbe()
    app = application(StreamingResponse(probe.watch(generator())), None)
    app.state.stream_options = {"compress": False}
    async with (
        Client(app, raise_app_exceptions=False) as client,
        client.open("GET", "/") as exchange,
    ):
        assert (await exchange.response()).status == 500
        error = (await exchange.finished()).error
    assert isinstance(error, InvalidOption)
    assert error.name == "app.state.stream_options"
    assert probe.closed.is_set()


# Threads -----------------------------------------------------------------------------------------


async def test_a_sync_source_runs_in_a_daemon_thread_of_its_own_kind() -> None:
    seen: list[threading.Thread] = []

    def source() -> Iterator[str]:
        seen.append(threading.current_thread())
        yield "x"

    await fetch(StreamingResponse(source()))
    assert seen[0].daemon
    assert seen[0].name.startswith("tailrace-source-")


async def test_an_async_source_runs_in_the_task_of_the_request() -> None:
    probe = SourceProbe()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(anyio.get_current_task())
        await StreamingResponse(probe.watch(source()))(scope, receive, send)

    async def source() -> AsyncIterator[str]:
        tasks.append(anyio.get_current_task())
        yield "x"

    tasks: list[anyio.TaskInfo] = []
    await fetch(app)
    assert tasks[0] == tasks[1]
    assert probe.same_task
