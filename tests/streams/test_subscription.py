from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request
from starlette.background import BackgroundTask
from starlette.datastructures import Headers

from tailrace.connection import drain
from tailrace.errors import InvalidOption, StoreUnavailable
from tailrace.framing import Event
from tailrace.store import MemoryStore, Retention, Store
from tailrace.streams import Streams
from tailrace.testing import Client, Clock, Truncated, no_leaks, settle
from tailrace.types import StreamOptions
from tests.streams.worlds import Link, shared_store

pytestmark = pytest.mark.anyio

EVENTS = {"accept": "text/event-stream"}
LINES = {"accept": "application/jsonl"}
ARRAY = {"accept": "application/json"}


@dataclass(frozen=True)
class World:
    streams: Streams
    app: FastAPI


@pytest.fixture
def world() -> World:
    return world_of(MemoryStore())


def world_of(store: Store, options: StreamOptions | None = None) -> World:
    streams = Streams(store, options=options)
    app = FastAPI(lifespan=streams.lifespan)

    @app.api_route("/read/{path:path}", methods=["GET", "HEAD"])
    async def read(path: str, request: Request, start: str = "start", slow: str = "resume") -> Any:
        return streams.subscribe(path, request, start=start, slow=slow)

    @app.api_route("/run/{path:path}", methods=["GET", "HEAD"])
    async def run(path: str, request: Request) -> Any:
        return (await streams.run(path, source(path))).response(request)

    return World(streams, app)


async def source(kind: str) -> AsyncIterator[Any]:
    if kind != "fails-at-once":
        yield {"n": 1}
        yield Event({"n": 2}, event="step")
    if kind.startswith("fails"):
        raise ValueError("secret")
    while kind == "endless":
        await anyio.sleep(1)
        yield 0


@dataclass(frozen=True)
class Got:
    status: int
    headers: Headers
    body: bytes

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["code"]
        return code


async def get(world: World, target: str, headers: Mapping[str, str] = EVENTS) -> Got:
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", target, headers=headers) as exchange:
            start = await exchange.response()
            return Got(start.status, start.headers, await exchange.read_all())


# Formats -----------------------------------------------------------------------------------------


async def test_events_carry_offsets_names_and_the_end(world: World) -> None:
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", "/run/a", headers=EVENTS) as exchange:
            events = [event async for event in exchange.events()]
        assert [(event.event, event.data) for event in events] == [
            ("message", '{"n":1}'),
            ("step", '{"n":2}'),
            ("end", "{}"),
        ]
        back = {**EVENTS, "last-event-id": events[0].id or ""}
        async with client.open("GET", "/run/a", headers=back) as exchange:
            assert [event.event async for event in exchange.events()] == ["step", "end"]


async def test_lines_are_what_a_client_gets_that_takes_anything(world: World) -> None:
    got = await get(world, "/run/a", {})
    assert got.headers["content-type"] == "application/jsonl"
    assert got.body == b'{"n":1}\n{"event":"step","data":{"n":2}}\n'


@pytest.mark.parametrize("headers", [{}, {"last-event-id": "of another server"}])
async def test_lines_say_that_they_are_all_where_that_is_asked_for(
    world: World, headers: dict[str, str]
) -> None:
    streams = world.streams
    await streams.append("closed", 1)
    await streams.close("closed")

    @world.app.get("/marked/{kind}")
    async def marked(kind: str, request: Request) -> Any:
        if kind == "closed":
            return streams.subscribe(kind, request, start="start", end_mark=True)
        return (await streams.run(kind, source(kind))).response(request, end_mark=True)

    for kind in ("closed", "b"):
        got = await get(world, f"/marked/{kind}", headers)
        assert got.body.endswith(b'\n{"end":{}}\n')
        assert got.body.count(b"end") == 1
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", "/marked/fails") as exchange:
            with pytest.raises(Truncated) as caught:
                await exchange.read_all()
    assert b'{"end"' not in caught.value.partial


async def test_an_array_is_made_of_the_items(world: World) -> None:
    got = await get(world, "/run/a", ARRAY)
    assert json.loads(got.body) == [{"n": 1}, {"event": "step", "data": {"n": 2}}]
    assert "accept" in got.headers["vary"]


