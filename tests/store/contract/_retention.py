"""Retention: a store keeps what was asked for, up to a quarter more, and says what is gone."""

from __future__ import annotations

import pytest

from tailrace.errors import ForkRefused, OffsetGone
from tailrace.store import START, Append, Fork, Mark, NewStream, Offset, Retention, Store
from tests.store.contract._suite import StoreClock, StoreSuite, fill

__all__ = ["RetentionContract"]


def numbered(count: int, size: int = 10) -> list[bytes]:
    return [b"%0*d" % (size, number) for number in range(count)]


class RetentionContract(StoreSuite):
    @pytest.mark.parametrize(("max_bytes", "size"), [(100, 10), (100, 25), (1000, 10), (40, 10)])
    async def test_bytes_are_kept_as_asked_and_a_quarter_more(
        self, store: Store, max_bytes: int, size: int
    ) -> None:
        await store.create("a", NewStream(retention=Retention(max_bytes=max_bytes)))
        gone = 0
        for data in numbered(4 * max_bytes // size, size):
            await store.append("a", Append(data=data))
            info = await store.head("a")
            kept = info.tail.position - info.first.position
            assert kept >= min(max_bytes, info.tail.position)
            assert kept <= max_bytes * 5 // 4
            assert info.first.position >= gone, "what is gone does not come back"
            gone = info.first.position
        assert gone

    @pytest.mark.parametrize("max_records", [1, 2, 4, 10])
    async def test_appends_are_kept_as_asked_and_a_quarter_more(
        self, store: Store, max_records: int
    ) -> None:
        await store.create("a", NewStream(retention=Retention(max_records=max_records)))
        for count, data in enumerate(numbered(40), 1):
            await store.append("a", Append(data=data))
            chunks = (await store.read("a", Mark.BEGINNING)).chunks
            assert min(count, max_records) <= len(chunks) <= max_records * 5 // 4
            assert chunks[-1].data == data

    async def test_what_is_kept_by_age_goes_with_the_appends_after_it(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(retention=Retention(max_age=100)))
        for number, data in enumerate(numbered(60)):
            await store.append("a", Append(data=data))
            first = (await store.head("a")).first.position // 10
            seconds = 10 * number
            assert first <= max(0, seconds - 100) // 10, "nothing younger is gone"
            assert first >= (seconds - 125) // 10, "nothing much older is kept"
            clock.advance(10)

    async def test_what_is_too_old_is_gone_though_nothing_is_appended(
        self, store: Store, clock: StoreClock
    ) -> None:
        *_, tail = await fill(store, "a", b"one", new=NewStream(retention=Retention(max_age=100)))
        clock.advance(100)
        assert (await store.read("a", START)).data == b"one"
        clock.advance(25.001)
        read = await store.read("a", Mark.BEGINNING)
        assert (read.start, read.data) == (tail, b"")
        with pytest.raises(OffsetGone):
            await store.read("a", START)
        assert (await store.head("a")).first == tail

    async def test_the_last_append_is_kept_however_long_it_is(self, store: Store) -> None:
        await store.create("a", NewStream(retention=Retention(max_bytes=10)))
        for _ in range(3):
            await store.append("a", Append(data=b"x" * 100))
            read = await store.read("a", Mark.BEGINNING)
            assert [len(chunk.data) for chunk in read.chunks] == [100]

    async def test_what_is_kept_begins_with_a_whole_append(self, store: Store) -> None:
        sent = numbered(50)
        offsets = await fill(store, "a", *sent, new=NewStream(retention=Retention(max_bytes=95)))
        info = await store.head("a")
        assert info.first in offsets
        read = await store.read("a", Mark.BEGINNING)
        assert read.start == info.first
        assert [chunk.data for chunk in read.chunks] == sent[offsets.index(info.first) :]

    async def test_what_is_gone_is_told_and_says_where_to_go_on(self, store: Store) -> None:
        retention = Retention(max_records=4)
        offsets = await fill(store, "a", *numbered(20), new=NewStream(retention=retention))
        first = (await store.head("a")).first
        assert first > START
        for offset in offsets:
            if offset.position >= first.position:
                assert (await store.read("a", offset)).start == offset
                continue
            with pytest.raises(OffsetGone) as gone:
                await store.read("a", offset)
            assert (gone.value.offset, gone.value.first) == (str(offset), str(first))
        with pytest.raises(OffsetGone):
            await store.read("a", Offset(first.generation, first.position - 1))

    async def test_reads_end_where_they_would_without_retention(self, store: Store) -> None:
        sent = numbered(30, 7)
        await fill(store, "all", *sent)
        await fill(store, "a", *sent, new=NewStream(retention=Retention(max_records=8)))
        first = (await store.head("a")).first
        generation = (await store.head("all")).tail.generation
        ours = await store.read("a", first, 50)
        theirs = await store.read("all", Offset(generation, first.position), 50)
        assert ours.end.position == theirs.end.position
        assert ours.data == theirs.data

    async def test_the_tail_and_the_producers_stay_when_data_goes(self, store: Store) -> None:
        await fill(store, "a", *numbered(50), new=NewStream(retention=Retention(max_records=1)))
        assert (await store.head("a")).tail.position == 500
        done = await store.append("a", Append(data=b"last", close=True))
        assert done.tail.position == 504
        assert (await store.read("a", Mark.BEGINNING)).data == b"last"

    async def test_what_is_gone_is_gone_for_forks_too(self, store: Store) -> None:
        retention = Retention(max_records=4)
        offsets = await fill(store, "a", *numbered(5), new=NewStream(retention=retention))
        await store.create("b", NewStream(fork=Fork("a"), data=b"own"))
        for data in numbered(20):
            await store.append("a", Append(data=data))
        info = await store.head("b")
        # All inherited bytes are gone by now; the fork's own are not under that retention.
        assert info.first == offsets[-1]
        with pytest.raises(OffsetGone) as gone:
            await store.read("b", START)
        assert gone.value.first == str(info.first)
        assert (await store.read("b", Mark.BEGINNING)).data == b"own"

    async def test_of_what_a_fork_inherits_that_is_left_which_its_source_keeps(
        self, store: Store
    ) -> None:
        retention = Retention(max_records=4)
        offsets = await fill(store, "a", *numbered(4), new=NewStream(retention=retention))
        await store.create("b", NewStream(fork=Fork("a"), data=b"own"))
        for data in numbered(2):
            await store.append("a", Append(data=data))
        first = (await store.head("a")).first
        assert START < first < offsets[-1]
        assert (await store.head("b")).first == first
        read = await store.read("b", Mark.BEGINNING)
        assert read.data == b"".join(numbered(4))[first.position :] + b"own"

    async def test_a_fork_keeps_its_own_as_it_was_asked_to(self, store: Store) -> None:
        await fill(store, "a", b"inherited")
        await store.create("b", NewStream(fork=Fork("a"), retention=Retention(max_records=4)))
        for data in numbered(3):
            await store.append("b", Append(data=data))
        assert (await store.head("b")).first == START
        for data in numbered(20):
            await store.append("b", Append(data=data))
        assert 4 <= len((await store.read("b", Mark.BEGINNING)).chunks) <= 5
        assert (await store.read("a", START)).data == b"inherited"

    async def test_a_fork_cannot_begin_at_what_is_gone(self, store: Store) -> None:
        retention = Retention(max_records=2)
        offsets = await fill(store, "a", *numbered(20), new=NewStream(retention=retention))
        with pytest.raises(ForkRefused):
            await store.create("b", NewStream(fork=Fork("a", offsets[3])))
        first = (await store.head("a")).first
        await store.create("b", NewStream(fork=Fork("a", first), data=b"own"))
        assert (await store.read("b", Mark.BEGINNING)).data == b"own"

    async def test_bounds_apply_together(self, store: Store, clock: StoreClock) -> None:
        retention = Retention(max_bytes=1000, max_records=50, max_age=100)
        await store.create("a", NewStream(retention=retention))
        for data in numbered(80):
            await store.append("a", Append(data=data))
        first = (await store.head("a")).first.position // 10
        assert 80 - 62 <= first <= 80 - 50
        clock.advance(126)
        await store.append("a", Append(data=b"x"))
        assert (await store.read("a", Mark.BEGINNING)).data == b"x"
