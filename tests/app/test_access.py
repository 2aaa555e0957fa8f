"""The access log."""

from __future__ import annotations

import json
import logging
import math
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tailrace import limits
from tailrace.app import ACCESS_LOGGER, AccessLog
from tailrace.testing import Client, Truncated
from tests.cli.running_serve import Running, running_uvicorn
from tests.rawhttp import Connection, request

pytestmark = pytest.mark.anyio

Lines = Callable[[], list[str]]

APP = Path(__file__).parent.parent / "apps" / "logged.py"


# Behind any server --------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, ACCESS_LOGGER)
    return lambda: caplog.messages


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await send({"type": "http.response.body", "body": b"def"})


async def entry_of(app: Any, lines: Lines, method: str = "GET", path: str = "/") -> Any:
    async with Client(AccessLog(app), raise_app_exceptions=False) as client:
        async with client.open(method, path) as exchange:
            with suppress(Truncated):
                await exchange.read()
    assert len(lines()) == 1
    return json.loads(lines()[0])


@pytest.mark.parametrize(
    ("prefixed", "logged"), [(True, "/files/a%20b"), (False, "/root/files/a%20b")]
)
async def test_the_path_is_as_it_came(lines: Lines, prefixed: bool, logged: str) -> None:
    async def answering(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = "/root/files"  # as a mount does
        await answer(scope, receive, send)

    log = AccessLog(answering, prefixed=prefixed)

    async def uvicorn(scope: Any, receive: Any, send: Any) -> None:
        await log({**scope, "root_path": "/root"}, receive, send)

    async with Client(uvicorn) as client, client.open("GET", "/root/files/a%20b") as exchange:
        await exchange.read_all()
        await exchange.finished()
    assert json.loads(lines()[0])["path"] == logged


async def test_a_response_is_one_line(lines: Lines) -> None:
    entry = await entry_of(answer, lines, path="/a%20b?key=secret")
    assert list(entry) == [
        *("time", "client", "method", "path", "status", "bytes", "duration", "first_byte"),
        "outcome",
    ]
    assert entry["method"] == "GET"
    assert entry["path"] == "/a%20b"
    assert (entry["status"], entry["bytes"], entry["outcome"]) == (201, 6, "complete")
    assert 0 <= entry["first_byte"] <= entry["duration"] < math.inf


async def test_the_query_is_not_logged(lines: Lines) -> None:
    await entry_of(answer, lines, path="/?token=secret")
    assert "secret" not in lines()[0]


async def test_a_body_of_head_counts_nothing(lines: Lines) -> None:
    entry = await entry_of(answer, lines, method="HEAD")
    assert (entry["bytes"], entry["outcome"]) == (0, "complete")


async def test_what_ends_without_its_last_message_was_cut(lines: Lines) -> None:
    async def unfinished(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})

    entry = await entry_of(unfinished, lines)
    assert (entry["bytes"], entry["outcome"]) == (3, "cut")


async def test_what_raises_has_failed_and_still_raises(lines: Lines) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("on purpose")

    async def call() -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/"}
    with pytest.raises(RuntimeError, match="on purpose"):
        await AccessLog(failing)(scope, call, call)  # type: ignore[arg-type] # not called
    entry = json.loads(lines()[0])
    assert (entry["status"], entry["first_byte"], entry["outcome"]) == (None, None, "failed")


async def test_a_client_has_left_when_the_servers_send_says_so(lines: Lines) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if sent:
            raise OSError("the client has left")
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/"}
    with pytest.raises(OSError, match="has left"):
        await AccessLog(answer)(scope, send, send)  # type: ignore[arg-type] # nothing is received
    entry = json.loads(lines()[0])
    assert (entry["status"], entry["bytes"], entry["outcome"]) == (201, 0, "left")


