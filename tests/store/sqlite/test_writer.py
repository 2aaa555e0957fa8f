"""One commit for all that waits; what is refused, cancelled, or finds no room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tailrace import limits
from tailrace.errors import StoreUnavailable, StreamClosed, StreamNotFound
from tailrace.store import START, Append, Change, Fork, Mark, NewStream, Producer
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.testing import settle
from tests.store.sqlite.locking import held

pytestmark = pytest.mark.anyio


async def together(file: Path, *calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Make calls that all wait when the first of them is looked at; results or errors."""
    results: list[Any] = [None] * len(calls)

    async def run(index: int, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            results[index] = await call()
        except Exception as error:  # noqa: BLE001 - it is the result
            results[index] = error

    async with anyio.create_task_group() as group:
        with held(file):
            for index, call in enumerate(calls):
                group.start_soon(run, index, call)
                await settle()
    return results


async def test_all_that_waits_is_one_commit_in_its_order(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        changes: list[Change] = []
        stop = store.watch("a", changes.append)
        data = [b"%02d" % number for number in range(40)]
        results = await together(
            file, *(lambda piece=piece: store.append("a", Append(data=piece)) for piece in data)
        )
        assert [done.tail.position for done in results] == list(range(2, 82, 2))
        assert (await store.read("a", START)).data == b"".join(data)
        # And one change.
        assert [len(change.chunks or ()) for change in changes] == [40]
        stop()
    assert verify(file) == []


async def test_one_that_is_refused_fails_alone(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        await store.create("b", NewStream(closed=True))
        results = await together(
            file,
            lambda: store.append("a", Append(data=b"1")),
            lambda: store.append("b", Append(data=b"2")),
            lambda: store.append("none", Append(data=b"3")),
            lambda: store.append("a", Append(data=b"4")),
        )
        assert isinstance(results[1], StreamClosed)
        assert isinstance(results[2], StreamNotFound)
        assert (await store.read("a", START)).data == b"14"


async def test_every_kind_of_request_sees_those_before_it(file: Path) -> None:
    async with SQLiteStore(file) as store:
        one, two = Producer("p", 0, 0), Producer("p", 0, 1)
        results = await together(
            file,
            lambda: store.create("a", NewStream(content_type="text/plain", data=b"first")),
            lambda: store.append("a", Append(data=b"+", producer=one)),
            lambda: store.create("fork", NewStream(fork=Fork("a", sub_offset=0), data=b"!")),
            lambda: store.create("half", NewStream(fork=Fork("a", START, 3))),
            lambda: store.append("a", Append(data=b"+", producer=one)),
            lambda: store.delete("a"),
            lambda: store.append("a", Append(data=b"too late")),
            lambda: store.delete("fork"),
            lambda: store.delete("half"),
            lambda: store.create("a", NewStream(data=b"second")),
            lambda: store.append("a", Append(data=b"-", producer=two)),
            lambda: store.append("a", Append(data=b"-", producer=one)),
            lambda: store.append("a", Append(close=True)),
        )
        kinds = [type(result).__name__ for result in results]
        assert kinds == [
            "Created",
            "Appended",
            "Created",
            "Created",
            "Appended",
            "NoneType",
            "StreamGone",
            "NoneType",
            "NoneType",
            "Created",
            "ProducerGap",
            "Appended",
            "Appended",
        ]
        assert results[4].duplicate
        assert not results[11].duplicate
        assert (await store.read("a", START)).data == b"second-"
        assert [info.path for info in await store.list()] == ["a"]
    assert verify(file) == []


async def test_what_was_cancelled_before_it_was_taken_is_not_done(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        async with anyio.create_task_group() as group:
            with held(file):
                group.start_soon(store.append, "a", Append(data=b"1"))
                await settle()
                with anyio.move_on_after(0.01):
                    await store.append("a", Append(data=b"2"))
                group.start_soon(store.append, "a", Append(data=b"3"))
                await settle()
        assert (await store.read("a", START)).data in (b"13", b"123")


async def test_a_full_queue_lets_callers_wait_in_their_order(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_OPS", 3)
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        data = [b"%d" % number for number in range(10)]
        waiting: list[int] = []

        def append(piece: bytes) -> Callable[[], Awaitable[Any]]:
            async def call() -> None:
                waiting.append(store._waiting_ops)
                await store.append("a", Append(data=piece))

            return call

        await together(file, *(append(piece) for piece in data))
        assert max(waiting) == 3
        assert (await store.read("a", START)).data == b"0123456789"
        assert (store._waiting_ops, store._waiting_bytes) == (0, 0)


async def test_a_queue_is_full_of_bytes_as_well(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_BYTES", 100)
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        async with anyio.create_task_group() as group:
            with held(file):
                for _ in range(4):
                    group.start_soon(store.append, "a", Append(data=b"x" * 50))
                await settle()
                assert (store._waiting_ops, store._waiting_bytes) == (2, 100)
        assert (await store.head("a")).tail.position == 200


async def test_a_caller_that_gives_up_waiting_for_room_leaves_it_to_the_next(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_OPS", 1)
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        async with anyio.create_task_group() as group:
            with held(file):
                group.start_soon(store.append, "a", Append(data=b"1"))
                await settle()
                with anyio.move_on_after(0.01):
                    await store.append("a", Append(data=b"2"))
                group.start_soon(store.append, "a", Append(data=b"3"))
                await settle()
        assert (await store.read("a", START)).data == b"13"
        assert store._waiting_ops == 0


async def test_callers_that_give_up_once_they_have_room_give_it_back(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_OPS", 3)
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        with held(file):
            for _ in range(3):
                with anyio.move_on_after(0.01):
                    await store.append("a", Append(data=b"lost"))
            assert store._waiting_ops == 3, "the writer has them until it looks"
        with anyio.fail_after(30):
            await store.append("a", Append(data=b"x"))
        assert (store._waiting_ops, store._waiting_bytes) == (0, 0)


async def test_who_waits_for_room_when_the_store_is_closed_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_OPS", 1)
    store = SQLiteStore(file)
    await store.open()
    await store.create("a", NewStream())
    results: list[Any] = []

    async def append() -> None:
        try:
            results.append(await store.append("a", Append(data=b"x")))
        except StoreUnavailable as error:
            results.append(error)

    async with anyio.create_task_group() as group:
        with held(file):
            for _ in range(3):
                group.start_soon(append)
            await settle()
            group.start_soon(store.aclose)
            await settle()
    assert sorted(type(result).__name__ for result in results) == [
        "Appended",
        "StoreUnavailable",
        "StoreUnavailable",
    ]


def counted(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each commit has from now on."""
    batches: list[int] = []
    done = store._answered

    def answered(operations: Any, events: Any) -> None:
        batches.append(len(operations))
        done(operations, events)

    monkeypatch.setattr(store, "_answered", answered)
    return batches


@pytest.mark.parametrize(
    ("sizes", "commits"),
    [
        ([50, 49, 1], [3]),
        ([50, 50, 1], [2, 1]),
        ([50, 49, 500, 1], [3, 1]),
        ([500, 1], [1, 1]),
    ],
)
async def test_a_commit_ends_with_the_append_that_reaches_its_bytes(
    file: Path, sizes: list[int], commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_BATCH_BYTES", 100)
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        batches = counted(store, monkeypatch)
        appends = [Append(data=b"x" * size) for size in sizes]
        await together(
            file, *(lambda append=append: store.append("a", append) for append in appends)
        )
        assert (await store.head("a")).tail.position == sum(sizes)
        assert batches == commits


@pytest.mark.parametrize(("size", "most"), [(511, 1), (512, 2)])
async def test_a_commit_has_so_many_requests_and_no_more(
    file: Path, size: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        batches = counted(store, monkeypatch)
        async with anyio.create_task_group() as group:
            with held(file):
                for _ in range(size):
                    group.start_soon(store.append, "a", Append(data=b"x"))
                await settle()
        assert sum(batches) == size
        assert len(batches) == most
        assert max(batches) <= limits.STORE_BATCH_OPS


async def test_a_cache_that_is_too_small_costs_only_time(
    file: Path,
) -> None:
    async with SQLiteStore(file) as store:
        cache = store._writer._file.cache
        cache._most_streams = 2
        cache._most_producers = 2
        for round_ in range(3):
            for number in range(5):
                if round_ == 0:
                    await store.create(f"s/{number}", NewStream())
                producer = Producer("p", 0, round_)
                append = Append(data=b"%d" % round_, producer=producer)
                assert not (await store.append(f"s/{number}", append)).duplicate
                assert (await store.append(f"s/{number}", append)).duplicate
                assert len(cache.streams) <= 2
                assert len(cache.producers) <= 2
        for number in range(5):
            assert (await store.read(f"s/{number}", Mark.BEGINNING)).data == b"012"
    assert verify(file) == []
