"""Opening, closing and reopening: all that was acknowledged is there afterwards."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tailrace.errors import (
    OffsetGone,
    ProducerFenced,
    ProducerGap,
    SequenceConflict,
    StreamClosed,
    StreamExists,
    StreamGone,
)
from tailrace.store import (
    START,
    Append,
    Fork,
    Mark,
    NewStream,
    Producer,
    Retention,
    Store,
)
from tailrace.testing.leaks import no_leaks
from tests.store.contract._suite import StoreClock, StoreSuite, Watcher, fill, is_there

__all__ = ["OpenContract", "ReopenContract"]


class OpenContract(StoreSuite):
    async def test_a_store_works_as_soon_as_it_is_open(self, store: Store) -> None:
        await store.check()
        assert await store.list() == []

    async def test_to_open_twice_and_to_close_twice_is_to_do_it_once(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        store = self.make(tmp_path, clock)
        await store.open()
        await fill(store, "a", b"one")
        await store.open()
        assert (await store.read("a", START)).data == b"one"
        await store.aclose()
        await store.aclose()

    async def test_tasks_that_open_it_at_the_same_moment_open_it_once(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        store = self.make(tmp_path, clock)
        async with no_leaks():
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(store.open)
            await store.create("a", NewStream())
            await store.aclose()

    async def test_a_store_that_was_never_opened_can_be_closed(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        await self.make(tmp_path, clock).aclose()

    async def test_a_closed_store_leaves_nothing_behind(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        async with no_leaks(), self.make(tmp_path, clock) as store:
            with Watcher(store, "a") as watcher:
                *_, tail = await fill(store, "a", b"one")
                await watcher.told(lambda change: change.tail == tail)
            await store.read("a", START)


class ReopenContract(StoreSuite):
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.durable:
            for name in vars(ReopenContract):
                if name.startswith("test_"):
                    setattr(cls, name, None)  # so that pytest does not run it

    async def test_what_was_read_is_there_again(self, tmp_path: Path, clock: StoreClock) -> None:
        new = NewStream(
            content_type="text/plain; charset=utf-8",
            ttl=60,
            retention=Retention(max_bytes=10**6, max_records=10**6, max_age=10**6),
        )
        async with self.make(tmp_path, clock) as store:
            offsets = await fill(store, "a", b"one", bytes(range(256)), b"three", new=new)
            await store.create("b", NewStream(data=b"all", closed=True, expires_at=10**13))
            listed = await store.list()
            before = await store.read("a", START)
        async with self.make(tmp_path, clock) as store:
            assert await store.list() == listed
            assert await store.read("a", START) == before
            for offset in offsets:
                assert (await store.read("a", offset)).data == before.data[offset.position :]
            read = await store.read("b", Mark.BEGINNING)
            assert (read.data, read.closed) == (b"all", True)

    async def test_appends_go_on_where_they_were(self, tmp_path: Path, clock: StoreClock) -> None:
        tails = []
        for number in range(4):
            async with self.make(tmp_path, clock) as store:
                await store.create("a", NewStream())
                tail = (await store.append("a", Append(data=b"%d" % number))).tail
                tails.append(tail)
        async with self.make(tmp_path, clock) as store:
            read = await store.read("a", START)
        assert [chunk.data for chunk in read.chunks] == [b"0", b"1", b"2", b"3"]
        assert [chunk.end for chunk in read.chunks] == tails

    async def test_producers_and_sequences_are_remembered(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        async with self.make(tmp_path, clock) as store:
            await store.create("a", NewStream())
            for seq in range(3):
                await store.append("a", Append(data=b"x", producer=Producer("p", 2, seq)))
            await store.append("a", Append(data=b"x", seq="5"))
        async with self.make(tmp_path, clock) as store:
            done = await store.append("a", Append(data=b"x", producer=Producer("p", 2, 1)))
            assert (done.duplicate, done.producer) == (True, Producer("p", 2, 2))
            with pytest.raises(ProducerGap) as gap:
                await store.append("a", Append(data=b"x", producer=Producer("p", 2, 4)))
            assert gap.value.expected == 3
            with pytest.raises(ProducerFenced):
                await store.append("a", Append(data=b"x", producer=Producer("p", 1, 0)))
            with pytest.raises(SequenceConflict):
                await store.append("a", Append(data=b"x", seq="5"))
            assert (await store.head("a")).tail.position == 4

    async def test_a_close_and_who_closed_are_remembered(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        last = Append(data=b"last", close=True, producer=Producer("p", 0, 0))
        async with self.make(tmp_path, clock) as store:
            await store.create("a", NewStream())
            first = await store.append("a", last)
        async with self.make(tmp_path, clock) as store:
            again = await store.append("a", last)
            assert (again.duplicate, again.closed, again.tail) == (True, True, first.tail)
            with pytest.raises(StreamClosed):
                await store.append("a", Append(data=b"x"))
            assert (await store.read("a", START)).closed

    async def test_what_was_deleted_stays_deleted(self, tmp_path: Path, clock: StoreClock) -> None:
        async with self.make(tmp_path, clock) as store:
            *_, former = await fill(store, "a", b"one")
            await store.delete("a")
        async with self.make(tmp_path, clock) as store:
            assert not await is_there(store, "a")
            assert await store.list() == []
            *_, tail = await fill(store, "a", b"new")
            assert tail != former
            with pytest.raises(OffsetGone):
                await store.read("a", former)

    async def test_no_token_is_given_twice_though_the_clock_is_set_back(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        former = []
        for _ in range(3):
            async with self.make(tmp_path, clock) as store:
                former.append((await fill(store, "a", b"same size"))[-1])
                await store.delete("a")
            clock.advance(-3600)
        assert len(set(former)) == 3

    async def test_forks_and_what_they_keep_are_remembered(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        async with self.make(tmp_path, clock) as store:
            offsets = await fill(store, "a", b"one", b"two")
            await store.create("b", NewStream(fork=Fork("a", offsets[1], 2), data=b"own"))
            await store.create("c", NewStream(fork=Fork("b"), data=b"more"))
            await store.delete("a")
            before = await store.read("c", START)
            assert before.data == b"onetwownmore"
        async with self.make(tmp_path, clock) as store:
            assert await store.read("c", START) == before
            with pytest.raises(StreamGone):
                await store.head("a")
            with pytest.raises(StreamExists):
                await store.create("a", NewStream())
            fork = Fork("a", offsets[1], 2)
            assert not (await store.create("b", NewStream(fork=fork))).is_new
            await store.delete("b")
            await store.delete("c")
        async with self.make(tmp_path, clock) as store:
            for path in ("a", "b", "c"):
                assert (await store.create(path, NewStream())).is_new

    async def test_what_is_gone_stays_gone(self, tmp_path: Path, clock: StoreClock) -> None:
        retention = Retention(max_records=4)
        async with self.make(tmp_path, clock) as store:
            parts = [b"%d" % (number % 10) for number in range(21)]
            await fill(store, "a", *parts, new=NewStream(retention=retention))
            first = (await store.head("a")).first
        async with self.make(tmp_path, clock) as store:
            info = await store.head("a")
            assert (info.first, info.tail.position) == (first, 21)
            with pytest.raises(OffsetGone):
                await store.read("a", START)

    async def test_time_goes_on_while_nobody_has_it_open(
        self, tmp_path: Path, clock: StoreClock
    ) -> None:
        async with self.make(tmp_path, clock) as store:
            for path in ("read", "appended", "left"):
                await store.create(path, NewStream(ttl=10))
            await store.create("timed", NewStream(expires_at=clock.milliseconds + 18_000))
            clock.advance(9)
            await store.read("read", START)
            await store.append("appended", Append(data=b"x"))
        clock.advance(8.5)
        async with self.make(tmp_path, clock) as store:
            assert [info.path for info in await store.list()] == ["appended", "read", "timed"]
            clock.advance(1.5)
            assert await store.list() == []
