"""Forks: what they inherit, where they begin, and what they refuse."""

from __future__ import annotations

import pytest

from tailrace import limits
from tailrace.errors import ForkRefused, InvalidOffset, OffsetGone, StreamExists
from tailrace.store import START, Append, Fork, Mark, NewStream, Offset, Retention, Store
from tests.store.contract._suite import JSON, StoreSuite, fill, is_there, read_all

__all__ = ["ForkContract"]

EXPIRY = 4_000_000_000_000
LATER = 5_000_000_000_000

LIFETIMES = [
    # ttl and expires_at: the source's, those asked for, those that the fork gets (PROTOCOL 4.2)
    ((None, None), (None, None), (None, None)),
    ((None, None), (60, None), (60, None)),
    ((None, None), (None, EXPIRY), (None, EXPIRY)),
    ((90, None), (None, None), (90, None)),
    ((90, None), (60, None), (60, None)),
    ((90, None), (120, None), (120, None)),
    ((90, None), (None, EXPIRY), (None, EXPIRY)),
    ((None, EXPIRY), (None, None), (None, EXPIRY)),
    ((None, EXPIRY), (60, None), (60, None)),
    ((None, EXPIRY), (None, LATER), (None, LATER)),
]

MESSAGES = [b"1,", b'"a, ]",{"b":[2,{}]},', b"[3],4,5,"]
"""Three appends of 1, 2 and 3 messages."""


def within(offsets: list[Offset]) -> list[Offset]:
    """All positions that lie within the appends that end at these offsets."""
    ends = {offset.position for offset in offsets}
    positions = (each for each in range(max(ends)) if each not in ends)
    return [Offset(offsets[-1].generation, position) for position in positions]


