"""What keeps a stream that is gone, when its forks are very many."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tailrace.errors import StreamExists, StreamGone, StreamNotFound
from tailrace.store import START, Append, Fork, NewStream
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.operation import AppendTo, Create, Delete
from tests.store.contract import StoreClock
from tests.store.sqlite.writing import Writing
from tests.store.work import steps

MOST = 100


async def forked(store: SQLiteStore, count: int) -> None:
    await store.create("a", NewStream(data=b"x"))
    async with anyio.create_task_group() as group:
        for number in range(count):
            new = NewStream(fork=Fork("a"), ttl=10)
            group.start_soon(store.create, f"f/{number}", new)
    await store.delete("a")


@pytest.mark.anyio
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


@pytest.mark.anyio
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


@pytest.mark.parametrize("ttl", [None, 10])
@pytest.mark.parametrize("between", [False, True])
def test_who_asks_for_a_stream_that_is_gone_looks_at_no_more_forks_than_one(
    tmp_path: Path, ttl: int | None, between: bool
) -> None:
    counts = []
    for count in (MOST, 4 * MOST):
        with Writing(tmp_path / str(count)) as writer:
            writer.commit(Create("a", NewStream(data=b"x"), None))
            for number in range(count):
                path = f"f/{number}"
                writer.commit(Create(path, NewStream(fork=Fork("a"), ttl=ttl), None))
                if between:
                    writer.commit(Create(f"g/{number}", NewStream(fork=Fork(path)), None))
                    writer.commit(Delete(path, None))
            writer.commit(Delete("a", None))
            with steps(writer.connection) as done:
                append = AppendTo("a", Append(data=b"x"), None)
                with pytest.raises(StreamGone):
                    writer.commit(append)
            counts.append(done.count)
    assert counts[0] == counts[1]
    assert counts[0] < 10_000


def test_the_live_source_of_many_forks_is_appended_to_as_any_other(tmp_path: Path) -> None:
    counts = []
    for count in (10, 400):
        with Writing(tmp_path / str(count)) as writer:
            writer.commit(Create("a", NewStream(data=b"x"), None))
            for number in range(count):
                writer.commit(Create(f"f/{number}", NewStream(fork=Fork("a")), None))
            with steps(writer.connection) as done:
                writer.commit(AppendTo("a", Append(data=b"x"), None))
            counts.append(done.count)
    assert counts[0] == counts[1]