async def test_what_the_server_cancels_is_told_from_what_fails(lines: Lines) -> None:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise CancelledError

    async def call() -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/"}
    with pytest.raises(CancelledError):
        await AccessLog(cancelled)(scope, call, call)  # type: ignore[arg-type] # not called
    assert json.loads(lines()[0])["outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("message", "length", "size"),
    [
        ({"type": "http.response.pathsend", "path": "/x"}, b"42", 42),
        ({"type": "http.response.pathsend", "path": "/x"}, None, 0),
        ({"type": "http.response.zerocopysend", "file": 0, "count": 7}, b"42", 7),
        ({"type": "http.response.zerocopysend", "file": 0}, b"42", 42),
    ],
)
async def test_of_files_that_another_server_sends_the_said_size_is_counted(
    lines: Lines, message: dict[str, Any], length: bytes | None, size: int
) -> None:
    async def sending(scope: Any, receive: Any, send: Any) -> None:
        headers = [] if length is None else [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(message)

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/"}
    await AccessLog(sending)(scope, send, send)  # type: ignore[arg-type] # nothing is received
    entry = json.loads(lines()[0])
    assert (entry["bytes"], entry["outcome"]) == (size, "complete")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"/a\nb\x1b[2J\x7f", "/a%0Ab%1B[2J%7F"),
        (b"/\xff\xc3\xa4", "/%FF%C3%A4"),
        (b'/"\\', '/"\\'),
        (b"/" + b"x" * 5000, "/" + "x" * (limits.MAX_LOGGED_BYTES - 1) + "..."),
    ],
)
async def test_a_path_is_printable_and_not_too_long(lines: Lines, raw: bytes, shown: str) -> None:
    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": raw}
    await AccessLog(answer)(scope, send, send)  # type: ignore[arg-type] # nothing is received
    assert json.loads(lines()[0])["path"] == shown
    assert lines()[0].isascii()
    assert lines()[0].isprintable()


async def test_other_scopes_are_not_logged(lines: Lines) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], receive, send))

    async def call() -> None:
        pass

    await AccessLog(app)({"type": "lifespan"}, call, call)  # type: ignore[arg-type] # not called
    assert seen == [("lifespan", call, call)]
    assert lines() == []


async def test_nothing_is_wrapped_where_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, ACCESS_LOGGER)
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(send)

    async def send(message: Any) -> None:
        pass

    await AccessLog(app)({"type": "http", "method": "GET", "path": "/"}, send, send)  # type: ignore[arg-type] # not called
    assert seen == [send]


# Behind our own -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_uvicorn("tests.apps.logged:app") as running:
        yield running


def entry(server: Running, path: str) -> tuple[dict[str, Any], bytes]:
    body = request("127.0.0.1", server.port, path).body
    return server.entry(), body


@pytest.mark.parametrize("path", ["/text", "/events"])
def test_the_bytes_of_a_body_are_counted_without_their_framing(server: Running, path: str) -> None:
    line, body = entry(server, path)
    assert (line["path"], line["bytes"], line["outcome"]) == (path, len(body), "complete")


def test_the_bytes_of_a_file_that_the_server_sends_are_counted(server: Running) -> None:
    line, body = entry(server, "/file")
    assert body == APP.read_bytes()
    assert (line["bytes"], line["outcome"]) == (len(body), "complete")


def test_what_is_written_past_send_is_counted_with_its_framing(server: Running) -> None:
    line, body = entry(server, "/attached")
    assert body == b"first;second;third;"
    written = b"first;" + b"7\r\nsecond;\r\n" + b"6\r\nthird;\r\n"
    assert (line["bytes"], line["outcome"]) == (len(written), "complete")


def test_a_source_that_fails_is_told(server: Running) -> None:
    line, _ = entry(server, "/fails")
    assert (line["status"], line["bytes"], line["outcome"]) == (200, 5, "failed")


def test_an_error_that_was_answered_is_complete(server: Running) -> None:
    line, body = entry(server, "/broken")
    assert (line["status"], line["bytes"], line["outcome"]) == (500, len(body), "complete")


def test_a_client_that_leaves_is_told(server: Running) -> None:
    with Connection("127.0.0.1", server.port) as connection:
        connection.send("/endless")
        connection.read_head()
        sent = connection.read_chunk()
        assert sent
    line = server.entry()
    assert (line["bytes"], line["outcome"]) == (len(sent), "left")


def test_a_client_that_takes_nothing_is_told(server: Running) -> None:
    with Connection("127.0.0.1", server.port, receive_buffer=4096) as connection:
        connection.send("/flood")
        line = server.entry()
    assert line["outcome"] == "stalled"
    assert line["bytes"] > 0
    assert line["duration"] >= 0.4
