"""What keeps a stream that is gone, when its forks are very many."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tailrace.errors import StreamExists, StreamGone, StreamNotFound
from tailrace.store import START, Fork, NewStream
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.testing.stores import StoreClock

pytestmark = pytest.mark.anyio

MOST = 100


async def forked(store: SQLiteStore, count: int) -> None:
    await store.create("a", NewStream(data=b"x"))
    async with anyio.create_task_group() as group:
        for number in range(count):
            new = NewStream(fork=Fork("a"), ttl=10)
            group.start_soon(store.create, f"f/{number}", new)
    await store.delete("a")


@pytest.mark.parametrize("extra", [0, 1])
async def test_so_many_that_have_expired_are_let_go_at_once_and_the_next_time_more(
    file: Path, extra: int
) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await forked(store, MOST + extra)
        clock.advance(10)
        for _ in range(extra):
            with pytest.raises(StreamExists):
                await store.create("a", NewStream())
        assert (await store.create("a", NewStream())).is_new
    assert verify(file) == []


async def test_among_many_that_have_expired_one_that_lives_is_found(file: Path) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await forked(store, MOST - 1)
        await store.create("lives", NewStream(fork=Fork("f/7"), ttl=100))
        clock.advance(10)
        with pytest.raises(StreamGone):
            await store.head("a")
        with pytest.raises(StreamExists):
            await store.create("a", NewStream())
        assert (await store.read("lives", START)).data == b"x"
        clock.advance(100)  # it was read
        with pytest.raises(StreamNotFound) as refused:
            await store.head("a")
        assert not isinstance(refused.value, StreamGone)
    assert verify(file) == []
