"""A tight source freezes nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from tailrace import StreamingResponse
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
