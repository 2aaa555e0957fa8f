"""A tight source freezes nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.types import Message

from tailrace import StreamingResponse, limits
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
