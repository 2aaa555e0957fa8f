"""A response that goes out in one message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from tailrace import StreamOptions, stats
from tailrace.connection import Ending
from tailrace.pump import Head, send_whole
from tailrace.testing import Clock, no_leaks

pytestmark = pytest.mark.anyio

HEAD = Head(200, [(b"content-length", b"5")])
SCOPE = {"type": "http", "method": "GET", "path": "/"}


async def whole(send: Callable[[Any], Awaitable[None]], body: bytes = b"hello") -> Ending:
    return await send_whole(body, StreamOptions(send_timeout=7), HEAD, SCOPE, None, send)


async def test_it_is_a_start_and_one_body() -> None:
    before, sent = stats(), []

    async def send(message: Any) -> None:
        sent.append(message)

    async with no_leaks():
        assert await whole(send) is Ending.COMPLETE
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": HEAD.headers},
        {"type": "http.response.body", "body": b"hello", "more_body": False},
    ]
    assert stats().complete == before.complete + 1
    assert stats().bytes_sent == before.bytes_sent + 5


async def test_without_a_body_it_is_not_counted() -> None:
    before = stats()

    async def send(message: Any) -> None:
        """Take it."""

    await whole(send, b"")
    assert stats() == before


async def test_a_client_that_takes_nothing_is_cut_off(clock: Clock) -> None:
    before = stats().stalled
    endings: list[Ending] = []

    async def send(message: Any) -> None:
        await anyio.sleep_forever()

    async def respond() -> None:
        endings.append(await whole(send))

    async with no_leaks(), anyio.create_task_group() as group:
        group.start_soon(respond)
        await clock.advance(6.9)
        assert not endings
        await clock.advance(0.2)
    assert endings == [Ending.STALLED]
    assert stats().stalled == before + 1


async def test_a_client_that_has_left_is_no_error() -> None:
    before = stats()

    async def send(message: Any) -> None:
        raise ConnectionResetError("gone")

    assert await whole(send) is Ending.LEFT
    assert stats().left == before.left + 1
    assert stats().bytes_sent == before.bytes_sent


async def test_what_the_server_raises_is_raised() -> None:
    before = stats().failed

    async def send(message: Any) -> None:
        raise RuntimeError("not allowed now")

    with pytest.raises(RuntimeError, match="not allowed now"):
        await whole(send)
    assert stats().failed == before + 1
