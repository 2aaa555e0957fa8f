"""What goes out together, and when."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from tailrace import StreamingResponse, StreamOptions
from tailrace.testing import Client, Clock, Exchange, wait_until

pytestmark = pytest.mark.anyio


def bodies(exchange: Exchange) -> list[bytes]:
    return [sent.body for sent in exchange.sends if sent.body]


async def test_the_first_chunk_of_an_async_source_goes_out_alone_and_at_once() -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}\n"

    app = StreamingResponse(source())
    async with Client(app) as client, client.open("GET", "/") as exchange:
        whole = await exchange.read_all()
    assert whole == b"".join(b"%d\n" % number for number in range(1000))
    assert bodies(exchange)[0] == b"0\n"


async def test_what_is_ready_goes_out_together_when_the_source_waits() -> None:
    go_on = anyio.Event()

    async def source() -> AsyncIterator[str]:
        yield "first "
        for _ in range(5):
            yield "more "
        await go_on.wait()
        yield "last"

    app = StreamingResponse(source())
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read_until(b"more more more more more ")
        assert bodies(exchange) == [b"first ", b"more more more more more "]
        go_on.set()
        assert await exchange.read_all() == b"last"


async def test_a_sleep_of_zero_after_each_item_does_not_split_batches(
    anyio_backend_name: str,
) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number:04}\n"
            await anyio.sleep(0)

    app = StreamingResponse(source())
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert len(await exchange.read_all()) == 5000
    if anyio_backend_name == "asyncio":  # trio has no way to tell such a sleep from a wait
        assert len(bodies(exchange)) < 100


async def test_what_a_sync_source_made_before_it_blocks_is_sent() -> None:
    unblock = threading.Event()

    def source() -> Iterator[str]:
        yield "one"
        yield "two"
        unblock.wait(10)
        yield "three"

    app = StreamingResponse(source())
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_exactly(6) == b"onetwo"
        unblock.set()
        assert await exchange.read_all() == b"three"


async def test_a_sync_source_is_put_together_into_batches() -> None:
    app = StreamingResponse(f"{number:05}\n" for number in range(50_000))
    async with Client(app) as client, client.open("GET", "/", window_bytes=1 << 20) as exchange:
        assert len(await exchange.read_all()) == 300_000
    assert len(bodies(exchange)) < 500


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_large_chunk_is_sent_in_parts_of_a_batch_each(kind: str) -> None:
    chunk = bytes(range(256)) * 1000

    async def source() -> AsyncIterator[bytes]:
        yield chunk

    content = [chunk] if kind == "sync" else source()
    app = StreamingResponse(content, options=StreamOptions(max_batch_bytes=4096))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_all() == chunk
    assert max(len(body) for body in bodies(exchange)) == 4096


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_client_that_does_not_read_stops_the_source(kind: str) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1000

    async def endless_async() -> AsyncIterator[bytes]:
        for chunk in endless():
            yield chunk

    content = endless() if kind == "sync" else endless_async()
    app = StreamingResponse(content)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await wait_until(lambda: exchange.blocked)
        with anyio.move_on_after(0.05):
            await exchange.finished()
        # The window, one batch being sent, one made: nothing else is ever held.
        assert taken * 1000 <= 3 * 65536 + 65536


async def test_empty_chunks_start_the_response_and_send_nothing(clock: Clock) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b""
        await anyio.sleep(100)
        yield b""
        yield b"end"

    app = StreamingResponse(source())
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await clock.settle()
        assert (await exchange.response()).status == 200
        await clock.advance(100)
        assert await exchange.read_all() == b"end"


async def test_an_empty_source_is_an_empty_body() -> None:
    app = StreamingResponse([])
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_all() == b""
        assert (await exchange.finished()).complete


async def test_context_variables_of_the_endpoint_reach_the_source_and_survive() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable")

    def sync() -> Iterator[str]:
        yield variable.get()
        variable.set("changed")
        yield variable.get()

    async def asynchronous() -> AsyncIterator[str]:
        for text in sync():
            yield text

    for content in (sync(), asynchronous()):
        response = StreamingResponse(content, options=StreamOptions(max_batch_bytes=1024))

        async def app(scope, receive, send, response=response) -> None:  # type: ignore[no-untyped-def]
            variable.set("set in the endpoint ")
            await response(scope, receive, send)

        async with Client(app) as client, client.open("GET", "/") as exchange:
            assert await exchange.read_all() == b"set in the endpoint changed"
