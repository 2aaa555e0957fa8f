"""The order and the shape of messages: what a strict server refuses."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import FileResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from tailrace.testing import Client, ProtocolViolation

START = {"type": "http.response.start", "status": 200, "headers": []}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}
LAST = {"type": "http.response.body", "body": b"x"}


def start(*headers: Any, status: Any = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, **more}


VIOLATIONS: dict[str, tuple[list[Any], str]] = {
    "a body before the start": ([MORE], "before http.response.start"),
    "a second start": ([START, START], "a second http.response.start"),
    "a message after the end": ([START, LAST, LAST], "after the response was complete"),
    "a start after the end": ([START, LAST, START], "after the response was complete"),
    "a message of no known type": ([{"type": "http.request"}], "'http.request'"),
    "an extension that was not offered": (
        [START, {"type": "http.response.pathsend", "path": "/etc/hostname"}],
        "'http.response.pathsend'",
    ),
    "a body of str": ([START, body("x")], "a body of str"),
    "a body of bytearray": ([START, body(bytearray(b"x"))], "a body of bytearray"),
    "a body of memoryview": ([START, body(memoryview(b"x"))], "a body of memoryview"),
    "more_body that is no bool": ([START, body(b"", more_body=1)], "more_body=1"),
    "a status that is no int": ([start(status="200")], "status='200'"),
    "a status of four digits": ([start(status=2000)], "status=2000"),
    "a header of str": ([start(("a", "b"))], "give bytes"),
    "a header without a value": ([start((b"a",))], "give a name and a value"),
    "a header name in capitals": ([start((b"A", b"b"))], "lower-case"),
    "a header name with a space": ([start((b"a b", b"c"))], "lower-case"),
    "a line break in a header": ([start((b"a", b"b\r\nc: d"))], "line break"),
    "a length that is no number": ([start((b"content-length", b"-1"))], "not a number"),
    "a body over its length": ([start((b"content-length", b"0")), LAST], "longer"),
    "a body under its length": ([start((b"content-length", b"2")), LAST], "1 bytes shorter"),
}


def sending(messages: list[dict[str, Any]]) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


@pytest.mark.anyio
@pytest.mark.parametrize("case", VIOLATIONS)
async def test_a_violation_raises_in_the_application(case: str) -> None:
    messages, complaint = VIOLATIONS[case]
    async with Client(sending(messages)) as client, client.open("GET", "/") as exchange:
        error = (await exchange.finished()).error
    assert isinstance(error, ProtocolViolation)
    assert complaint in str(error)


@pytest.mark.anyio
async def test_a_violation_that_the_application_hides_is_still_told() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(RuntimeError):
            await send(MORE)
        await sending([START, LAST])(scope, receive, send)

    async with Client(app) as client:
        with pytest.raises(ProtocolViolation, match="before"):
            async with client.open("GET", "/") as exchange:
                assert await exchange.read_all() == b"x"


@pytest.mark.anyio
async def test_an_application_must_return_none() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> Any:
        await sending([START, LAST])(scope, receive, send)
        return "done"

    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert isinstance((await exchange.finished()).error, ProtocolViolation)


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
async def test_a_response_without_a_body_may_name_a_length(method: str, status: int) -> None:
    messages = [start((b"content-length", b"5"), status=status), body(b"")]
    async with Client(sending(messages)) as client, client.open(method, "/") as exchange:
        assert await exchange.read_all() == b""
        assert (await exchange.finished()).complete


@pytest.mark.anyio
async def test_a_message_of_an_offered_extension_adds_nothing_to_the_body() -> None:
    messages: list[dict[str, Any]] = [{"type": "http.response.debug", "info": {}}, START, LAST]
    async with (
        Client(sending(messages)) as client,
        client.open("GET", "/", extensions={"http.response.debug": {}}) as exchange,
    ):
        assert await exchange.read_all() == b"x"
        assert exchange.sends[0].message["info"] == {}


@pytest.mark.anyio
async def test_a_file_sent_by_its_path_is_the_body(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"from a file")
    async with Client(FileResponse(path)) as client:
        offered: dict[str, Any] = {"http.response.pathsend": {}}
        async with client.open("GET", "/", extensions=offered) as exchange:
            assert await exchange.read_all() == b"from a file"
            assert exchange.sends[1].message["type"] == "http.response.pathsend"


@pytest.mark.anyio
async def test_a_path_to_send_is_absolute() -> None:
    messages: list[dict[str, Any]] = [START, {"type": "http.response.pathsend", "path": "file"}]
    async with Client(sending(messages)) as client:
        offered: dict[str, Any] = {"http.response.pathsend": {}}
        async with client.open("GET", "/", extensions=offered) as exchange:
            assert "absolute" in str((await exchange.finished()).error)


@pytest.mark.anyio
async def test_a_part_of_a_descriptor_is_sent_from_an_offset_or_its_position(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = os.open(path, os.O_RDONLY)
    try:
        part = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
        messages = [
            START,
            {**part, "offset": 3, "count": 2},
            {**part, "count": 4},
            {**part, "more_body": False},
        ]
        async with Client(sending(messages)) as client:
            offered: dict[str, Any] = {"http.response.zerocopysend": {}}
            async with client.open("GET", "/", extensions=offered) as exchange:
                assert await exchange.read_all() == b"34" + b"0123" + b"456789"
    finally:
        os.close(file)


@pytest.mark.anyio
async def test_a_plain_starlette_response_passes() -> None:
    async with (
        Client(PlainTextResponse("hello", 201)) as client,
        client.open("GET", "/") as exchange,
    ):
        start = await exchange.response()
        assert (start.status, start.headers["content-length"]) == (201, "5")
        assert await exchange.read_all() == b"hello"
