"""`Hub`: reads that are shared, waits that are shared, and what is watched for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tailrace.errors import OffsetGone, StoreUnavailable, StreamNotFound
from tailrace.live import Hub
from tailrace.store import START, Append, Mark, NewStream, Slice, StreamInfo, Where
from tailrace.store.sqlite import SQLiteStore
from tailrace.testing import no_leaks, settle, wait_until
from tests.live.stores import CountingStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> CountingStore:
    made = CountingStore()
    await made.create("s", NewStream(data=b"abc"))
    return made


async def test_identical_reads_are_done_together(store: CountingStore) -> None:
    hub, got = Hub(store), []

    async def ask(where: Where) -> None:
        got.append(await hub.read("s", where))

    async with anyio.create_task_group() as group:
        for _ in range(500):
            group.start_soon(ask, Mark.BEGINNING)
            group.start_soon(ask, START)
    assert len(got) == 1000
    assert {found.data for found in got} == {b"abc"}
    assert store.asked["read"] == 4


async def test_a_read_sees_what_was_acknowledged_before_it(store: CountingStore) -> None:
    hub, got = Hub(store), []

    async def ask() -> None:
        got.append(await hub.read("s", Mark.BEGINNING))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            await store.append("s", Append(data=b"%02d" % number))
            found = await hub.read("s", Mark.BEGINNING)
            assert found.data.endswith(b"%02d" % number)


async def test_reads_raise_what_the_store_raises(store: CountingStore) -> None:
    hub = Hub(store)
    with pytest.raises(StreamNotFound):
        await hub.read("none", Mark.BEGINNING)
    await store.delete("s")
    await store.create("s", NewStream(data=b"new"))
    old = (await store.read("s", Mark.TAIL)).end
    await store.delete("s")
    await store.create("s", NewStream(data=b"newer"))
    with pytest.raises(OffsetGone):
        await hub.read("s", old)


async def test_a_wait_returns_when_there_is_more(store: CountingStore) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail
    async with no_leaks(), anyio.create_task_group() as group:
        group.start_soon(hub.wait, "s", tail)
        await settle()
        assert len(hub) == 1
        await store.append("s", Append(data=b"d"))
    assert len(hub) == 0
    assert store.watched == 0


@pytest.mark.parametrize("end", ["close", "delete"])
async def test_a_wait_returns_when_the_stream_is_over(store: CountingStore, end: str) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail
    async with anyio.create_task_group() as group:
        group.start_soon(hub.wait, "s", tail)
        await settle()
        if end == "close":
            await store.append("s", Append(close=True))
        else:
            await store.delete("s")


async def test_a_wait_returns_at_once_when_there_is_nothing_to_wait_for(
    store: CountingStore,
) -> None:
    hub = Hub(store)
    await hub.wait("s", START)
    await hub.wait("none", START)
    await store.append("s", Append(close=True))
    await hub.wait("s", (await store.head("s")).tail)
    assert len(hub) == 0


async def test_a_thousand_waits_are_one_watch_and_two_looks(store: CountingStore) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail
    store.asked.clear()
    got: list[Slice] = []

    async def poll() -> None:
        await hub.wait("s", tail)
        got.append(await hub.read("s", tail))

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(poll)
        await settle()
        assert store.watched == 1
        await store.append("s", Append(data=b"d"))
    assert {found.data for found in got} == {b"d"}
    assert store.asked["watch"] == 1
    assert store.asked["head"] <= 2
    assert store.asked["read"] <= 3


async def test_a_hint_that_only_waits_hear_does_not_keep_the_next_one_from_waiting(
    store: CountingStore,
) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail
    store.bare_hints = True
    woken = 0

    async def poll() -> None:
        nonlocal tail, woken
        while True:
            await hub.wait("s", tail)
            woken += 1
            tail = (await hub.read("s", tail)).end

    async with anyio.create_task_group() as group:
        group.start_soon(poll)
        await settle()
        for _ in range(3):
            await store.append("s", Append(data=b"d"))
            await settle()
        assert 3 <= woken <= 6
        store.asked.clear()
        await settle()
        assert store.asked == {}, "it is asked again and again"
        group.cancel_scope.cancel()
    assert len(hub) == 0


async def test_what_was_read_before_the_stream_was_watched_says_nothing_of_its_tail(
    store: CountingStore,
) -> None:
    hub = Hub(store)
    read = store.read

    async def late_read(*args: Any, **options: Any) -> Slice:
        found = await read(*args, **options)
        live = hub.join("s")  # watched from now on, and the next append came before that
        assert live.tail.offset is None
        return found

    store.read = late_read  # type: ignore[method-assign] # this one store, from now on
    await hub.read("s", Mark.BEGINNING)
    live = hub.join("s")
    assert live.tail.offset is None
    hub.leave(live)
    hub.leave(live)


async def test_a_cancelled_wait_leaves_nothing(store: CountingStore) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail
    async with no_leaks(), anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(hub.wait, "s", tail)
        await settle()
        group.cancel_scope.cancel()
    assert len(hub) == 0
    assert store.watched == 0


async def test_a_change_that_comes_while_a_wait_looks_is_not_missed(store: CountingStore) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail
    head = store.head

    async def head_before_an_append(path: str) -> StreamInfo:
        found = await head(path)
        await store.append("s", Append(data=b"d"))
        return found

    store.head = head_before_an_append  # type: ignore[method-assign] # this one store
    with anyio.fail_after(5):
        await hub.wait("s", tail)


async def test_what_follows_an_offset_comes_entry_by_entry_until_the_end(
    store: CountingStore,
) -> None:
    hub, offset, got = Hub(store), START, []

    async def read() -> None:
        nonlocal offset
        while True:
            part = (await hub.follow("s", offset)).part
            got.append(part.data)
            offset = part.end
            if part.closed:
                return

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await settle()
        await store.append("s", Append(data=b"def"))
        await settle()
        await store.append("s", Append(data=b"ghi"))
        await store.append("s", Append(close=True))
    assert b"".join(got) == b"abcdefghi"
    assert len(hub) == 0


async def test_a_stream_that_is_deleted_ends_those_that_follow_it(store: CountingStore) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail

    async def read() -> None:
        with pytest.raises(StreamNotFound):
            await hub.follow("s", tail)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await settle()
        await store.delete("s")
    assert len(hub) == 0


async def test_an_offset_of_a_stream_that_had_this_path_leads_to_no_bytes_of_the_new_one(
    store: CountingStore,
) -> None:
    hub = Hub(store)
    before = (await store.head("s")).tail
    await store.delete("s")
    await store.create("s", NewStream())
    tail = (await store.head("s")).tail

    async with anyio.create_task_group() as group:
        group.start_soon(hub.follow, "s", tail)
        await settle()
        await store.append("s", Append(data=b"others"))
        with anyio.fail_after(5), pytest.raises(OffsetGone):
            await hub.follow("s", before)


async def test_a_stream_that_could_not_be_watched_is_watched_by_the_next_reader(
    tmp_path: Path,
) -> None:
    store = SQLiteStore(str(tmp_path / "s.db"))
    hub = Hub(store)
    with pytest.raises(StoreUnavailable):
        await hub.follow("s", START)  # it is not open yet
    async with store:
        await store.create("s", NewStream())
        tail = (await store.head("s")).tail
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(hub.follow, "s", tail)
                await wait_until(lambda: len(hub) == 1)
                await store.append("s", Append(data=b"abc"))


async def test_one_that_does_not_come_back_does_not_keep_the_others_waiting(
    store: CountingStore,
) -> None:
    hub = Hub(store)
    tail = (await store.head("s")).tail
    store.bare_hints = True
    got = []

    async def read() -> None:
        got.append((await hub.follow("s", tail)).part.data)

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as first:
            group.start_soon(read)
            group.start_soon(read)
            await settle()
            first.cancel()
        await store.append("s", Append(data=b"def"))
    assert got == [b"def"] * 2


async def test_a_stream_is_waited_for_until_it_is_there(store: CountingStore) -> None:
    hub = Hub(store)
    async with no_leaks(), anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(hub.wait_until_there, "new")
        await settle()
        store.asked.clear()
        await store.create("new", NewStream())
    assert store.asked["head"] <= 2
    assert store.watched == 0
