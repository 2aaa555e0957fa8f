from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pydantic import BaseModel

from tailrace import limits
from tailrace.errors import (
    ContentTypeMismatch,
    ForkRefused,
    InvalidChunk,
    InvalidOffset,
    InvalidOption,
    InvalidRequest,
    OffsetGone,
    ProducerFenced,
    StreamClosed,
    StreamExists,
    StreamNotFound,
)
from tailrace.framing import Event
from tailrace.store import MemoryStore, Producer, Retention
from tailrace.streams import Streams
from tailrace.testing import no_leaks, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    streams = Streams("memory://")
    yield streams
    await streams.aclose()


async def data_of(streams: Streams, path: str, start: str = "start") -> list[Any]:
    return [message.data async for message in streams.read(path, start)]


class Price(BaseModel):
    name: str
    price: float


@dataclass
class Point:
    x: int


# Writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "data"),
    [
        ({"a": 1}, {"a": 1}),
        ([1, [2]], [1, [2]]),
        (Price(name="x", price=1.5), {"name": "x", "price": 1.5}),
        (Point(3), {"x": 3}),
        ("text", "text"),
        (b"bytes", "bytes"),
        (None, None),
        (float("nan"), None),
        (Event({"a": 1}), {"a": 1}),
    ],
)
async def test_an_item_is_one_json_message(streams: Streams, item: Any, data: Any) -> None:
    await streams.append("json", item)
    assert await data_of(streams, "json") == [data]


async def test_append_creates_a_stream_of_json(streams: Streams) -> None:
    await streams.append("new", 1)
    assert (await streams.head("new")).content_type == "application/json"


async def test_append_gives_the_offset_after_the_item(streams: Streams) -> None:
    first = await streams.append("s", 1)
    await streams.append("s", 2)
    assert await data_of(streams, "s", first) == [2]


async def test_bytes_and_text_go_as_they_are_into_a_stream_that_is_not_json(
    streams: Streams,
) -> None:
    await streams.create("log", content_type="text/plain")
    await streams.append("log", "a line\n")
    await streams.append("log", b"another\n")
    assert await data_of(streams, "log") == [b"a line\n", b"another\n"]


@pytest.mark.parametrize("data", [b"\xff\x00\xfe", bytearray(b"\xff"), memoryview(b"\xff\xfe")])
async def test_bytes_that_are_no_text_go_into_a_stream_that_is_not_json(
    streams: Streams, data: Any
) -> None:
    await streams.create("film", content_type="application/octet-stream")
    await streams.append("film", data)
    assert await data_of(streams, "film") == [bytes(data)]


async def test_bytes_that_are_no_text_do_not_go_into_a_stream_of_json(streams: Streams) -> None:
    with pytest.raises(InvalidChunk):
        await streams.append("json", b"\xff")
    with pytest.raises(StreamNotFound):
        await streams.head("json")
    await streams.create("json")
    with pytest.raises(InvalidChunk):
        await streams.append("json", b"\xff")


async def test_what_is_no_bytes_does_not_go_into_one(streams: Streams) -> None:
    await streams.create("log", content_type="text/plain")
    with pytest.raises(ContentTypeMismatch):
        await streams.append("log", {"a": 1})


async def test_what_cannot_be_written_as_json_is_refused(streams: Streams) -> None:
    with pytest.raises(InvalidChunk):
        await streams.append("json", object())
    with pytest.raises(StreamNotFound):
        await streams.head("json")


async def test_what_looks_like_one_of_our_messages_is_refused(streams: Streams) -> None:
    with pytest.raises(InvalidChunk, match="tailrace"):
        await streams.append("json", {"tailrace": 1})


async def test_a_producer_that_appends_twice_counts_once(streams: Streams) -> None:
    first = await streams.append("s", 1, producer=Producer("p", 0, 0))
    again = await streams.append("s", 1, producer=Producer("p", 0, 0))
    assert again == first
    assert await data_of(streams, "s") == [1]
    await streams.append("s", 2, producer=Producer("p", 1, 0))
    with pytest.raises(ProducerFenced):
        await streams.append("s", 3, producer=Producer("p", 0, 1))


async def test_a_closed_stream_takes_nothing_more(streams: Streams) -> None:
    last = await streams.append("s", 1)
    assert await streams.close("s") == last
    with pytest.raises(StreamClosed):
        await streams.append("s", 2)


async def test_a_stream_that_does_not_exist_can_not_be_closed(streams: Streams) -> None:
    with pytest.raises(StreamNotFound):
        await streams.close("none")


async def test_create_says_whether_it_is_new(streams: Streams) -> None:
    assert await streams.create("s", ttl=60)
    assert not await streams.create("s", ttl=60)
    with pytest.raises(StreamExists):
        await streams.create("s", ttl=61)


