"""Whether a client of uvicorn has left: seen in what uvicorn keeps of the request."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Scope

from tailrace.connection import leaving_of
from tailrace.testing import settle

pytestmark = pytest.mark.anyio

PART: Message = {"type": "http.request", "body": b"part", "more_body": True}
END: Message = {"type": "http.request", "body": b"", "more_body": False}
LENGTH = (b"content-length", b"4")


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn runs on asyncio."""
    return "asyncio"


class Transport:
    def __init__(self) -> None:
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing


class Cycle:
    """As uvicorn's: its event is set while a message waits, and when the client has left."""

    def __init__(self, *messages: Message) -> None:
        self.disconnected = False
        self.response_complete = False
        self.message_event = asyncio.Event()
        self.transport = Transport()
        self.messages = list(messages)
        if messages:
            self.message_event.set()

    def come(self, message: Message) -> None:
        self.messages.append(message)
        self.message_event.set()

    def lose(self) -> None:
        self.disconnected = True
        self.message_event.set()

    async def receive(self) -> Message:
        await self.message_event.wait()
        self.message_event.clear()
        return {"type": "http.disconnect"} if self.disconnected else self.messages.pop(0)

    async def send(self, message: Message) -> None:
        """Take it."""


def scope_of(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": "POST", "headers": list(headers)}


async def test_it_is_noticed_without_a_task() -> None:
    cycle, told = Cycle(END), []
    async with leaving_of(scope_of(), cycle.receive, cycle.send) as leaving:
        leaving.on_left(lambda: told.append("left"))
        tasks = len(asyncio.all_tasks())
        await settle()
        assert (len(asyncio.all_tasks()), told) == (tasks, [])
        cycle.lose()
        await settle()
    assert (leaving.left, told) == (True, ["left"])


async def test_one_that_has_left_before_is_noticed() -> None:
    cycle, told = Cycle(END), []
    cycle.lose()
    async with leaving_of(scope_of(), cycle.receive, cycle.send) as leaving:
        leaving.on_left(lambda: told.append("left"))
    assert told == ["left"]


async def test_no_part_of_a_body_is_taken() -> None:
    cycle, scope = Cycle(PART), scope_of(LENGTH)
    async with leaving_of(scope, cycle.receive, cycle.send) as leaving:
        await settle()
        assert cycle.messages == [PART]
        assert await cycle.receive() == PART
        leaving.look()
        await settle()
        cycle.come(END)
        await settle()
        assert cycle.messages == [END]
        assert await cycle.receive() == END


async def test_it_is_noticed_while_a_message_waits_that_nobody_takes() -> None:
    cycle, told = Cycle(PART), []
    async with leaving_of(scope_of(LENGTH), cycle.receive, cycle.send) as leaving:
        leaving.on_left(lambda: told.append("left"))
        cycle.lose()
        assert told == ["left"]
    assert cycle.messages == [PART]


async def test_one_response_inside_another_leaves_the_event_as_it_was() -> None:
    cycle, told = Cycle(PART), []
    outer = leaving_of(scope_of(LENGTH), cycle.receive, cycle.send)
    async with outer, leaving_of(scope_of(LENGTH), cycle.receive, cycle.send) as inner:
        assert inner is not outer
        outer.on_left(lambda: told.append("outer"))
        inner.on_left(lambda: told.append("inner"))
        cycle.lose()
        assert sorted(told) == ["inner", "outer"]
    assert "set" not in vars(cycle.message_event)


async def test_a_response_that_ends_before_a_later_one_does_not_take_the_event_from_uvicorn() -> (
    None
):
    cycle, told = Cycle(), []
    first = leaving_of(scope_of(), cycle.receive, cycle.send)
    later = leaving_of(scope_of(), cycle.receive, cycle.send)
    first.begin()
    later.begin()
    later.on_left(lambda: told.append("later"))
    await first.end()
    cycle.come(END)
    assert cycle.message_event.is_set()
    assert await cycle.receive() == END
    await later.end()
    cycle.lose()
    assert cycle.message_event.is_set()
    assert told == []


async def test_behind_a_body_that_was_read_it_is_noticed_at_once() -> None:
    cycle, told = Cycle({**PART, "more_body": False}), []
    assert (await cycle.receive())["body"] == b"part"
    async with leaving_of(scope_of(LENGTH), cycle.receive, cycle.send) as leaving:
        leaving.on_left(lambda: told.append("left"))
        cycle.lose()
        await settle()
    assert told == ["left"]


async def test_when_the_body_is_read_meanwhile_it_is_noticed_as_well() -> None:
    cycle, told = Cycle(PART), []
    async with leaving_of(scope_of(LENGTH), cycle.receive, cycle.send) as leaving:
        leaving.on_left(lambda: told.append("left"))
        await cycle.receive()
        cycle.lose()
    assert told == ["left"]


async def test_an_empty_body_can_still_be_read() -> None:
    cycle, scope = Cycle(END), scope_of()
    request = Request(scope, cycle.receive)
    async with leaving_of(scope, cycle.receive, cycle.send):
        assert await request.body() == b""


async def test_a_transport_that_closes_is_noticed_by_a_look() -> None:
    cycle, told = Cycle(END), []
    async with leaving_of(scope_of(), cycle.receive, cycle.send) as leaving:
        leaving.on_left(lambda: told.append("left"))
        cycle.transport.closing = True
        leaving.look()
    assert told == ["left"]


async def test_it_ends_when_uvicorn_knows_it_too() -> None:
    cycle = Cycle(END)
    async with leaving_of(scope_of(), cycle.receive, cycle.send):
        cycle.transport.closing = True
        asyncio.get_running_loop().call_soon(cycle.lose)
    assert cycle.disconnected


async def test_a_transport_that_the_server_closes_behind_the_end_is_no_leaving() -> None:
    cycle, told = Cycle(END), []
    async with leaving_of(scope_of(), cycle.receive, cycle.send) as leaving:
        leaving.on_left(lambda: told.append("left"))
        cycle.response_complete = cycle.transport.closing = True
        cycle.message_event.set()
        leaving.look()
    assert (leaving.left, told) == (False, [])


async def test_it_is_found_behind_send_where_receive_leads_nowhere() -> None:
    cycle, told = Cycle(END), []

    async def again() -> Message:
        return END

    async def passing(message: Message, send: Any) -> None:
        await send(message)

    send = partial(passing, send=cycle.send)
    async with leaving_of(scope_of(), again, send) as leaving:
        leaving.on_left(lambda: told.append("left"))
        cycle.lose()
        await settle()
    assert told == ["left"]


async def test_when_all_is_over_the_event_is_as_it_was_and_no_message_was_taken() -> None:
    cycle = Cycle(END)
    async with leaving_of(scope_of(), cycle.receive, cycle.send):
        await settle()
    cycle.come(END)
    await settle()
    assert cycle.messages == [END, END]
    assert "set" not in vars(cycle.message_event)
