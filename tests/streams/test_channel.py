from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tailrace.errors import InvalidOption, StreamExists
from tailrace.store import MemoryStore, Retention
from tailrace.streams import Streams
from tailrace.testing import Client, no_leaks, settle

pytestmark = pytest.mark.anyio

LAST_TEN = Retention(max_records=10)


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    streams = Streams(MemoryStore())
    yield streams
    await streams.aclose()


async def test_only_the_last_part_is_kept(streams: Streams) -> None:
    channel = streams.channel("ticker", retention=LAST_TEN)
    for n in range(100):
        await channel.publish(n)
    kept = [message.data async for message in channel.read()]
    assert kept[-1] == 99
    assert 10 <= len(kept) <= 13


async def test_whoever_iterates_gets_what_comes_from_now_on(streams: Streams) -> None:
    channel = streams.channel("ticker", retention=LAST_TEN)
    await channel.publish("before")
    seen: list[Any] = []

    async def listen() -> None:
        async for message in channel:
            seen.append(message.data)
            if message.data == "last":
                return

    async with no_leaks(), anyio.create_task_group() as group:
        group.start_soon(listen)
        await settle()
        await channel.publish("first")
        await channel.publish("last")
    assert seen == ["first", "last"]


async def test_a_channel_to_which_nothing_was_published_is_waited_for(streams: Streams) -> None:
    channel = streams.channel("ticker", retention=LAST_TEN)
    seen: list[Any] = []

    async def listen() -> None:
        seen.append((await anext(aiter(channel))).data)

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await settle()
        assert await streams.list() == []  # who only listens creates nothing
        await channel.publish("first")
    assert seen == ["first"]


async def test_create_refuses_a_stream_that_is_kept_otherwise(streams: Streams) -> None:
    await streams.append("ticker", 1)
    with pytest.raises(StreamExists):
        await streams.channel("ticker", retention=LAST_TEN).create()


async def test_it_is_subscribed_to_over_http(streams: Streams) -> None:
    channel = streams.channel("ticker", retention=LAST_TEN)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await channel.subscribe(Request(scope), slow="latest")(scope, receive, send)

    accept = {"accept": "text/event-stream"}
    async with Client(app) as client, client.open("GET", "/", headers=accept) as exchange:
        await exchange.read()
        await channel.publish({"price": 3})
        event = await exchange.event()
        assert event is not None
        assert event.data == '{"price":3}'


@pytest.mark.parametrize("retention", [None, Retention(max_records=11)])
async def test_a_stream_that_is_kept_in_another_way_is_not_taken_for_the_channel(
    streams: Streams, retention: Retention | None
) -> None:
    await streams.create("ticker", retention=retention)
    with pytest.raises(StreamExists):
        await streams.channel("ticker", retention=LAST_TEN).publish(1)
    assert [message async for message in streams.read("ticker")] == []


async def test_a_channel_that_was_deleted_is_created_again(streams: Streams) -> None:
    channel = streams.channel("ticker", retention=LAST_TEN)
    await channel.publish(1)
    await streams.delete("ticker")
    await channel.publish(2)
    assert (await streams.head("ticker")).retention == LAST_TEN


@pytest.mark.parametrize("retention", [None, 10, Retention()])
async def test_a_channel_needs_a_bound(streams: Streams, retention: Any) -> None:
    with pytest.raises(InvalidOption, match="a bound"):
        streams.channel("ticker", retention=retention)