async def test_appends_at_once_that_create_lose_nothing(streams: Streams) -> None:
    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(streams.append, "s", n)
    assert sorted(await data_of(streams, "s")) == list(range(20))


async def test_a_fork_goes_its_own_way(streams: Streams) -> None:
    first = await streams.append("s", 1)
    await streams.append("s", 2)
    assert await streams.fork("f", "s", first)
    await streams.append("f", 3)
    assert await data_of(streams, "f") == [1, 3]
    assert await data_of(streams, "s") == [1, 2]
    await streams.fork("g", "s", first, sub_offset=1)
    assert await data_of(streams, "g") == [1, 2]
    with pytest.raises(ForkRefused):
        await streams.fork("h", "none")
    with pytest.raises(InvalidOption):
        await streams.fork("h", "s", "now")


async def test_delete_and_list(streams: Streams) -> None:
    for path in ("b/1", "a", "b/2"):
        await streams.append(path, 1)
    assert [info.path for info in await streams.list()] == ["a", "b/1", "b/2"]
    assert [info.path for info in await streams.list("b/", limit=1)] == ["b/1"]
    assert [info.path for info in await streams.list("b/", "b/1")] == ["b/2"]
    await streams.delete("a")
    with pytest.raises(StreamNotFound):
        await streams.delete("a")


# Paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("", "__ds/runs/x", "a\0b", "x" * 1025, "\u00e9" * 513, 5, None),
        # What no client would reach by the URL that it seems to have.
        *("/a", "a/", "a//b", "a/../b", "..", "a\nb", "\ud800"),
    ],
)
async def test_a_path_that_no_stream_can_have_is_refused(streams: Streams, path: Any) -> None:
    with pytest.raises(InvalidRequest):
        await streams.append(path, 1)
    with pytest.raises(InvalidRequest):
        streams.read(path)


@pytest.mark.parametrize("path", ["x" * limits.MAX_STREAM_PATH_BYTES, "a/b/c", "\u00e9", "__dsx"])
async def test_any_other_path_will_do(streams: Streams, path: str) -> None:
    await streams.append(path, 1)
    assert await data_of(streams, path) == [1]


# Reading -----------------------------------------------------------------------------------------


async def test_read_from_now_follows_what_comes(streams: Streams) -> None:
    await streams.append("s", 0)
    seen: list[Any] = []

    async def read() -> None:
        async for message in streams.read("s", "now", follow=True):
            seen.append(message.data)

    async with no_leaks():
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await settle()
            await streams.append("s", 1)
            await settle()
            assert seen == [1]
            await streams.append("s", 2)
            await streams.close("s")
    assert seen == [1, 2]


async def test_follow_ends_with_the_stream(streams: Streams) -> None:
    await streams.append("s", 1)
    await streams.close("s")
    assert [message.data async for message in streams.read("s", follow=True)] == [1]


async def test_a_stream_that_is_deleted_ends_a_reader_with_an_error(streams: Streams) -> None:
    await streams.append("s", 1)
    errors: list[Exception] = []

    async def read() -> None:
        try:
            async for _ in streams.read("s", follow=True):
                pass
        except StreamNotFound as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await settle()
        await streams.delete("s")
    assert errors


async def test_aclose_ends_a_reader_that_waits_in_another_task(streams: Streams) -> None:
    await streams.append("s", 1)
    reader = streams.read("s", "now", follow=True)
    seen: list[Any] = []

    async def read() -> None:
        seen.extend([message async for message in reader])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await settle()
        await reader.aclose()
    assert seen == []


async def test_a_reader_may_be_left_at_any_time(streams: Streams) -> None:
    await streams.append("s", 1)
    await streams.append("s", 2)
    async with no_leaks():
        async for message in streams.read("s", follow=True):
            assert message.data == 1
            break


async def test_offsets_within_one_append_are_kept_apart(streams: Streams) -> None:
    async with streams:
        await (await streams.run("s", range(5), on_disconnect="continue")).wait()
        offsets = [message.offset async for message in streams.read("s")]
        assert len(set(offsets)) == 5
        assert sorted(offsets) == offsets
        for n, offset in enumerate(offsets):
            assert await data_of(streams, "s", offset) == list(range(n + 1, 5))


@pytest.mark.parametrize("start", ["", "here", "1_2", None, 7])
async def test_a_start_that_is_no_offset_is_refused(streams: Streams, start: Any) -> None:
    with pytest.raises(InvalidOffset):
        streams.read("s", start)


async def test_what_is_no_longer_retained_is_an_error(streams: Streams) -> None:
    await streams.create("s", retention=Retention(max_records=2))
    first = await streams.append("s", 0)
    for n in range(10):
        await streams.append("s", n)
    with pytest.raises(OffsetGone):
        await data_of(streams, "s", first)
    assert len(await data_of(streams, "s")) <= 3


