"""Watching and waiting: each change that is durable leads to a call, soon after."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import pytest

from tailrace.store import START, Append, Change, Fork, NewStream, Offset, Store
from tailrace.testing.clock import settle
from tests.store.contract._suite import StoreClock, StoreSuite, Watcher, fill, in_time

__all__ = ["WatchContract"]


def is_beyond(position: int, change: Change) -> bool:
    return change.tail.position > position


class WatchContract(StoreSuite):
    async def test_an_append_is_told(self, store: Store) -> None:
        await fill(store, "a", b"one")
        with Watcher(store, "a") as watcher:
            tail = (await store.append("a", Append(data=b"two"))).tail
            change = await watcher.told(lambda change: change.tail == tail)
        assert (change.closed, change.deleted) == (False, False)

    async def test_what_is_told_can_be_read(self, store: Store) -> None:
        await store.create("a", NewStream())
        with Watcher(store, "a") as watcher:
            async with anyio.create_task_group() as group:

                async def write() -> None:
                    for _ in range(20):
                        await store.append("a", Append(data=b"x"))

                group.start_soon(write)
                position = 0
                while position < 20:
                    change = await watcher.told(partial(is_beyond, position))
                    position = change.tail.position
                    assert (await store.read("a", change.tail)).start == change.tail

    async def test_chunks_that_come_along_are_what_a_read_gives(self, store: Store) -> None:
        await fill(store, "a", b"before")
        with Watcher(store, "a") as watcher:
            for number in range(10):
                await store.append("a", Append(data=b"%d" % number))
            tail = (await store.append("a", Append(close=True))).tail
            await watcher.told(lambda change: change.closed)
        for change in watcher.changes:
            if change.chunks is None:
                continue
            read = await store.read("a", change.start)
            assert read.chunks[: len(change.chunks)] == change.chunks
            assert (change.chunks[-1].end if change.chunks else change.start) == change.tail
        assert watcher.changes[-1].tail == tail

    async def test_the_last_change_is_told_however_many_there_were(self, store: Store) -> None:
        await store.create("a", NewStream())
        with Watcher(store, "a") as watcher:
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(store.append, "a", Append(data=b"x"))
            await watcher.told(lambda change: change.tail.position == 50)
        tails = [change.tail for change in watcher.changes]
        assert tails == sorted(tails), "what is told never goes back"
        assert len(tails) <= 50

    async def test_a_close_is_told(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one")
        with Watcher(store, "a") as watcher:
            await store.append("a", Append(close=True))
            assert (await watcher.told(lambda change: change.closed)).tail == tail

    async def test_a_last_append_is_told_with_the_close(self, store: Store) -> None:
        await fill(store, "a", b"one")
        with Watcher(store, "a") as watcher:
            await store.append("a", Append(data=b"last", close=True))
            change = await watcher.told(lambda change: change.tail.position == 7)
            assert change.closed, "nobody sees the one without the other"

    @pytest.mark.parametrize("fork", [None, Fork("source")])
    async def test_a_deletion_is_told(self, store: Store, fork: Fork | None) -> None:
        await fill(store, "source", b"x")
        await store.create("a", NewStream(fork=fork))
        with Watcher(store, "a") as watcher:
            await store.delete("a")
            await watcher.told(lambda change: change.deleted)

    async def test_a_deletion_is_told_though_forks_keep_the_data(self, store: Store) -> None:
        await fill(store, "a", b"x")
        await store.create("b", NewStream(fork=Fork("a")))
        with Watcher(store, "a") as watcher:
            await store.delete("a")
            await watcher.told(lambda change: change.deleted)

    async def test_a_path_can_be_watched_before_there_is_a_stream(self, store: Store) -> None:
        with Watcher(store, "a") as watcher:
            created = await store.create("a", NewStream(data=b"one"))
            await watcher.told(lambda change: change.tail == created.info.tail)
            tail = (await store.append("a", Append(data=b"two"))).tail
            await watcher.told(lambda change: change.tail == tail)

    async def test_a_path_is_watched_on_when_its_stream_is_made_again(self, store: Store) -> None:
        await fill(store, "a", b"one")
        with Watcher(store, "a") as watcher:
            await store.delete("a")
            *_, tail = await fill(store, "a", b"another")
            await watcher.told(lambda change: change.tail == tail and not change.deleted)

    async def test_a_refused_append_and_a_duplicate_are_not_told(self, store: Store) -> None:
        await store.create("a", NewStream(data=b"x", closed=True))
        with Watcher(store, "a") as watcher, Watcher(store, "b") as other:
            await store.append("a", Append(close=True))
            await store.create("a", NewStream(data=b"x", closed=True))
            await fill(store, "b", b"x")
            await other.told(lambda change: change.tail.position == 1)
            await settle()
            # A hint may come without a change, but it may not say what is not true.
            assert all(change.tail.position == 1 and change.closed for change in watcher.changes)

    async def test_who_has_stopped_is_not_told(self, store: Store) -> None:
        await store.create("a", NewStream())
        stopped, other = Watcher(store, "a"), Watcher(store, "a")
        with stopped, other:
            tail = (await store.append("a", Append(data=b"x"))).tail
            await stopped.told(lambda change: change.tail == tail)
            stopped.stop()
            told = len(stopped.changes)
            tail = (await store.append("a", Append(data=b"x"))).tail
            await other.told(lambda change: change.tail == tail)
            await settle()
            assert len(stopped.changes) == told
            stopped.stop()  # a second call does nothing

    async def test_only_the_stream_that_is_watched_is_told(self, store: Store) -> None:
        for path in ("a", "ab", "b"):
            await store.create(path, NewStream())
        with Watcher(store, "a") as watcher, Watcher(store, "b") as other:
            await store.append("ab", Append(data=b"x"))
            await store.append("b", Append(data=b"x"))
            await other.told(lambda change: change.tail.position == 1)
            await settle()
            assert [change for change in watcher.changes if change.tail != START] == []

    async def test_a_fork_is_not_told_of_its_source(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        with Watcher(store, "b") as watcher, Watcher(store, "a") as source:
            more = (await store.append("a", Append(data=b"two"))).tail
            await source.told(lambda change: change.tail == more)
            await settle()
            assert all(change.tail == tail for change in watcher.changes)

    async def test_the_same_call_may_watch_twice(self, store: Store) -> None:
        await store.create("a", NewStream())
        told: list[Change] = []
        stop = [store.watch("a", told.append) for _ in range(2)]
        stop[0]()
        with Watcher(store, "a") as watcher:
            tail = (await store.append("a", Append(data=b"x"))).tail
            await watcher.told(lambda change: change.tail == tail)
            await settle()
        stop[1]()
        assert [change.tail for change in told if change.tail == tail]

    async def test_a_watcher_may_stop_and_watch_from_within(self, store: Store) -> None:
        await store.create("a", NewStream())
        told: list[str] = []
        stops: list[Callable[[], None]] = []

        def once(_: Change) -> None:
            told.append("first")
            stops[0]()
            stops.append(store.watch("a", lambda _: told.append("second")))

        stops.append(store.watch("a", once))
        with Watcher(store, "a") as watcher:
            for position in range(2):
                await store.append("a", Append(data=b"x"))
                await watcher.told(partial(is_beyond, position))
                await settle()
        assert told[0] == "first"
        assert told.count("first") == 1
        assert "second" in told
        for stop in stops:
            stop()

    async def test_to_wait_for_what_is_there_returns_at_once(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one")
        await store.create("closed", NewStream(data=b"one", closed=True))
        with in_time():
            await store.wait("a", START)
            await store.wait("a", Offset(tail.generation, 1))
            await store.wait("closed", (await store.head("closed")).tail)
            await store.wait("not there", START)

    @pytest.mark.parametrize(
        "verb",
        [
            lambda store: store.append("a", Append(data=b"x")),
            lambda store: store.append("a", Append(close=True)),
            lambda store: store.delete("a"),
        ],
        ids=["append", "close", "delete"],
    )
    async def test_who_waits_at_the_tail_is_woken(
        self, store: Store, verb: Callable[[Store], object]
    ) -> None:
        *_, tail = await fill(store, "a", b"one")
        woken: list[int] = []

        async def wait(number: int) -> None:
            await store.wait("a", tail)
            woken.append(number)

        with in_time():
            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(wait, number)
                await settle()
                assert woken == []
                await verb(store)  # type: ignore[misc]  # each of them is awaitable
        assert sorted(woken) == [0, 1, 2]

    async def test_who_waits_misses_nothing_that_comes_meanwhile(self, store: Store) -> None:
        *_, position = await fill(store, "a", b"0")
        got = b""
        with in_time():
            async with anyio.create_task_group() as group:

                async def write() -> None:
                    for number in range(30):
                        await store.append("a", Append(data=b"%d," % number))
                    await store.append("a", Append(close=True))

                group.start_soon(write)
                while True:
                    await store.wait("a", position)
                    read = await store.read("a", position)
                    got, position = got + read.data, read.end
                    if read.closed:
                        break
        assert got == b"".join(b"%d," % number for number in range(30))

    async def test_a_cancelled_wait_leaves_no_watcher(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        async with anyio.create_task_group() as group:
            group.start_soon(store.wait, "a", START)
            await settle()
            group.cancel_scope.cancel()
        clock.advance(11)
        assert await store.list() == []