class ForkContract(StoreSuite):
    async def test_a_fork_begins_at_the_tail_of_its_source(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one", b"two", new=NewStream(content_type="text/plain"))
        created = await store.create("b", NewStream(fork=Fork("a")))
        assert created.is_new
        assert (created.info.tail, created.info.first) == (tail, START)
        assert created.info.content_type == "text/plain"
        assert created.info.forked_from == "a"
        assert (await store.read("b", START)).data == b"onetwo"

    async def test_a_fork_begins_wherever_it_is_asked_to(self, store: Store) -> None:
        sizes = [3, 1, 4]
        offsets = await fill(store, "a", *(b"%d" % size * size for size in sizes))
        for number, offset in enumerate(offsets):
            await store.create(f"b{number}", NewStream(fork=Fork("a", offset)))
            read = await store.read(f"b{number}", START)
            assert read.data == b"33314444"[: offset.position]
            assert [chunk.end for chunk in read.chunks] == offsets[1 : number + 1]
            assert read.info.tail == offset

    async def test_within_what_is_inherited_offsets_are_those_of_the_source(
        self, store: Store
    ) -> None:
        offsets = await fill(store, "a", b"one", b"two", b"three")
        await store.create("b", NewStream(fork=Fork("a", offsets[2])))
        own = (await store.append("b", Append(data=b"own"))).tail
        assert own > offsets[2]
        read = await store.read("b", START)
        assert [chunk.end for chunk in read.chunks] == [*offsets[1:3], own]
        for offset in offsets[:3]:
            assert (await store.read("b", offset)).data == b"onetwoown"[offset.position :]
        middle = Offset(offsets[1].generation, 4)
        assert (await store.read("b", middle)).data == b"twoown"

    async def test_an_offset_of_the_source_after_the_fork_is_not_misread(
        self, store: Store
    ) -> None:
        offsets = await fill(store, "a", b"one", b"two")
        await store.create("b", NewStream(fork=Fork("a", offsets[1])))
        own = (await store.append("b", Append(data=b"own"))).tail
        assert own.position == offsets[2].position
        with pytest.raises((OffsetGone, InvalidOffset)):
            await store.read("b", offsets[2])
        with pytest.raises((OffsetGone, InvalidOffset)):
            await store.read("a", own)

    async def test_the_two_do_not_see_each_others_appends(self, store: Store) -> None:
        await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.append("a", Append(data=b"A", close=True))
        await store.append("b", Append(data=b"B"))
        assert (await store.read("a", START)).data == b"oneA"
        read = await store.read("b", START)
        assert (read.data, read.closed) == (b"oneB", False)

    async def test_a_fork_of_a_closed_stream_is_open(self, store: Store) -> None:
        await store.create("a", NewStream(data=b"one", closed=True))
        created = await store.create("b", NewStream(fork=Fork("a")))
        assert not created.info.closed
        await store.append("b", Append(data=b"two"))
        assert (await store.read("b", START)).data == b"onetwo"

    async def test_a_fork_may_be_created_with_data_and_closed(self, store: Store) -> None:
        offsets = await fill(store, "a", b"one", b"two")
        new = NewStream(fork=Fork("a", offsets[1]), data=b"own", closed=True)
        created = await store.create("b", new)
        assert created.info.tail.position == 6
        read = await store.read("b", START)
        assert (read.data, read.closed) == (b"oneown", True)

    async def test_a_fork_of_nothing_is_empty(self, store: Store) -> None:
        await fill(store, "a", b"one")
        created = await store.create("b", NewStream(fork=Fork("a", START)))
        assert created.info.tail == START
        await store.append("b", Append(data=b"own"))
        assert (await store.read("b", Mark.BEGINNING)).data == b"own"

    @pytest.mark.parametrize(("source", "asked", "gets"), LIFETIMES)
    async def test_lifetimes_are_inherited_as_the_protocol_says(
        self,
        store: Store,
        source: tuple[int | None, int | None],
        asked: tuple[int | None, int | None],
        gets: tuple[int | None, int | None],
    ) -> None:
        await store.create("a", NewStream(ttl=source[0], expires_at=source[1]))
        new = NewStream(ttl=asked[0], expires_at=asked[1], fork=Fork("a"))
        info = (await store.create("b", new)).info
        assert (info.ttl, info.expires_at) == gets
        assert await store.head("b") == info
        assert not (await store.create("b", new)).is_new

    @pytest.mark.parametrize("sub_offset", range(4))
    async def test_a_sub_offset_counts_bytes(self, store: Store, sub_offset: int) -> None:
        offsets = await fill(store, "a", b"one", b"two", b"three")
        fork = Fork("a", offsets[1], sub_offset)
        created = await store.create("b", NewStream(fork=fork))
        assert created.info.tail.position == 3 + sub_offset
        await store.append("b", Append(data=b"!"))
        assert (await store.read("b", START)).data == b"onetwo"[: 3 + sub_offset] + b"!"
        assert (await store.read("b", created.info.tail)).data == b"!"

    @pytest.mark.parametrize(("sub_offset", "inherits"), [(0, b""), (1, b"[3],"), (2, b"[3],4,")])
    async def test_a_sub_offset_of_a_json_stream_counts_messages(
        self, store: Store, sub_offset: int, inherits: bytes
    ) -> None:
        offsets = await fill(store, "a", *MESSAGES, new=NewStream(content_type=JSON))
        await store.create("b", NewStream(fork=Fork("a", offsets[2], sub_offset)))
        await store.append("b", Append(data=b"9,"))
        assert (await store.read("b", START)).data == b"".join(MESSAGES[:2]) + inherits + b"9,"

    async def test_what_a_sub_offset_adds_is_inherited_and_not_its_own(self, store: Store) -> None:
        offsets = await fill(store, "a", b"one", b"two", b"three")
        middle = Offset(offsets[2].generation, 5)
        for sub_offset, tail in ((2, middle), (3, offsets[2])):
            path = f"b{sub_offset}"
            fork = Fork("a", offsets[1], sub_offset)
            assert (await store.create(path, NewStream(fork=fork))).info.tail == tail
            await store.append(path, Append(data=b"own"))
            whole = b"onetwo"[: tail.position] + b"own"
            for offset in (*offsets[:2], tail):
                assert (await store.read(path, offset)).data == whole[offset.position :]
            # The part of an append that it inherits is a whole append to its readers.
            within = Offset(offsets[2].generation, 4)
            assert (await store.read(path, within)).data == whole[3:]
            assert (await store.read(path, START)).chunks[1].end == tail

    async def test_a_fork_begins_between_two_messages(self, store: Store) -> None:
        offsets = await fill(store, "a", b"one", b"two")
        json = await fill(store, "j", b'{"n":1},[2,3],', new=NewStream(content_type=JSON))
        refused = (
            *((path, at) for path, of in (("a", offsets), ("j", json)) for at in within(of)),
            ("a", Offset(offsets[-1].generation, offsets[-1].position + 1)),
        )
        for source, at in refused:
            if (source, at.position) == ("j", 8):
                continue  # between its two messages
            for sub_offset in (0, 1):
                with pytest.raises(ForkRefused) as error:
                    await store.create("b", NewStream(fork=Fork(source, at, sub_offset)))
                assert error.value.status == 400
        between = Fork("j", Offset(json[-1].generation, 8))
        await store.create("c", NewStream(fork=between))
        assert (await store.read("c", START)).data == b'{"n":1},'

    async def test_what_a_sub_offset_adds_goes_when_its_source_lets_it_go(
        self, store: Store
    ) -> None:
        retention = Retention(max_records=1)
        offsets = await fill(store, "a", b"one", new=NewStream(retention=retention))
        fork = Fork("a", START, 2)
        tail = (await store.create("b", NewStream(fork=fork, data=b"own"))).info.tail
        for _ in range(4):
            await store.append("a", Append(data=b"more"))
        first = (await store.head("b")).first
        assert first == Offset(offsets[1].generation, 2)
        assert (await store.read("b", Mark.BEGINNING)).data == b"own"
        assert (await store.head("b")).tail == tail

    async def test_sub_offsets_of_forks_of_forks_add_up(self, store: Store) -> None:
        await fill(store, "a", b"abcdef")
        await store.create("b", NewStream(fork=Fork("a", START, 4)))
        await store.create("c", NewStream(fork=Fork("b", START, 2)))
        await store.append("c", Append(data=b"Z"))
        assert (await store.read("b", START)).data == b"abcd"
        assert (await store.read("c", START)).data == b"abZ"

    @pytest.mark.parametrize(
        ("source", "content_type", "fork"),
        [
            ((b"one", b"two"), None, Fork("a", START, 4)),
            ((b"one",), None, Fork("a", None, 1)),
            ((), None, Fork("a", START, 1)),
            ((b"1,2,", b"3,"), JSON, Fork("a", START, 3)),
        ],
    )
    async def test_a_sub_offset_beyond_the_next_append_is_refused(
        self, store: Store, source: tuple[bytes, ...], content_type: str | None, fork: Fork
    ) -> None:
        await fill(store, "a", *source, new=NewStream(content_type=content_type))
        with pytest.raises(ForkRefused) as refused:
            await store.create("b", NewStream(fork=fork))
        assert refused.value.status == 400
        assert not await is_there(store, "b")

    async def test_a_fork_of_a_stream_that_is_not_there_is_refused(self, store: Store) -> None:
        with pytest.raises(ForkRefused) as refused:
            await store.create("b", NewStream(fork=Fork("a")))
        assert (refused.value.source, refused.value.status) == ("a", 404)

    async def test_a_fork_of_itself_is_refused(self, store: Store) -> None:
        with pytest.raises(ForkRefused):
            await store.create("a", NewStream(fork=Fork("a")))
        await fill(store, "a", b"one")
        with pytest.raises(StreamExists):
            await store.create("a", NewStream(fork=Fork("a")))

    async def test_a_fork_beyond_the_tail_is_refused(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one")
        for offset in (
            Offset(tail.generation, 4),
            Offset.parse("9999999999999999_9999999999999999"),
        ):
            with pytest.raises(ForkRefused) as refused:
                await store.create("b", NewStream(fork=Fork("a", offset)))
            assert refused.value.status == 400

    async def test_a_fork_at_an_offset_of_a_former_stream_is_refused(self, store: Store) -> None:
        *_, former = await fill(store, "a", b"one")
        await store.delete("a")
        await fill(store, "a", b"other")
        with pytest.raises(ForkRefused) as refused:
            await store.create("b", NewStream(fork=Fork("a", former)))
        assert refused.value.status == 400

    async def test_a_fork_of_another_content_type_is_refused(self, store: Store) -> None:
        await fill(store, "a", b"one", new=NewStream(content_type="text/plain"))
        with pytest.raises(ForkRefused) as refused:
            await store.create("b", NewStream(content_type=JSON, fork=Fork("a")))
        assert refused.value.status == 409
        same = NewStream(content_type="Text/Plain; charset=utf-8", fork=Fork("a"))
        assert (await store.create("b", same)).is_new

    async def test_the_same_fork_again_is_found(self, store: Store) -> None:
        offsets = await fill(store, "a", b"one", b"two")
        for fork in (Fork("a"), Fork("a", offsets[1]), Fork("a", offsets[1], 2)):
            path = f"b{fork.offset}{fork.sub_offset}"
            first = await store.create(path, NewStream(fork=fork))
            again = await store.create(path, NewStream(fork=fork))
            assert (first.is_new, again.is_new) == (True, False)
            assert again.info == first.info

    async def test_a_fork_at_the_tail_of_its_time_is_found_after_its_source_has_grown(
        self, store: Store
    ) -> None:
        *_, tail = await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.append("a", Append(data=b"two"))
        assert not (await store.create("b", NewStream(fork=Fork("a", tail)))).is_new

    @pytest.mark.parametrize("gone", [False, True])
    @pytest.mark.parametrize(("source", "asked", "gets"), LIFETIMES)
    async def test_a_fork_without_a_lifetime_is_found_if_it_has_that_of_its_source(
        self,
        store: Store,
        source: tuple[int | None, int | None],
        asked: tuple[int | None, int | None],
        gets: tuple[int | None, int | None],
        gone: bool,
    ) -> None:
        await store.create("a", NewStream(ttl=source[0], expires_at=source[1]))
        fork = Fork("a")
        await store.create("b", NewStream(ttl=asked[0], expires_at=asked[1], fork=fork))
        if gone:
            await store.delete("a")
        if gets == source:
            assert not (await store.create("b", NewStream(fork=fork))).is_new
        else:
            with pytest.raises(StreamExists):
                await store.create("b", NewStream(fork=fork))

    @pytest.mark.parametrize("sub_offset", [0, 1, 3])
    async def test_another_fork_is_not_found(self, store: Store, sub_offset: int) -> None:
        offsets = await fill(store, "a", b"one", b"two")
        await fill(store, "other", b"one", b"two")
        await store.create("b", NewStream(fork=Fork("a", offsets[1], 2)))
        for fork in (Fork("a", offsets[1], sub_offset), Fork("a", offsets[2], 0), Fork("other")):
            with pytest.raises(StreamExists):
                await store.create("b", NewStream(fork=fork))
        with pytest.raises(StreamExists):
            await store.create("b", NewStream())

    async def test_forks_of_forks_are_read_as_one(self, store: Store) -> None:
        path, whole = "s0", b"0|"
        await store.create(path, NewStream(data=whole))
        for depth in range(1, 9):
            await store.create(f"s{depth}", NewStream(fork=Fork(path)))
            path = f"s{depth}"
            for _ in range(depth % 3):  # some have no bytes of their own
                whole += b"%d|" % depth
                await store.append(path, Append(data=b"%d|" % depth))
        offsets = [START, *(chunk.end for chunk in (await store.read(path, START)).chunks)]
        assert len({offset.generation for offset in offsets}) == 8
        assert offsets == sorted(offsets)
        for offset in offsets:
            for max_bytes in (1, 5, 1000):
                slices = await read_all(store, path, offset, max_bytes)
                assert b"".join(read.data for read in slices) == whole[offset.position :]

    async def test_a_fork_of_a_fork_may_begin_in_what_that_one_inherits(self, store: Store) -> None:
        offsets = await fill(store, "a", b"one", b"two")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.append("b", Append(data=b"B"))
        await store.create("c", NewStream(fork=Fork("b", offsets[1])))
        await store.append("c", Append(data=b"C"))
        read = await store.read("c", START)
        assert read.data == b"oneC"
        assert read.chunks[0].end == offsets[1]
        assert read.info.forked_from == "b"

    async def test_forks_are_as_deep_as_the_limit_and_no_deeper(self, store: Store) -> None:
        await store.create("0", NewStream(data=b"x"))
        for depth in range(limits.MAX_FORK_DEPTH):
            await store.create(f"{depth + 1}", NewStream(fork=Fork(f"{depth}"), data=b"x"))
        deepest = f"{limits.MAX_FORK_DEPTH}"
        assert (await store.read(deepest, START)).data == b"x" * (limits.MAX_FORK_DEPTH + 1)
        with pytest.raises(ForkRefused) as refused:
            await store.create("beyond", NewStream(fork=Fork(deepest)))
        assert refused.value.status == 400
