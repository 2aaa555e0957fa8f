"""Where `send` is driven by hand: by the task of the source, and by the clock's callback.

It is plain asyncio, as under a server: anyio's tests tell every callback the kind of event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message, Scope

from tailrace import EventSourceResponse, StreamingResponse, StreamOptions, limits
from tailrace.pump import stream

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1"}


@pytest.fixture(autouse=True)
def _in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "sends_in_steps", lambda send: True)


def test_a_heartbeat_that_takes_long_does_not_end_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TURN_BUDGET", 0)  # as on a machine that is busy
    sent: list[Message] = []

    async def main() -> None:
        go_on, never = asyncio.Event(), asyncio.Event()

        async def source() -> AsyncIterator[str]:
            await go_on.wait()
            yield "last"

        async def receive() -> Message:
            await never.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)
            if message.get("body") == b": keep-alive\n\n":
                go_on.set()

        response = EventSourceResponse(source(), options=StreamOptions(heartbeat=0.01))
        await asyncio.wait_for(response(SCOPE, receive, send), 10)

    asyncio.run(main())
    assert b"data: last\n\n" in b"".join(message.get("body", b"") for message in sent)
    assert sent[-1]["more_body"] is False


def test_a_thread_that_is_faster_than_the_writes_leaves_the_loop_its_turns() -> None:
    sent, turns = bytearray(), 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> None:
        never = asyncio.Event()

        async def receive() -> Message:
            await never.wait()
            raise AssertionError("nothing comes")

        async def send(message: Message) -> None:
            time.sleep(2 * limits.TURN_BUDGET)  # noqa: ASYNC251 - a busy machine
            sent.extend(message.get("body", b""))

        counting = asyncio.create_task(count())
        await StreamingResponse(b"x" * 60_000 for _ in range(20))(SCOPE, receive, send)
        counting.cancel()

    asyncio.run(main())
    assert len(sent) == 1_200_000
    assert turns >= 10