async def test_a_stream_of_bytes_is_sent_as_it_is(world: World) -> None:
    await world.streams.create("log", content_type="text/plain")
    await world.streams.append("log", "one\n")
    await world.streams.append("log", "two\n")
    await world.streams.close("log")
    got = await get(world, "/read/log", {})
    assert (got.headers["content-type"], got.body) == ("text/plain", b"one\ntwo\n")


async def test_a_stream_of_text_is_sent_as_events_where_they_are_asked_for(world: World) -> None:
    await world.streams.create("log", content_type="text/plain")
    await world.streams.append("log", "one")
    await world.streams.close("log")
    assert b"data: one\n" in (await get(world, "/read/log")).body


async def test_a_stream_of_a_type_called_as_one_of_our_formats_is_sent_as_it_is(
    world: World,
) -> None:
    await world.streams.create("log", content_type="application/jsonl")
    await world.streams.append("log", b"no json at all")
    await world.streams.close("log")
    assert (await get(world, "/read/log", LINES)).body == b"no json at all"


async def test_a_format_that_there_is_not_is_refused(world: World) -> None:
    await world.streams.append("a", 1)
    got = await get(world, "/read/a", {"accept": "image/png"})
    assert (got.status, got.code) == (406, "not_acceptable")


# Ends --------------------------------------------------------------------------------------------


