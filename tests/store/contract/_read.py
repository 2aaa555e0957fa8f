"""Reads: where they may begin, and where they end."""

from __future__ import annotations

from itertools import product

import pytest

from tailrace import limits
from tailrace.errors import InvalidOffset, OffsetGone, StreamNotFound
from tailrace.store import START, Append, Fork, Mark, NewStream, Offset, Store
from tests.store.contract._suite import StoreClock, StoreSuite, fill, read_all

__all__ = ["ReadContract"]

SIZES = (3, 1, 7, 2, 2, 11, 1, 1, 4, 16, 5)


def parts(sizes: tuple[int, ...] = SIZES) -> list[bytes]:
    """Appends of these sizes, in which each byte differs from the one before it."""
    data = bytes(number % 251 for number in range(sum(sizes)))
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


class ReadContract(StoreSuite):
    async def test_an_empty_stream_is_read_from_every_mark(self, store: Store) -> None:
        await store.create("a", NewStream())
        for where in (START, Mark.BEGINNING, Mark.TAIL):
            read = await store.read("a", where)
            assert (read.start, read.end, read.chunks, read.data) == (START, START, (), b"")
            assert (read.up_to_date, read.closed) == (True, False)

    async def test_an_empty_closed_stream_says_so(self, store: Store) -> None:
        await store.create("a", NewStream(closed=True))
        for where in (START, Mark.BEGINNING, Mark.TAIL):
            assert (await store.read("a", where)).closed

    async def test_the_marks_are_the_ends(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one", b"two")
        read = await store.read("a", Mark.BEGINNING)
        assert (read.start, read.data, read.end) == (START, b"onetwo", tail)
        read = await store.read("a", Mark.TAIL)
        assert (read.start, read.data, read.end) == (tail, b"", tail)
        assert read.up_to_date

    async def test_a_stream_that_is_not_there_cannot_be_read(self, store: Store) -> None:
        for where in (START, Mark.BEGINNING, Mark.TAIL):
            with pytest.raises(StreamNotFound):
                await store.read("a", where)

    @pytest.mark.parametrize(("size", "appends"), [(limits.READ_BYTES // 8, 8), (999_999, 2)])
    async def test_a_read_ends_with_the_append_that_reaches_so_many_bytes(
        self, store: Store, size: int, appends: int
    ) -> None:
        offsets = await fill(store, "a", *(bytes(size) for _ in range(12)))
        read = await store.read("a", START)
        assert (len(read.data), read.end) == (size * appends, offsets[appends])
        assert read.end.position >= limits.READ_BYTES > offsets[appends - 1].position
        # A reader that begins later gets the same end.
        assert (await store.read("a", offsets[1])).end == read.end

    async def test_a_read_knows_the_stream(self, store: Store) -> None:
        await fill(store, "a", b"one")
        assert (await store.read("a", START)).info == await store.head("a")

    async def test_from_the_end_of_each_append_what_follows_is_read(self, store: Store) -> None:
        all_parts = parts()
        offsets = await fill(store, "a", *all_parts)
        for index, offset in enumerate(offsets):
            read = await store.read("a", offset)
            assert read.start == offset
            assert [chunk.data for chunk in read.chunks] == all_parts[index:]
            assert [chunk.end for chunk in read.chunks] == offsets[index + 1 :]

    async def test_from_within_an_append_the_whole_of_it_is_read(self, store: Store) -> None:
        whole = b"".join(parts())
        offsets = await fill(store, "a", *parts())
        for position in range(1, len(whole)):
            read = await store.read("a", Offset(offsets[-1].generation, position))
            start = max(offset for offset in offsets if offset.position <= position)
            assert (read.start, read.data) == (start, whole[start.position :])
            assert read.end == offsets[-1]

    async def test_from_within_a_message_of_json_the_whole_of_it_is_read(
        self, store: Store
    ) -> None:
        messages = [b'{"a":"x,y"},', b"[1,[2,3]],", b'",\\",",', '"\u00e4,",'.encode(), b"5,"]
        new = NewStream(content_type="application/json")
        first, tail = await fill(store, "a", b"".join(messages), new=new)
        ends = [sum(map(len, messages[:count])) for count in range(len(messages))]
        for position in range(1, tail.position):
            border = max(end for end in ends if end <= position)
            for max_bytes in (1, 12, 13, 20, 1000):
                read = await store.read("a", Offset(tail.generation, position), max_bytes)
                assert read.start == (Offset(tail.generation, border) if border else first)
                assert (read.data, read.end) == (b"".join(messages)[border:], tail)

    async def test_from_where_it_begins_a_slice_is_the_same_for_all(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one", b"x" * 20, b"two", b"three")
        for max_bytes, position in product((4, 10, 16), range(1, tail.position)):
            read = await store.read("a", Offset(tail.generation, position), max_bytes)
            assert read == await store.read("a", read.start, max_bytes)

    async def test_a_read_ends_with_the_append_that_reaches_the_next_multiple(
        self, store: Store
    ) -> None:
        *_, tail = await fill(store, "a", *parts())
        ends = [sum(SIZES[: index + 1]) for index in range(len(SIZES))]
        places = product((1, 2, 3, 5, 13, 52, 53, 54, 1000), range(0, tail.position, 2))
        for max_bytes, position in places:
            start = Offset(tail.generation, position) if position else START
            border = max((end for end in ends if end <= position), default=0)
            wanted = (border // max_bytes + 1) * max_bytes
            end = next((end for end in ends if end >= wanted), tail.position)
            read = await store.read("a", start, max_bytes)
            assert read.end.position == end
            assert read.up_to_date == (end == tail.position)

    async def test_all_who_read_on_meet_at_the_same_places(self, store: Store) -> None:
        whole = b"".join(parts())
        *_, tail = await fill(store, "a", *parts())
        for max_bytes in (4, 10, 1000):
            slices = await read_all(store, "a", START, max_bytes)
            assert b"".join(read.data for read in slices) == whole
            meetings = {read.end for read in slices}
            for position in range(1, len(whole), 3):
                others = await read_all(store, "a", Offset(tail.generation, position), max_bytes)
                assert b"".join(read.data for read in others) == whole[others[0].start.position :]
                assert {read.end for read in others} <= meetings

    async def test_a_slice_that_does_not_end_at_the_tail_stays_as_it_is(self, store: Store) -> None:
        await fill(store, "a", *parts())
        before = await store.read("a", START, 10)
        assert not before.up_to_date
        await store.append("a", Append(data=b"more", close=True))
        after = await store.read("a", START, 10)
        assert (after.start, after.chunks) == (before.start, before.chunks)
        assert not after.closed

    async def test_an_append_longer_than_a_read_is_not_cut(self, store: Store) -> None:
        await fill(store, "a", b"x" * 1000, b"y")
        read = await store.read("a", START, 10)
        assert [len(chunk.data) for chunk in read.chunks] == [1000]

    async def test_only_the_slice_that_reaches_the_tail_of_a_closed_stream_is_closed(
        self, store: Store
    ) -> None:
        await fill(store, "a", *parts())
        await store.append("a", Append(close=True))
        slices = await read_all(store, "a", START, 10)
        assert len(slices) > 2
        assert [read.closed for read in slices] == [False] * (len(slices) - 1) + [True]
        assert (await store.read("a", Mark.TAIL)).closed

    async def test_beyond_the_tail_there_is_nothing_to_read(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one")
        for beyond in (2, 3, 10**9):
            offset = Offset(tail.generation, tail.position + beyond)
            with pytest.raises(InvalidOffset) as refused:
                await store.read("a", offset)
            assert refused.value.token == str(offset)

    async def test_one_byte_beyond_the_tail_is_read_as_the_tail_is(self, store: Store) -> None:
        await store.create("empty", NewStream())
        await fill(store, "a", b"one", b"two")
        await store.create("fork", NewStream(fork=Fork("a")))
        for path in ("empty", "fork", "a"):
            tail = (await store.head(path)).tail
            after = Offset(tail.generation, tail.position + 1)
            read = await store.read(path, after)
            assert (read.start, read.chunks, read.up_to_date) == (tail, (), True)
        await store.append("a", Append(data=b"three"))
        assert (await store.read("a", after)).data == b"three"

    async def test_the_greatest_token_of_all_is_beyond_the_tail(self, store: Store) -> None:
        await fill(store, "a", b"one")
        with pytest.raises(InvalidOffset):
            await store.read("a", Offset.parse("9999999999999999_9999999999999999"))

    async def test_a_position_without_its_generation_was_never_given_out(
        self, store: Store
    ) -> None:
        await fill(store, "a", b"one")
        with pytest.raises(InvalidOffset):
            await store.read("a", Offset(0, 3))

    @pytest.mark.parametrize("pause", [0, 0.001, 60])
    async def test_a_stream_that_was_here_before_is_not_misread(
        self, store: Store, clock: StoreClock, pause: float
    ) -> None:
        former = await fill(store, "a", b"first", b"life")
        await store.delete("a")
        clock.advance(pause)
        *_, tail = await fill(store, "a", b"second life, longer")
        for offset in former[1:]:
            assert offset != Offset(tail.generation, offset.position)
            with pytest.raises(OffsetGone) as gone:
                await store.read("a", offset)
            assert (gone.value.offset, gone.value.first) == (str(offset), str(START))
        assert (await store.read("a", former[0])).data == b"second life, longer"

    async def test_a_former_stream_that_was_longer_is_gone_as_well(self, store: Store) -> None:
        *_, former = await fill(store, "a", b"x" * 100)
        await store.delete("a")
        await fill(store, "a", b"short")
        with pytest.raises(OffsetGone):
            await store.read("a", former)

    async def test_a_clock_that_is_set_back_gives_no_token_twice(
        self, store: Store, clock: StoreClock
    ) -> None:
        former = []
        for _ in range(4):
            former.append((await fill(store, "a", b"same size"))[-1])
            await store.delete("a")
            clock.advance(-3600)
        *_, tail = await fill(store, "a", b"same size")
        assert len({*former, tail}) == 5
        for offset in former:
            with pytest.raises((OffsetGone, InvalidOffset)):
                await store.read("a", offset)

    async def test_another_streams_token_is_refused(self, store: Store) -> None:
        offsets = [(await fill(store, path, b"same size"))[-1] for path in ("a", "b")]
        assert offsets[0] != offsets[1]
        for path, offset in zip(("b", "a"), offsets, strict=True):
            with pytest.raises((OffsetGone, InvalidOffset)):
                await store.read(path, offset)

    async def test_a_read_changes_nothing(self, store: Store) -> None:
        await fill(store, "a", *parts())
        before = await store.head("a")
        for _ in range(3):
            await store.read("a", START)
        assert await store.head("a") == before
