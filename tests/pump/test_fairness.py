"""A tight source freezes nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.types import Message

from tailrace import EventSourceResponse, StreamingResponse, StreamOptions, limits
from tailrace.testing import Client, SourceProbe

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("chunk", [b"", b"x", b"x" * 100_000])
async def test_an_endless_source_without_an_await_lets_other_tasks_run(chunk: bytes) -> None:
    probe = SourceProbe()

    async def source() -> AsyncIterator[bytes]:
        with probe.inside():
            while True:
                yield chunk

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange, anyio.create_task_group() as group:

            async def read() -> None:
                await exchange.read_all()

            group.start_soon(read)
            await probe.started.wait()
            for _ in range(10):
                await anyio.sleep(0.001)
            await exchange.leave()
            await exchange.finished()
    assert probe.closed.is_set()


async def test_a_source_that_polls_by_sleeping_zero_lets_other_tasks_run() -> None:
    ready = False

    async def source() -> AsyncIterator[bytes]:
        while not ready:
            await anyio.sleep(0)
        yield b"ready"

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await anyio.sleep(0.01)
            ready = True
            assert await exchange.read_all() == b"ready"


class _Cycle:
    """As uvicorn's record of a request: a `send` that never waits, and takes its time."""

    def __init__(self) -> None:
        self.sent = b""
        self.disconnected = False
        self.message_event = asyncio.Event()
        self.transport = self

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nothing comes")

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        raise AssertionError("the client takes all")

    async def send(self, message: Message) -> None:
        time.sleep(2 * limits.TURN_BUDGET)  # noqa: ASYNC251 - a busy machine
        self.sent += message.get("body", b"")


def test_a_write_that_takes_longer_than_a_turn_is_made_in_a_timer_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kind of fault: in a timer's callback anyio does not know its event loop."""
    monkeypatch.setattr("tailrace.pump.stream.sends_in_steps", lambda send: True)

    async def source() -> AsyncIterator[str]:
        await asyncio.sleep(0.05)
        yield "first"
        await asyncio.sleep(0.05)
        yield "second"
        await asyncio.sleep(0.05)

    options = StreamOptions(heartbeat=0.02, start_grace=0.01)
    response = EventSourceResponse(source(), options=options)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    cycle = _Cycle()
    asyncio.run(response(scope, cycle.receive, cycle.send))  # as uvicorn does, without anyio
    assert cycle.sent.replace(b": keep-alive\n\n", b"") == b"data: first\n\ndata: second\n\n"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_thread_that_is_faster_than_the_writes_leaves_the_loop_its_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailrace.pump.stream.sends_in_steps", lambda send: True)
    cycle, turns = _Cycle(), 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0)
            turns += 1

    response = StreamingResponse(b"x" * 60_000 for _ in range(20))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await response(scope, cycle.receive, cycle.send)
        group.cancel_scope.cancel()
    assert len(cycle.sent) == 1_200_000
    assert turns >= 10