async def test_a_run_that_fails_ends_with_an_event(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    got = await get(world, "/run/fails")
    assert b"event: error\n" in got.body
    assert b"stream_failed" in got.body
    assert b"secret" not in got.body


@pytest.mark.parametrize("headers", [LINES, ARRAY], ids=["lines", "array"])
async def test_where_a_failure_cannot_end_the_body_it_is_cut(
    world: World, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", "/run/fails", headers=headers) as exchange:
            with pytest.raises(Truncated):
                await exchange.read_all()


async def test_an_array_of_a_run_that_failed_before_its_first_item_is_an_error(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.framing.Framing.start_grace", 30.0)  # a slow machine's run
    got = await get(world, "/run/fails-at-once", ARRAY)
    assert (got.status, got.code) == (500, "stream_failed")


async def test_an_event_source_that_has_all_is_told_not_to_come_back(world: World) -> None:
    last = await world.streams.append("a", 1)
    await world.streams.close("a")
    got = await get(world, "/read/a", {**EVENTS, "last-event-id": last})
    assert (got.status, got.body) == (204, b"")


# Where to begin ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "last_event_id", "expected"),
    [
        ("/read/a", None, [0, 1, 2]),
        ("/read/a?start=now", None, []),
        ("/read/a?offset={1}", None, [2]),
        ("/read/a?offset=-1", None, [0, 1, 2]),
        ("/read/a?offset={0}", "{1}", [2]),
        ("/read/a?start=now", "{0}", [1, 2]),
    ],
)
async def test_the_client_s_place_goes_before_the_start(
    world: World, target: str, last_event_id: str | None, expected: list[int]
) -> None:
    offsets = [await world.streams.append("a", n) for n in range(3)]
    headers = dict(LINES)
    if last_event_id is not None:
        headers["last-event-id"] = last_event_id.format(*offsets)
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", target.format(*offsets), headers=headers) as exchange:
            await exchange.response()
            await settle()
            await world.streams.append("a", "new")
            await world.streams.close("a")
            lines = (await exchange.read_all()).splitlines()
    assert [json.loads(line) for line in lines] == [*expected, "new"]


FOREIGN = ["42", "a3f1c2e0-0000-4000", "9" * 16 + "_" + "9" * 16, "\xff", "x" * 5000]


@pytest.mark.parametrize("last", FOREIGN, ids=["number", "uuid", "offset", "bytes", "long"])
async def test_an_id_that_is_none_of_the_stream_s_begins_anew_with_a_gap(
    world: World, last: str
) -> None:
    await world.streams.append("a", 1)
    tail = await world.streams.append("a", 2)
    await world.streams.close("a")
    got = await get(world, "/read/a", {**EVENTS, "last-event-id": last})
    assert got.status == 200
    gap, one, two = [part for part in got.body.split(b"\n\n") if b"data: " in part]
    assert gap.startswith(b'event: gap\ndata: {"from":null,"to":"')
    assert (b"data: 1\n" in one, b"data: 2\n" in two) == (True, True)
    lines = await get(world, "/read/a", {**LINES, "last-event-id": last})
    assert [json.loads(line) for line in lines.body.splitlines()][1:] == [1, 2]
    # At the end of a stream too, where there is nothing else to send: the gap has its own id.
    there = await get(world, "/read/a?start=now", {**EVENTS, "last-event-id": last})
    assert (there.status, there.body.count(tail.encode())) == (200, 2)


async def test_an_id_of_another_stream_is_one_of_them(world: World) -> None:
    old = await world.streams.append("old", "longer than what the other stream has")
    await world.streams.append("a", 1)
    new = await world.streams.append("new", 0)
    await world.streams.close("a")
    for last in (old, new):
        got = await get(world, "/read/a", {**EVENTS, "last-event-id": last})
        assert got.status == 200
        assert b"event: gap" in got.body
        assert b"data: 1\n" in got.body


async def test_an_empty_id_is_none(world: World) -> None:
    await world.streams.append("a", 1)
    await world.streams.close("a")
    got = await get(world, "/read/a", {**EVENTS, "last-event-id": ""})
    assert b"gap" not in got.body


async def test_where_a_foreign_id_s_gap_cannot_be_told_it_is_an_error(world: World) -> None:
    await world.streams.append("a", 1)
    got = await get(world, "/read/a", {**ARRAY, "last-event-id": "42"})
    assert (got.status, got.code) == (410, "offset_gone")


async def test_a_place_that_is_none_is_refused(world: World) -> None:
    await world.streams.append("a", 1)
    got = await get(world, "/read/a?offset=here")
    assert (got.status, got.code) == (400, "invalid_offset")


@pytest.mark.parametrize("headers", [EVENTS, LINES], ids=["events", "lines"])
async def test_what_is_no_longer_retained_is_a_gap_that_is_told(
    world: World, headers: dict[str, str]
) -> None:
    await world.streams.create("a", retention=Retention(max_records=2))
    first = await world.streams.append("a", 0)
    for n in range(1, 10):
        await world.streams.append("a", n)
    await world.streams.close("a")
    got = await get(world, "/read/a", {**headers, "last-event-id": first})
    assert got.status == 200
    assert b"gap" in got.body
    assert got.body.index(b"gap") < got.body.index(b"9")


async def test_where_a_gap_cannot_be_told_it_is_an_error(world: World) -> None:
    await world.streams.create("a", retention=Retention(max_records=2))
    first = await world.streams.append("a", 0)
    for n in range(1, 10):
        await world.streams.append("a", n)
    got = await get(world, f"/read/a?offset={first}", ARRAY)
    assert (got.status, got.code) == (410, "offset_gone")


async def test_a_stream_that_was_made_anew_is_a_gap_too(world: World) -> None:
    old = await world.streams.append("a", 0)
    await world.streams.delete("a")
    await world.streams.append("a", 1)
    await world.streams.close("a")
    got = await get(world, "/read/a", {**EVENTS, "last-event-id": old})
    assert b"event: gap" in got.body
    assert b"data: 1\n" in got.body


# Streams that are not there ----------------------------------------------------------------------


@pytest.mark.parametrize("headers", [EVENTS, LINES, ARRAY], ids=["events", "lines", "array"])
async def test_a_stream_that_does_not_exist_is_waited_for(
    world: World, headers: dict[str, str]
) -> None:
    async with no_leaks():
        async with Client(world.app, lifespan=True) as client:
            async with client.open("GET", "/read/a?start=now", headers=headers) as exchange:
                await settle()
                assert await world.streams.list() == []
                await world.streams.append("a", {"n": 1})
                await world.streams.append("a", {"n": 2})
                await world.streams.close("a")
                body = await exchange.read_all()
    assert body.count(b'{"n":') == 2


async def test_a_store_that_fails_while_a_stream_is_waited_for_is_told(clock: Clock) -> None:
    store = shared_store()
    link = Link(store)
    async with Client(world_of(link).app) as client:
        async with client.open("GET", "/read/a", headers=EVENTS) as exchange:
            await exchange.response()
            await settle()
            link.failing = True
            await Streams(store).append("a", 1)
            begin = await exchange.read_until(b": keep-alive\n\n")
            assert begin == b"retry: 1000\n\n: keep-alive\n\n"
            told = await exchange.read_until(b"\n\n")
            assert told.startswith(b'event: error\ndata: {"error":{"code":"store_unavailable"')
            with pytest.raises(Truncated) as truncated:
                await exchange.read()
    assert isinstance(truncated.value.__cause__, StoreUnavailable)


async def test_events_begin_before_there_is_a_stream(clock: Clock) -> None:
    world = world_of(shared_store())
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", "/read/a", headers=EVENTS) as exchange:
            start = await exchange.response()
            assert start.headers["content-type"].startswith("text/event-stream")
            begin = await exchange.read_until(b": keep-alive\n\n")
            assert begin == b"retry: 1000\n\n: keep-alive\n\n"
            await clock.advance(15.5)
            assert await exchange.read() == b": keep-alive\n\n"


@pytest.mark.parametrize(("blank_lines", "beat"), [(False, b""), (True, b"\n")])
async def test_lines_have_a_heartbeat_where_it_is_asked_for(
    clock: Clock, blank_lines: bool, beat: bytes
) -> None:
    world = world_of(MemoryStore(), StreamOptions(heartbeat=15, blank_lines=blank_lines))
    async with (
        Client(world.app) as client,
        client.open("GET", "/read/a", headers=LINES) as exchange,
    ):
        await clock.advance(16)  # it waits for the stream
        await world.streams.append("a", 1)
        await clock.advance(16)  # and then for more of it
        await exchange.leave()
        await exchange.finished()
        body = b"".join(sent.message.get("body", b"") for sent in exchange.sends)
    assert body == beat * 2 + b"1\n" + beat


async def test_who_leaves_while_he_waits_leaves_nothing(world: World) -> None:
    async with Client(world.app, lifespan=True) as client:
        await settle()
        async with no_leaks(), client.open("GET", "/read/a", headers=EVENTS) as exchange:
            await exchange.read()
            await exchange.leave()
            await exchange.finished()


async def test_who_waits_is_told_when_the_server_stops(world: World) -> None:
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", "/read/a", headers=EVENTS) as exchange:
            await exchange.read()
            drained = await drain(1)
            assert (drained.ended, drained.cut) == (1, 0)
            assert b"event: farewell" in await exchange.read_all()


async def test_a_path_that_no_stream_can_have_is_refused(world: World) -> None:
    got = await get(world, "/read/__ds/runs/x", EVENTS)
    assert (got.status, got.code) == (400, "invalid_request")


async def test_a_store_that_does_not_work_is_an_answer() -> None:
    link = Link(MemoryStore())
    world = world_of(link)
    async with Client(world.app, lifespan=True) as client:
        link.failing = True
        async with client.open("GET", "/read/a", headers=EVENTS) as exchange:
            assert (await exchange.response()).status == 503
            told = json.loads(await exchange.read_all())
            assert told["code"] == "store_unavailable"
            assert "link" not in told["detail"]
        link.failing = False


async def test_a_policy_for_slow_clients_that_is_none_is_refused(world: World) -> None:
    async with Client(world.app, lifespan=True) as client:
        with pytest.raises(InvalidOption, match="slow"):
            async with client.open("GET", "/read/a?slow=x", headers=EVENTS) as exchange:
                await exchange.response()


# The response ------------------------------------------------------------------------------------


async def test_headers_that_the_application_sets_are_sent(world: World) -> None:
    streams = world.streams

    @world.app.get("/with-headers")
    async def with_headers(request: Request) -> Any:
        response = streams.subscribe("a", request, start="start")
        response.headers["x-name"] = "value"
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    await streams.append("a", 1)
    await streams.close("a")
    got = await get(world, "/with-headers")
    assert got.headers["x-name"] == "value"
    assert len(got.headers.getlist("set-cookie")) == 2
    assert got.headers["content-type"].startswith("text/event-stream")


async def test_a_background_task_runs_when_it_is_over(world: World) -> None:
    ran: list[Any] = []

    @world.app.get("/with-background")
    async def with_background(request: Request) -> Any:
        response = world.streams.subscribe("a", request, start="start")
        response.background = BackgroundTask(ran.append, 1)
        return response

    await world.streams.append("a", 1)
    await world.streams.close("a")
    await get(world, "/with-background")
    assert ran == [1]


@pytest.mark.parametrize("headers", [EVENTS, LINES, ARRAY], ids=["events", "lines", "array"])
async def test_head_sends_the_headers_only(world: World, headers: dict[str, str]) -> None:
    @world.app.head("/read-head")
    async def read_head(request: Request) -> Any:
        return world.streams.subscribe("a", request)

    async with Client(world.app, lifespan=True) as client:
        for _ in range(2):
            async with client.open("HEAD", "/read-head", headers=headers) as exchange:
                assert (await exchange.response()).status == 200
                assert await exchange.read_all() == b""
            await world.streams.append("a", 1)


# Clients of runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [EVENTS, LINES, ARRAY], ids=["events", "lines", "array"])
async def test_a_client_that_leaves_ends_the_run(world: World, headers: dict[str, str]) -> None:
    async with Client(world.app, lifespan=True) as client:
        async with client.open("GET", "/run/endless", headers=headers) as exchange:
            await exchange.read()
            assert not (await world.streams.head("endless")).closed
            await exchange.leave()
            await exchange.finished()
        await settle()
        assert (await world.streams.head("endless")).closed


# What a client has stored is not run as a page --------------------------------------------------

ACCEPTS = [
    *("text/html,*/*;q=0.8", "*/*", "text/event-stream", "application/json", "text/plain"),
    *("image/png", "application/jsonl"),
]


@pytest.mark.parametrize("path", ["page", "picture", "json", "closed", "run", "missing"])
async def test_no_answer_of_a_stream_is_a_page_of_the_applications_origin(
    world: World, path: str
) -> None:
    streams = world.streams
    script = b"<script>document.title</script>"
    async with Client(world.app, lifespan=True) as client:
        for name, kind in (("page", "text/html"), ("picture", "image/svg+xml")):
            await streams.create(name, content_type=kind)
            await streams.append(name, script)
        await streams.append("json", script.decode())
        await streams.append("closed", script.decode())
        await streams.close("closed")
        target = "/run/ends" if path == "run" else f"/read/{path}"
        for method, accept in product(("HEAD", "GET"), ACCEPTS):
            async with client.open(method, target, headers={"accept": accept}) as exchange:
                start = await exchange.response()
                assert start.status != 405
                assert start.headers.getlist("content-security-policy") == ["sandbox"]
                assert start.headers.getlist("x-content-type-options") == ["nosniff"]
                # Nor given by a cache to somebody else, or held back by a proxy.
                assert start.headers.getlist("cache-control") == ["no-store"]
                if start.status == 200:
                    assert start.headers.getlist("x-accel-buffering") == ["no"]


async def test_the_answer_that_ends_an_event_source_is_not_kept(world: World) -> None:
    async with Client(world.app, lifespan=True) as client:
        last = await world.streams.append("closed", 1)
        await world.streams.close("closed")
        back = {**EVENTS, "last-event-id": str(last)}
        async with client.open("GET", "/read/closed", headers=back) as exchange:
            start = await exchange.response()
            assert (start.status, start.headers["cache-control"]) == (204, "no-store")


OF_ITS_OWN = {
    "content-security-policy": "default-src 'none'",
    "cache-control": "public, max-age=5",
    "x-accel-buffering": "yes",
}


async def test_what_an_application_says_of_a_stream_goes_before(world: World) -> None:
    streams = world.streams

    @world.app.get("/own/{path}")
    async def own(path: str, request: Request) -> Any:
        response = streams.subscribe(path, request, start="start")
        response.headers.update(OF_ITS_OWN)
        return response

    async with Client(world.app, lifespan=True) as client:
        await streams.create("page", content_type="text/html")
        await streams.append("json", 1)
        for path, accept in (("page", "*/*"), ("json", "application/json"), ("json", "*/*")):
            async with client.open("GET", f"/own/{path}", headers={"accept": accept}) as exchange:
                headers = (await exchange.response()).headers
                assert {name: headers.getlist(name) for name in OF_ITS_OWN} == {
                    name: [value] for name, value in OF_ITS_OWN.items()
                }
