"""Servers that follow each other in one loop; each kind is in `tests/sockets/test_stopping.py`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from threading import Event
from types import FunctionType, SimpleNamespace
from typing import Any

import httpx2
import pytest
import uvicorn

from tailrace import EventSourceResponse, limits
from tailrace.connection.watching import Server, find_server


def _serve(self: object) -> Server | None:
    return find_server()


def worker_serve(context: object) -> Server | None:
    return find_server()


@pytest.mark.parametrize(
    ("module", "function", "holds", "missing"),
    [
        ("uvicorn.server", _serve, object(), "_uvicorn found no 'object' object has no attribute"),
        (
            "hypercorn.trio.run",
            worker_serve,
            SimpleNamespace(terminated=Event()),
            "_hypercorn found no 'config'",
        ),
    ],
)
def test_of_a_server_that_is_made_differently_nothing_is_seen_and_that_is_logged(
    module: str,
    function: FunctionType,
    holds: object,
    missing: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = FunctionType(
        function.__code__, {"__name__": module, "find_server": find_server}, function.__name__
    )
    assert known(holds) is None
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert missing in line.getMessage()
    assert "call tailrace.drain() when it stops" in line.getMessage()


async def served_once(seconds: float) -> str:
    """What a server sends of one stream; it has ended when this returns."""

    async def source() -> AsyncIterator[str]:
        await asyncio.sleep(seconds)
        yield "hello"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(source())(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error"))
        serving = asyncio.create_task(server.serve([listening]))
        try:
            async with httpx2.AsyncClient() as client:
                address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
                return (await client.get(address)).text
        finally:
            server.should_exit = True
            await serving


async def one_after_the_other() -> list[str]:
    # The first stream outlives one look, and the next look falls into the second one.
    return [await served_once(limits.SERVER_WATCH * 1.1) for _ in range(2)]


@pytest.mark.slow
def test_a_stream_is_not_ended_by_a_server_that_stopped_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SERVER_WATCH", 0.5)
    assert asyncio.run(one_after_the_other()) == ["data: hello\n\n"] * 2
