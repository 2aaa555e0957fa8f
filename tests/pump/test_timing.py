"""Start grace, heartbeat, send timeout and least rate, on a clock that the test moves."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from starlette.exceptions import HTTPException

from tailrace import EventSourceResponse, StreamingResponse, StreamOptions, stats
from tailrace.errors import InvalidEvent
from tailrace.testing import Client, Clock, SourceProbe, Truncated, wait_until

pytestmark = pytest.mark.anyio


async def never() -> AsyncIterator[str]:
    await anyio.sleep(1_000_000)
    yield "never"


async def chunks(count: int) -> AsyncIterator[bytes]:
    # Not a sync source: its thread would go by real time, and the test's clock would run past it.
    for _ in range(count):
        yield b"x" * 10_000


async def test_the_status_line_waits_for_the_first_item_no_longer_than_the_grace(
    clock: Clock,
) -> None:
    async with Client(StreamingResponse(never())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(0.099)
            assert exchange.sends == []
            await clock.advance(0.002)
            kinds = [sent.message["type"] for sent in exchange.sends]
            # The empty body makes servers and middlewares that keep the head back send it.
            assert kinds == ["http.response.start", "http.response.body"]


async def test_the_head_of_events_goes_out_at_once(clock: Clock) -> None:
    async with Client(EventSourceResponse(never())) as client:
        async with client.open("GET", "/") as exchange:
            assert (await exchange.response()).status == 200
            assert [sent.message["type"] for sent in exchange.sends] == ["http.response.start"]
            # Where the first event is late, servers that keep the head back are made to send it.
            await clock.advance(0.1)
            assert [sent.body for sent in exchange.sends[1:]] == [b""]


async def test_the_first_body_is_the_first_event_where_it_comes_in_time(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        await anyio.sleep(0.09)
        yield "first"

    async with Client(EventSourceResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(0.2)
            bodies = [sent.body for sent in exchange.sends[1:]]
    assert bodies == [b"data: first\n\n", b""]  # the last one ends the response


async def test_events_that_fail_before_they_wait_are_an_ordinary_error(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        raise HTTPException(404)
        yield ""

    async with Client(EventSourceResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            outcome = await exchange.finished()
    assert isinstance(outcome.error, HTTPException)
    assert exchange.sends == []


async def test_events_wait_for_the_first_one_if_they_are_asked_to(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        await anyio.sleep(0.05)
        raise HTTPException(404)
        yield ""

    app = EventSourceResponse(source(), options=StreamOptions(start_grace=0.1))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await clock.advance(0.06)
        outcome = await exchange.finished()
    assert isinstance(outcome.error, HTTPException)
    assert exchange.sends == []


async def test_an_error_within_the_grace_is_an_ordinary_error(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        await anyio.sleep(0.05)
        raise HTTPException(404)
        yield ""

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(0.06)
            outcome = await exchange.finished()
    assert isinstance(outcome.error, HTTPException)
    assert exchange.sends == []


async def test_an_error_after_the_grace_cuts_the_response(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        await anyio.sleep(5)
        raise HTTPException(404)
        yield ""

    async with Client(EventSourceResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(6)
            assert (await exchange.response()).status == 200
            with pytest.raises(Truncated) as caught:
                await exchange.read_all()
            await exchange.finished()
    assert b"event: error" in caught.value.partial


async def test_silence_is_broken_by_a_heartbeat(clock: Clock) -> None:
    async with Client(EventSourceResponse(never())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(46)
            assert (await exchange.read()).count(b"\n\n") == 3


async def test_an_event_puts_the_heartbeat_off(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        while True:
            await anyio.sleep(10)
            yield "tick"

    async with Client(EventSourceResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(100)
            body = await exchange.read()
    assert body.count(b"data: tick") == 10
    assert b":" not in body.replace(b"data: ", b"")


async def test_heartbeats_come_at_the_interval_that_is_asked_for_and_can_be_off(
    clock: Clock,
) -> None:
    for heartbeat, expected in ((1.0, 9), (None, 0)):
        app = EventSourceResponse(never(), options=StreamOptions(heartbeat=heartbeat))
        async with Client(app) as client, client.open("GET", "/") as exchange:
            await clock.advance(10)
            bodies = [sent.body for sent in exchange.sends if sent.body]
        assert len(bodies) == expected


@pytest.mark.parametrize("given", ["class", "argument"])
async def test_the_text_of_a_heartbeat_can_be_chosen(clock: Clock, given: str) -> None:
    class Pinging(EventSourceResponse):
        heartbeat_text = "ping"

    app = (
        Pinging(never())
        if given == "class"
        else EventSourceResponse(never(), heartbeat_text="ping")
    )
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await clock.advance(16)
        assert await exchange.read() == b": ping\n\n"


def test_a_text_of_a_heartbeat_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="surrogate"):
        EventSourceResponse([], heartbeat_text="\ud800")


async def test_an_event_that_cannot_be_written_is_told_by_its_number() -> None:
    async with Client(EventSourceResponse(["a", "\ud800"])) as client:
        async with client.open("GET", "/") as exchange:
            with pytest.raises(Truncated) as cut:
                await exchange.read_all()
    error = cut.value.__cause__
    assert isinstance(error, InvalidEvent)
    assert error.number == 2


async def test_a_raw_body_has_no_heartbeat(clock: Clock) -> None:
    async with Client(StreamingResponse(never())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(1000)
    assert all(sent.body == b"" for sent in exchange.sends)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_client_that_takes_nothing_is_cut_off_after_the_send_timeout(
    clock: Clock, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    probe = SourceProbe()

    def sync() -> Iterator[bytes]:
        with probe.inside():
            while True:
                yield b"x" * 10_000

    async def asynchronous() -> AsyncIterator[bytes]:
        with probe.inside():
            while True:
                yield b"x" * 10_000

    before = stats()
    content = sync() if kind == "sync" else asynchronous()
    with caplog.at_level(logging.INFO, "tailrace"):
        async with Client(StreamingResponse(content)) as client:
            async with client.open("GET", "/a%0Ab") as exchange:
                await wait_until(lambda: exchange.blocked)
                await clock.advance(29)
                assert not probe.closed.is_set()
                await clock.advance(2)
                outcome = await exchange.finished()
    assert outcome.truncated
    assert outcome.error is None
    assert probe.closed.is_set()
    assert stats().stalled == before.stalled + 1
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["GET /a\\nb: client cut off: stalled"]


@pytest.mark.slow
async def test_a_client_that_reads_slowly_but_steadily_is_not_cut_off(clock: Clock) -> None:
    async with Client(StreamingResponse(chunks(100))) as client:
        async with client.open("GET", "/", rate=5_000) as exchange:
            async with anyio.create_task_group() as group:
                body = b""

                async def read() -> None:
                    nonlocal body
                    body = await exchange.read_all()

                group.start_soon(read)
                await clock.advance(300)
    assert len(body) == 1_000_000


async def test_a_client_below_the_least_rate_is_cut_off(clock: Clock) -> None:
    before = stats()
    app = StreamingResponse(chunks(1000), options=StreamOptions(min_rate=10_000))
    async with Client(app) as client, client.open("GET", "/", rate=2_000) as exchange:
        async with anyio.create_task_group() as group:

            async def read() -> None:
                with pytest.raises(Truncated):
                    await exchange.read_all()

            group.start_soon(read)
            await wait_until(lambda: exchange.blocked)
            await clock.advance(120)
            await exchange.finished()
    assert stats().too_slow == before.too_slow + 1
