"""How the client reads: windows, portions, slow and leaving clients, cut bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tailrace.testing import BodyEnded, Client, Clock, ReceivedEvent, Truncated, settle
from tests.testing.test_client import answering

pytestmark = pytest.mark.anyio


def failing_after(*bodies: bytes) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(*bodies, complete=False)(scope, receive, send)
        raise ZeroDivisionError("in the middle")

    return app


async def test_a_full_window_blocks_send_until_the_client_reads() -> None:
    app = answering(*[b"x" * 1000] * 20)
    async with (
        Client(app) as client,
        client.open("GET", "/", window_bytes=4000) as exchange,
    ):
        await settle()
        assert exchange.blocked
        # The start, four that fill the window, and one more: a server notices only then.
        assert len(exchange.sends) == 6
        assert await exchange.read_exactly(1000) == b"x" * 1000
        await settle()
        assert len(exchange.sends) == 7
        assert len(await exchange.read_all()) == 19_000
        assert not exchange.blocked


async def test_the_window_is_64_kib_if_nothing_is_said() -> None:
    app = answering(*[b"x" * 1024] * 100)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await settle()
        assert sum(len(sent.body) for sent in exchange.sends) == 65 * 1024


async def test_one_message_larger_than_the_window_passes() -> None:
    async with (
        Client(answering(b"x" * 5000)) as client,
        client.open("GET", "/", window_bytes=0) as exchange,
    ):
        assert len(await exchange.read_all()) == 5000


async def test_a_blocked_send_goes_on_when_the_client_leaves() -> None:
    app = answering(*[b"x" * 1000] * 20)
    async with (
        Client(app) as client,
        client.open("GET", "/", window_bytes=0) as exchange,
    ):
        await settle()
        assert exchange.blocked
        await exchange.leave()
        assert (await exchange.finished()).complete
        assert exchange.dropped > 15


async def test_a_slow_client_reads_at_its_rate_by_the_clock(clock: Clock) -> None:
    app = answering(*[b"x" * 100] * 10)
    async with (
        Client(app) as client,
        client.open("GET", "/", rate=100, window_bytes=0) as exchange,
    ):
        taken = bytearray()

        async def drink() -> None:
            while chunk := await exchange.read():
                taken.extend(chunk)

        async with anyio.create_task_group() as group:
            group.start_soon(drink)
            await clock.advance(3.55)
            assert len(taken) == 350
            assert len(exchange.sends) == 5
            await clock.advance(7)
        assert len(taken) == 1000


async def test_a_client_leaves_at_the_byte_it_was_told() -> None:
    app = answering(*[b"0123456789"] * 10)
    async with (
        Client(app) as client,
        client.open("GET", "/", leave_at=25, window_bytes=0) as exchange,
    ):
        assert await exchange.read_all() == b"0123456789012345678901234"
        assert exchange.left
        assert await exchange.read() == b""


async def test_a_client_that_leaves_at_byte_0_reads_nothing() -> None:
    async with (
        Client(answering(b"x")) as client,
        client.open("GET", "/", leave_at=0) as exchange,
    ):
        assert await exchange.read() == b""
        assert exchange.left
        assert exchange.sends == []


async def test_a_client_leaves_after_the_kth_event() -> None:
    async def events() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await anyio.lowlevel.checkpoint()

    async with (
        Client(StreamingResponse(events())) as client,
        client.open("GET", "/") as exchange,
    ):
        seen = [event.data async for event in exchange.events(leave_after=3)]
        assert seen == ["0", "1", "2"]
        assert exchange.left
        assert (await exchange.finished()).truncated


async def test_read_gives_what_is_there_and_b_nothing_at_the_end() -> None:
    async with Client(answering(b"ab", b"cd")) as client, client.open("GET", "/") as exchange:
        assert await exchange.read(3) == b"abc"
        assert await exchange.read() == b"d"
        assert await exchange.read() == b""
        assert await exchange.read() == b""


async def test_read_wants_at_least_one_byte() -> None:
    async with Client(answering()) as client, client.open("GET", "/") as exchange:
        with pytest.raises(ValueError, match="max_bytes=0"):
            await exchange.read(0)


async def test_the_ways_of_reading_follow_one_another() -> None:
    app = answering(b"head\n\nfi", b"rst\nsec", b"ond\nlast", b"!")
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_until(b"\n\n") == b"head\n\n"
        assert await exchange.read_exactly(3) == b"fir"
        assert [line async for line in exchange.lines()] == [b"st", b"second", b"last!"]
        assert await exchange.read_all() == b""


async def test_a_body_that_is_too_short_for_a_read_is_told_with_what_came() -> None:
    async with Client(answering(b"abc")) as client, client.open("GET", "/") as exchange:
        with pytest.raises(BodyEnded) as caught:
            await exchange.read_exactly(4)
        assert caught.value.partial == b"abc"
        assert not isinstance(caught.value, Truncated)


async def test_a_complete_body_ends_cleanly_though_the_call_fails_later() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(b"abc")(scope, receive, send)
        raise ZeroDivisionError

    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_all() == b"abc"
        outcome = await exchange.finished()
        assert outcome.complete
        assert isinstance(outcome.error, ZeroDivisionError)


async def test_a_cut_body_raises_after_its_last_byte_with_the_cause() -> None:
    async with Client(failing_after(b"abc")) as client, client.open("GET", "/") as exchange:
        assert await exchange.read() == b"abc"
        with pytest.raises(Truncated) as caught:
            await exchange.read()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert (await exchange.finished()).truncated


async def test_read_all_of_a_cut_body_carries_what_came() -> None:
    async with Client(failing_after(b"ab", b"c")) as client, client.open("GET", "/") as exchange:
        with pytest.raises(Truncated, match="after 3 bytes") as caught:
            await exchange.read_all()
        assert caught.value.partial == b"abc"


async def test_an_application_that_just_returns_cuts_its_body() -> None:
    app = answering(b"a\nb", complete=False)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        lines = exchange.lines()
        assert await anext(lines) == b"a"
        with pytest.raises(Truncated) as caught:
            await anext(lines)
        assert caught.value.partial == b"b"
        assert caught.value.__cause__ is None
        assert (await exchange.finished()).error is None


async def test_events_come_parsed_and_comments_are_kept_apart() -> None:
    app = answering(b": beat\n\nevent: ti", b'ck\nid: 7\ndata: {"a": 1}\n\ndata: unended\n')
    async with Client(app) as client, client.open("GET", "/") as exchange:
        event = await exchange.event()
        assert event == ReceivedEvent('{"a": 1}', "tick", "7")
        assert event.json() == {"a": 1}
        assert exchange.comments == ["beat"]
        assert await exchange.event() is None


async def test_leaving_a_loop_over_events_leaves_the_rest_to_read() -> None:
    app = answering(b"data: 1\n\ndata: 2\n\ndata: 3\n\n")
    async with Client(app) as client, client.open("GET", "/") as exchange:
        async for event in exchange.events():
            if event.data == "1":
                break
        assert [event.data async for event in exchange.events()] == ["2", "3"]


async def test_head_gives_no_body_but_shows_what_was_sent() -> None:
    async with Client(answering(b"abc")) as client, client.open("HEAD", "/") as exchange:
        assert await exchange.read_all() == b""
        assert exchange.sends[1].body == b"abc"
