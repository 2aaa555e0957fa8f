"""What a response held is given back as soon as it is over: no reference cycle keeps it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from starlette.types import Message

from tailrace import StreamingResponse

pytestmark = pytest.mark.anyio


class Held:
    """Something that a source has while it runs."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def receive() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


async def send(message: Message) -> None:
    pass


@pytest.mark.parametrize("items", [0, 1])
@pytest.mark.usefixtures("without_collector")
async def test_what_a_failing_source_held(items: int) -> None:
    """Kind of fault: the error is kept by something that its own traceback leads to."""
    held: list[weakref.ref[Held]] = []

    async def source() -> AsyncIterator[str]:
        inside = Held()
        held.append(weakref.ref(inside))
        for _ in range(items):
            yield "x"
        raise ValueError("on purpose")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ValueError, match="on purpose"):
        await StreamingResponse(source())(scope, receive, send)
    assert held[0]() is None


@pytest.mark.usefixtures("without_collector")
async def test_what_a_failing_sync_source_held() -> None:
    held: list[weakref.ref[Held]] = []

    def source() -> Iterator[str]:
        inside = Held()
        held.append(weakref.ref(inside))
        yield "x"
        raise ValueError("on purpose")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ValueError, match="on purpose"):
        await StreamingResponse(source())(scope, receive, send)
    assert held[0]() is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's own cancellation keeps its frames
@pytest.mark.usefixtures("without_collector")
async def test_what_a_source_held_that_waits_when_the_client_leaves() -> None:
    """Kind of fault: the frame that an interruption goes through keeps it, and its traceback."""
    held: list[weakref.ref[Held]] = []
    waits = anyio.Event()

    async def source() -> AsyncIterator[str]:
        inside = Held()
        held.append(weakref.ref(inside))
        yield "x"
        waits.set()
        await anyio.sleep_forever()

    async def leave() -> Message:
        await waits.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await StreamingResponse(source())(scope, leave, send)
    await anyio.sleep(0)  # the event loop holds the cancellation for the rest of its step
    assert held[0]() is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's own cancellation keeps its frames
@pytest.mark.usefixtures("without_collector")
async def test_what_a_source_held_when_the_server_fails() -> None:
    held: list[weakref.ref[Held]] = []

    async def source() -> AsyncIterator[str]:
        inside = Held()
        held.append(weakref.ref(inside))
        while True:
            yield "x"
            await anyio.sleep(0)

    async def fail(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise ValueError("on purpose")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ValueError, match="on purpose"):
        await StreamingResponse(source())(scope, receive, fail)
    assert held[0]() is None
