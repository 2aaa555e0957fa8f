"""Whether a client has left: what is asked of `receive`, by whom and when."""

from __future__ import annotations

import anyio
import pytest
from starlette.requests import Request
from starlette.types import Message, Scope

from tailrace.connection import Leaving, leaving_of
from tailrace.testing import settle

pytestmark = pytest.mark.anyio

LENGTH = (b"content-length", b"5")
BODY = {"type": "http.request", "body": b"hello", "more_body": False}
EMPTY = {"type": "http.request", "body": b"", "more_body": False}


class Server:
    """A server as strict as granian: a call that was cancelled means that the client has left.

    Args:
        messages: What comes before the client leaves.
        headers: Of the request.
    """

    def __init__(self, *messages: Message, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.scope: Scope = {"type": "http", "method": "POST", "headers": list(headers)}
        self.asked = 0
        self.at_once = 0
        self.gone = anyio.Event()
        self._messages = list(messages)

    async def receive(self) -> Message:
        self.asked += 1
        assert not self.at_once, "two calls at once"
        self.at_once += 1
        try:
            if self._messages:
                return self._messages.pop(0)
            await self.gone.wait()
        except BaseException:
            self.gone.set()
            raise
        finally:
            self.at_once -= 1
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take it."""


async def test_of_a_request_without_a_body_one_task_asks() -> None:
    server = Server(EMPTY)
    told: list[str] = []
    async with leaving_of(server.scope, server.receive, server.send) as leaving:
        leaving.on_left(lambda: told.append("first"))
        await settle()
        async with leaving_of(server.scope, server.receive, server.send) as again:
            assert again is leaving
            again.on_left(lambda: told.append("second"))
        await settle()
        assert (server.asked, told, leaving.left) == (2, [], False)
        server.gone.set()
        await settle()
        assert leaving.left
        leaving.on_left(lambda: told.append("third"))
    assert (server.asked, told) == (2, ["first", "second", "third"])
    assert "tailrace.leaving" not in server.scope


async def test_what_was_taken_back_is_not_called() -> None:
    server = Server(EMPTY)
    told: list[str] = []
    async with leaving_of(server.scope, server.receive, server.send) as leaving:
        take_back = leaving.on_left(lambda: told.append("called"))
        take_back()
        take_back()
        server.gone.set()
        await settle()
    assert told == []


async def test_an_error_passes_as_it_is() -> None:
    server = Server(EMPTY)

    async def respond() -> None:
        async with leaving_of(server.scope, server.receive, server.send):
            await settle()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await respond()


@pytest.mark.parametrize("header", [LENGTH, (b"transfer-encoding", b"chunked")])
async def test_of_a_body_that_nobody_is_known_to_have_read_nothing_is_taken(
    header: tuple[bytes, bytes],
) -> None:
    server = Server(BODY, headers=(header,))
    async with leaving_of(server.scope, server.receive, server.send) as leaving:
        await settle()
        leaving.look()
        await settle()
    assert server.asked == 0


@pytest.mark.parametrize("how", ["body", "stream"])
async def test_behind_a_body_that_the_request_has_read_the_leaving_is_asked_for(how: str) -> None:
    server = Server(BODY, headers=(LENGTH,))
    request = Request(server.scope, server.receive)
    if how == "body":
        assert await request.body() == b"hello"
    else:
        assert b"".join([part async for part in request.stream()]) == b"hello"
    async with leaving_of(server.scope, server.receive, server.send) as leaving:
        server.gone.set()
        await settle()
        assert leaving.left


async def test_a_request_that_is_too_many_callers_away_is_not_found_and_nothing_is_taken() -> None:
    server = Server(BODY, headers=(LENGTH,))
    request = Request(server.scope, server.receive)
    assert await request.body() == b"hello"
    asked = server.asked

    def called_from_afar(calls: int) -> Leaving:
        if calls:
            return called_from_afar(calls - 1)
        return leaving_of(server.scope, server.receive, server.send)

    async with called_from_afar(100):
        await settle()
    assert server.asked == asked


async def test_when_a_body_is_read_later_a_look_notices() -> None:
    server = Server(BODY, headers=(LENGTH,))
    request = Request(server.scope, server.receive)
    async with leaving_of(server.scope, server.receive, server.send) as leaving:
        await settle()
        assert await request.body() == b"hello"
        leaving.look()
        server.gone.set()
        await settle()
        assert leaving.left


async def test_the_empty_body_that_was_taken_can_still_be_read() -> None:
    server = Server(EMPTY)
    request = Request(server.scope, server.receive)
    async with leaving_of(server.scope, server.receive, server.send):
        await settle()
        assert await request.body() == b""
    assert server.asked == 2


@pytest.mark.parametrize("more", [False, True])
async def test_a_body_that_is_given_again_and_again_is_not_asked_for_any_more(more: bool) -> None:
    server = Server(*([{**EMPTY, "more_body": more}] * 1000))
    async with leaving_of(server.scope, server.receive, server.send):
        await settle()
    assert server.asked < 12


async def test_a_receive_that_fails_is_logged_and_the_response_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def receive() -> Message:
        raise RuntimeError("of a middleware")

    async with leaving_of({"type": "http"}, receive, Server().send) as leaving:
        await settle()
        assert not leaving.left
    assert "will not be noticed" in caplog.text


async def test_where_nothing_is_told_nobody_leaves() -> None:
    async with leaving_of({"type": "websocket"}, None, Server().send) as leaving:
        leaving.look()
        assert not leaving.left
