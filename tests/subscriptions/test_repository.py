"""Subscriptions in a store, and the tails of streams."""

from __future__ import annotations

import json
from dataclasses import replace

import anyio
import pytest

from tailrace.errors import StreamNotFound, SubscriptionRefused
from tailrace.store import MemoryStore, NewStream, Offset
from tailrace.subscriptions.repository import (
    DIRECTORY,
    JsonCell,
    SubscriptionRepository,
    matching_tails,
    path_of,
    tails_of,
)
from tailrace.subscriptions.state import Config, Link, SubscriptionState

pytestmark = pytest.mark.anyio


def subscription(name: str = "s", nonce: str = "n") -> SubscriptionState:
    config = Config("pull-wake", "e/*", ("x",), None, "wake", 1000, "ü")
    links = {"e/ü": Link(True, Offset(5, 6), 7, Offset(5, 9), 3)}
    return SubscriptionState(
        id=name,
        nonce=nonce,
        version=0,
        config=config,
        base_url="http://h",
        created_at=1,
        links=links,
        wake_id="w",
        lease_until=5,
        holder="me",
    )


async def test_a_state_comes_back_as_it_was_written() -> None:
    repository = SubscriptionRepository(MemoryStore())
    stored = await repository.add(subscription())
    assert stored is not None
    assert stored.state == replace(subscription(), version=1)
    assert await repository.find("s") == stored


async def test_a_state_that_an_earlier_version_stored_is_read() -> None:
    stored = {
        "id": "s",
        "nonce": "n",
        "version": 0,
        "base_url": "http://h",
        "created_at": 1,
        "generation": 0,
        "wake_id": "w",
        "holder": "me",
        "lease_until": 5,
        "retry_at": None,
        "attempts": 0,
        "heard": False,
        "full": False,
        "deleted": False,
        "config": {
            "type": "pull-wake",
            "pattern": "e/*",
            "streams": ["x"],
            "webhook_url": None,
            "wake_stream": "wake",
            "lease_ms": 1000,
            "description": "ü",
        },
        "links": {"e/ü": [1, 5, 6, 7, 3, 5, 9]},
    }
    assert SubscriptionState.decode(stored) == subscription()
    assert json.loads(json.dumps(subscription().encode())) == stored


async def test_an_object_that_was_never_written_or_was_deleted_is_not_there() -> None:
    cell = JsonCell(MemoryStore(), "e")
    assert await cell.read() is None
    await cell.write({"version": 1})
    await cell.delete()
    await cell.delete()
    assert await cell.read() is None


async def test_an_object_is_only_replaced_by_a_newer_version() -> None:
    cell = JsonCell(MemoryStore(), "e")
    tail = await cell.write({"version": 1, "of": "ü"})
    assert await cell.write({"version": 1, "of": "another"}) is None
    assert await cell.read() == ({"version": 1, "of": "ü"}, tail)


async def test_an_object_that_was_deleted_is_not_written_again() -> None:
    cell = JsonCell(MemoryStore(), "e")
    await cell.write({"version": 1})
    await cell.delete()
    with pytest.raises(StreamNotFound):
        await cell.write({"version": 2})


async def test_of_many_writers_of_one_version_one_wins() -> None:
    repository = SubscriptionRepository(MemoryStore())
    stored = await repository.add(subscription())
    assert stored is not None
    won: list[int] = []

    async def write(number: int) -> None:
        if await repository.save(replace(stored.state, generation=number)) is not None:
            won.append(number)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(write, number)
    assert len(won) == 1
    assert (await repository.find("s")).state.generation == won[0]


async def test_counting_up_in_many_tasks_loses_nothing() -> None:
    repository = SubscriptionRepository(MemoryStore())
    await repository.add(subscription())

    async def count() -> None:
        for _ in range(10):
            while True:
                now = (await repository.find("s")).state
                if await repository.save(replace(now, generation=now.generation + 1)) is not None:
                    break

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(count)
    assert (await repository.find("s")).state.generation == 50


async def test_a_second_subscription_of_a_name_is_not_added_and_leaves_nothing() -> None:
    store = MemoryStore()
    repository = SubscriptionRepository(store)
    await repository.add(subscription())
    assert await repository.add(subscription(nonce="other")) is None
    assert [info.path for info in await store.list("__ds/")] == [DIRECTORY, path_of("s", "n")]


async def test_a_late_process_writes_nothing_into_a_later_subscription() -> None:
    repository = SubscriptionRepository(MemoryStore())
    old = await repository.add(subscription())
    assert old is not None
    await repository.remove("s", "n")
    await repository.add(subscription(nonce="later"))
    with pytest.raises(SubscriptionRefused) as caught:
        await repository.save(old.state)
    assert caught.value.status == 404
    await repository.remove("s", "n")
    assert (await repository.find("s")).state.nonce == "later"


async def test_a_store_keeps_one_state_however_often_it_was_written() -> None:
    store = MemoryStore()
    repository = SubscriptionRepository(store)
    stored = await repository.add(subscription())
    for _ in range(100):
        assert stored is not None
        stored = await repository.save(stored.state)
    assert stored is not None
    info = await store.head(path_of("s", "n"))
    assert info.tail.position - info.first.position < 3 * len(json.dumps(stored.state.encode()))
    assert await repository.find("s") == stored


@pytest.mark.parametrize("count", [0, 1, 31, 33, 1001, 2500])
async def test_tails_of_few_and_of_many_are_the_same(count: int) -> None:
    store = MemoryStore()
    for number in range(count):
        await store.create(f"e/{number:05d}/ü", NewStream(data=b"x" * (number % 7)))
        await store.create(f"e/{number:05d}/other", NewStream())
    paths = [f"e/{number:05d}/ü" for number in range(count)]
    tails = await tails_of(store, [*paths, "e/missing", "zz"])
    assert set(tails) == set(paths)
    assert all(tails[path].offset.position == at % 7 for at, path in enumerate(paths))
    assert await tails_of(store, paths) == tails


@pytest.mark.slow
async def test_many_paths_among_many_more_streams_are_asked_for_one_by_one() -> None:
    store = MemoryStore()
    for number in range(9000):
        await store.create(f"{number:05d}", NewStream())
    paths = [f"{number:05d}" for number in (*range(40), 8999)]
    assert set(await tails_of(store, [*paths, "x"])) == set(paths)


async def test_a_pattern_finds_existing_streams_over_many_pages() -> None:
    store = MemoryStore()
    for number in range(1500):
        await store.create(f"e/{number:04d}", NewStream())
        await store.create(f"e/{number:04d}/deeper", NewStream())
    await store.create("wake", NewStream())
    await store.create("__ds/keys", NewStream())
    assert (
        len(await matching_tails(store, Config("webhook", "e/*", (), "u", None, 1, None))) == 1500
    )
    everything = await matching_tails(store, Config("pull-wake", "**", (), None, "wake", 1, None))
    assert len(everything) == 3000
    assert await matching_tails(store, Config("webhook", None, ("x",), "u", None, 1, None)) == {}