async def test_there_is_nothing_to_read_of_what_does_not_exist(streams: Streams) -> None:
    with pytest.raises(StreamNotFound):
        await data_of(streams, "none")


# Life --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "mysql://x", "memory://x", "/a/file"])
def test_an_unknown_url_is_told_where_it_was_written(url: str) -> None:
    with pytest.raises(InvalidOption):
        Streams(url)


@pytest.mark.parametrize("lease", [0, -1, 1.5, True, None])
def test_a_lease_is_whole_seconds(lease: Any) -> None:
    with pytest.raises(InvalidOption, match="lease"):
        Streams("memory://", lease=lease)


async def test_calls_at_once_open_one_store() -> None:
    opened = 0

    class Counting(MemoryStore):
        async def open(self) -> None:
            nonlocal opened
            opened += 1
            await anyio.sleep(0)

    streams = Streams(Counting())
    async with anyio.create_task_group() as group:
        for n in range(10):
            group.start_soon(streams.append, "s", n)
    assert opened == 1


async def test_a_lifespan_can_be_entered_again() -> None:
    streams = Streams(MemoryStore())
    for n in range(2):
        async with streams.lifespan(None):
            run = await streams.run(f"run/{n}", [n], on_disconnect="continue")
            await run.wait()
    assert await data_of(streams, "run/0") == [0]


async def test_a_lifespan_within_itself_is_refused(streams: Streams) -> None:
    async with streams:
        with pytest.raises(RuntimeError, match="one lifespan"):
            await streams.__aenter__()
        with pytest.raises(RuntimeError, match="by the end of their block"):
            await streams.aclose()


async def test_of_two_lifespans_that_begin_at_once_one_is_refused(tmp_path: Path) -> None:
    streams = Streams(f"sqlite:///{tmp_path}/streams.db")
    refused: list[RuntimeError] = []

    async def enter() -> None:
        try:
            async with streams:
                await streams.append("s", 1)
        except RuntimeError as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(enter)
        group.start_soon(enter)
    assert len(refused) == 1
    async with streams:  # and it can be entered again
        assert await data_of(streams, "s") == [1]


async def test_the_error_of_a_block_comes_out_as_it_is() -> None:
    async with no_leaks():
        with pytest.raises(ZeroDivisionError):
            async with Streams("memory://"):
                raise ZeroDivisionError


async def test_a_lifespan_that_is_cancelled_ends_its_runs() -> None:
    store = MemoryStore()

    async def endless() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep_forever()

    async with no_leaks():
        with anyio.CancelScope() as scope:
            async with Streams(store) as streams:
                await streams.run("s", endless(), on_disconnect="continue")
                await settle()
                scope.cancel()
                await anyio.sleep_forever()
        assert (await store.head("s")).closed


def test_streams_are_used_in_one_event_loop_after_another(tmp_path: Path) -> None:
    streams = Streams(f"sqlite:///{tmp_path}/streams.db")

    async def append(n: int) -> None:
        await streams.append("s", n)

    async def read() -> list[Any]:
        found = await data_of(streams, "s")
        await streams.aclose()
        return found

    for n in range(2):
        anyio.run(append, n)
    assert anyio.run(read) == [0, 1]


@pytest.mark.linux
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("url", ["sqlite:///{}/streams.db", "memory://"])
def test_one_event_loop_after_another_leaves_nothing_open(
    tmp_path: Path, url: str, backend: str
) -> None:
    streams = Streams(url.format(tmp_path))
    found: list[Any] = []

    async def append() -> None:
        await streams.append("s", len(found))
        found[:] = await data_of(streams, "s")

    anyio.run(append, backend=backend)
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))
    for _ in range(5):
        anyio.run(append, backend=backend)
    assert found == [0, 1, 2, 3, 4, 5]
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) <= before


async def test_check_asks_the_store(streams: Streams) -> None:
    await streams.check()


def test_event_loops_of_several_threads_use_the_streams_at_once(tmp_path: Path) -> None:
    streams = Streams(f"sqlite:///{tmp_path}/s.db")
    anyio.run(streams.append, "s", -1)
    errors: list[BaseException] = []

    async def append_some() -> None:
        for number in range(15):
            await streams.append("s", number)

    def work() -> None:
        try:
            anyio.run(append_some)
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    assert "tailrace-store-write" not in {thread.name for thread in threading.enumerate()}

    assert len(anyio.run(data_of, streams, "s")) == 1 + 6 * 15


async def test_a_lifespan_is_not_reached_from_another_event_loop(streams: Streams) -> None:
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            anyio.run(streams.append, "s", 1)
        except RuntimeError as error:
            errors.append(error)

    async with streams:
        await anyio.to_thread.run_sync(elsewhere)
    assert "another event loop" in str(errors[0])
