"""Readers in Python: what many of them share, and what each of them has for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tailrace.errors import OffsetGone, RunEnded, StreamNotFound
from tailrace.store import MemoryStore, Retention
from tailrace.streams import Streams
from tailrace.testing import Client, no_leaks, settle
from tests.live.stores import CountingStore

pytestmark = pytest.mark.anyio

MANY = 500


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
async def streams(store: CountingStore) -> AsyncIterator[Streams]:
    async with Streams(store) as made:
        await made.append("s", {"n": 0})
        yield made


async def read_by_many(
    streams: Streams, change: Callable[[], Awaitable[Any]], many: int = MANY
) -> list[list[Any]]:
    """What readers at the tail of a stream get while something is done to it."""
    got: list[list[Any]] = [[] for _ in range(many)]

    async def follow(mine: list[Any]) -> None:
        async for message in streams.read("s", "now", follow=True):
            mine.append(message.data)

    async with anyio.create_task_group() as group:
        for mine in got:
            group.start_soon(follow, mine)
        await settle()
        await change()
        await settle()
        group.cancel_scope.cancel()
    return got


# What many share ---------------------------------------------------------------------------------


async def test_an_append_is_read_by_none_of_many_readers(
    streams: Streams, store: CountingStore
) -> None:
    async def append() -> None:
        for n in range(3):
            store.asked.clear()
            await streams.append("s", {"n": n})
            await settle()
            assert store.asked["read"] + store.asked["head"] == 0

    assert await read_by_many(streams, append) == [[{"n": 0}, {"n": 1}, {"n": 2}]] * MANY


async def test_an_append_of_another_process_is_read_by_one_of_many_readers(
    streams: Streams, store: CountingStore
) -> None:
    async def append() -> None:
        store.bare_hints = True
        for n in range(3):
            store.asked.clear()
            await streams.append("s", {"n": n})
            await settle()
            assert (store.asked["read"], store.asked["head"]) == (1, 0)

    assert await read_by_many(streams, append) == [[{"n": 0}, {"n": 1}, {"n": 2}]] * MANY


async def test_many_readers_that_begin_together_cost_few_reads(
    streams: Streams, store: CountingStore
) -> None:
    store.asked.clear()
    await read_by_many(streams, settle)
    assert store.asked["read"] <= 4
    assert store.asked["watch"] == 1


async def test_json_arrays_share_with_all_other_readers(
    streams: Streams, store: CountingStore
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await streams.subscribe("s", Request(scope), start="start")(scope, receive, send)

    bodies: list[bytes] = []
    accept = {"accept": "application/json"}
    async with Client(app) as client, anyio.create_task_group() as group:

        async def read() -> None:
            async with client.open("GET", "/", headers=accept) as exchange:
                bodies.append(await exchange.read_all())

        for _ in range(50):
            group.start_soon(read)
        await settle()
        store.asked.clear()
        await streams.append("s", {"n": 1})
        await settle()
        assert store.asked["read"] == 0
        await streams.close("s")
    assert bodies == [b'[{"n":0},{"n":1}]'] * 50


async def test_many_that_wait_for_a_stream_look_for_it_together(
    streams: Streams, store: CountingStore
) -> None:
    channel, got = streams.channel("news", retention=Retention(max_records=10)), []

    async def listen() -> None:
        got.append((await anext(aiter(channel))).data)

    async with anyio.create_task_group() as group:
        for _ in range(MANY):
            group.start_soon(listen)
        await settle()
        store.asked.clear()
        await channel.publish("first")
    assert got == ["first"] * MANY
    assert store.asked["read"] + store.asked["head"] <= 8


# What each has for itself ------------------------------------------------------------------------


async def test_an_item_that_one_reader_changes_is_as_it_was_for_the_others(
    streams: Streams,
) -> None:
    seen: list[Any] = []

    async def follow() -> None:
        async for message in streams.read("s", "now", follow=True):
            seen.append(dict(message.data))
            message.data["n"] = "changed"
            message.data.clear()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(follow)
        await settle()
        await streams.append("s", {"n": 1})
        await streams.close("s")
    assert seen == [{"n": 1}] * 3


@pytest.mark.parametrize("turns", range(12))
async def test_a_wait_that_is_cancelled_at_any_moment_loses_nothing(
    streams: Streams, store: CountingStore, turns: int
) -> None:
    reader = streams.read("s", follow=True)
    got = [(await anext(reader)).data]
    store.bare_hints = True

    async def take() -> None:
        got.append((await anext(reader)).data)

    for n in range(1, 6):
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            await streams.append("s", {"n": n})
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    await streams.close("s")
    got += [message.data async for message in reader]
    assert got == [{"n": n} for n in range(6)]


async def test_a_slow_reader_misses_nothing(streams: Streams) -> None:
    got = []
    async for message in streams.read("s", follow=True):
        got.append(message.data)
        if len(got) == 1:
            for n in range(1, 40):
                await streams.append("s", {"n": n, "text": "x" * 20_000})
            await streams.close("s")
    assert [item["n"] for item in got] == list(range(40))


async def test_what_is_not_retained_any_more_is_an_error_while_it_follows(
    streams: Streams,
) -> None:
    await streams.create("r", retention=Retention(max_bytes=50_000))
    reader = streams.read("r", follow=True)
    await streams.append("r", "first")
    assert (await anext(reader)).data == "first"
    for _ in range(60):
        await streams.append("r", "x" * 10_000)
    with pytest.raises(OffsetGone):
        await anext(reader)


async def test_a_stream_that_is_made_anew_is_not_taken_for_the_one_before(
    streams: Streams, store: CountingStore
) -> None:
    reader = streams.read("s", follow=True)
    await anext(reader)
    await streams.delete("s")
    store.later_ms += 1
    await streams.append("s", {"other": "stream"})
    with pytest.raises((StreamNotFound, OffsetGone)):
        await anext(reader)


async def test_the_end_of_a_run_comes_after_its_last_item(streams: Streams) -> None:
    def failing() -> Any:
        yield 1
        raise ValueError("no")

    run = await streams.run("r", failing(), on_disconnect="continue")
    reader = aiter(run)
    assert (await anext(reader)).data == 1
    with pytest.raises(RunEnded):
        await anext(reader)


# What is held ------------------------------------------------------------------------------------


async def test_nothing_is_held_for_a_reader_between_two_messages(
    streams: Streams, store: CountingStore
) -> None:
    async with no_leaks():
        async for _ in streams.read("s", follow=True):
            break
        reader = streams.read("s", "now", follow=True)
        async with anyio.create_task_group() as group:
            group.start_soon(anext, reader)
            await settle()
            assert store.watched == 1
            await streams.append("s", {"n": 1})
        await settle()
        assert store.watched == 0
        await streams.append("s", {"n": 2})
        assert (await anext(reader)).data == {"n": 2}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_event_loop_that_is_gone_holds_nothing_of_a_store_that_outlives_it(
    backend: str,
) -> None:
    store = MemoryStore()

    async def read() -> None:
        streams = Streams(store)
        await streams.append("s", 1)
        await streams.append("s", 2)
        reader = streams.read("s", follow=True)
        assert [(await anext(reader)).data for _ in range(2)] == [1, 2]
        async with anyio.create_task_group() as group:
            group.start_soon(anext, reader)
            await settle()
            await streams.append("s", 3)

    async def append() -> None:
        await Streams(store).append("s", 4)
        assert not store._watchers.has("s")

    anyio.run(read, backend=backend)
    anyio.run(append, backend=backend)
