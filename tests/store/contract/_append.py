"""Appends: data, closing, Stream-Seq, and which error comes first."""

from __future__ import annotations

import anyio
import pytest

from tailrace.errors import (
    ContentTypeMismatch,
    SequenceConflict,
    StreamClosed,
    StreamGone,
    StreamNotFound,
)
from tailrace.store import START, Append, Fork, Mark, NewStream, Producer, Store
from tests.store.contract._suite import JSON, StoreSuite, fill

__all__ = ["AppendContract"]

ABSENT = {
    "data": Append(data=b"x"),
    "close": Append(close=True),
    "a producer": Append(data=b"x", producer=Producer("p", 0, 0)),
    "a producer out of turn": Append(data=b"x", producer=Producer("p", 0, 7)),
}

TO_A_CLOSED_STREAM = {
    "data": Append(data=b"x"),
    "data, and close": Append(data=b"x", close=True),
    "another content type": Append(data=b"x", content_type=JSON),
    "a Stream-Seq that does not grow": Append(data=b"x", seq="1"),
    "a producer": Append(data=b"x", producer=Producer("p", 0, 0)),
    "a producer that is late": Append(data=b"x", producer=Producer("known", 0, 0)),
    "a producer that leaves out": Append(data=b"x", producer=Producer("known", 1, 9)),
    "a producer that closes": Append(close=True, producer=Producer("p", 0, 0)),
}

GROWING = ["0", "00", "01", "1", "10", "2", "A", "a", "a ", "a0", "z", "\N{GRINNING FACE}"]
"""In the order of their bytes, which is not that of numbers or of a dictionary."""


class AppendContract(StoreSuite):
    async def test_an_append_is_read_back_with_its_end(self, store: Store) -> None:
        await store.create("a", NewStream())
        one = await store.append("a", Append(data=b"one"))
        two = await store.append("a", Append(data=b"two!"))
        assert (one.tail.position, two.tail.position) == (3, 7)
        assert (one.closed, one.duplicate, one.producer) == (False, False, None)
        chunks = (await store.read("a", START)).chunks
        assert [(chunk.data, chunk.end) for chunk in chunks] == [
            (b"one", one.tail),
            (b"two!", two.tail),
        ]

    async def test_offsets_sort_as_the_bytes_do(self, store: Store) -> None:
        offsets = await fill(store, "a", *[b"x"] * 12)
        assert offsets == sorted(offsets)
        tokens = [str(offset) for offset in offsets]
        assert tokens == sorted(tokens)
        assert len(set(tokens)) == len(tokens)

    @pytest.mark.parametrize("name", ABSENT)
    async def test_nothing_is_appended_to_a_stream_that_is_not_there(
        self, store: Store, name: str
    ) -> None:
        with pytest.raises(StreamNotFound) as refused:
            await store.append("a", ABSENT[name])
        assert refused.value.path == "a"
        assert not isinstance(refused.value, StreamGone)

    async def test_close_alone_closes_and_leaves_the_tail(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one")
        done = await store.append("a", Append(close=True))
        assert (done.tail, done.closed, done.duplicate) == (tail, True, False)
        read = await store.read("a", START)
        assert (read.data, read.closed) == (b"one", True)
        assert (await store.head("a")).closed

    async def test_close_with_data_does_both(self, store: Store) -> None:
        await store.create("a", NewStream())
        done = await store.append("a", Append(data=b"last", close=True))
        assert (done.tail.position, done.closed) == (4, True)
        read = await store.read("a", START)
        assert (read.data, read.closed) == (b"last", True)

    async def test_an_empty_stream_can_be_closed(self, store: Store) -> None:
        await store.create("a", NewStream())
        assert (await store.append("a", Append(close=True))).tail == START
        assert (await store.read("a", Mark.BEGINNING)).closed

    async def test_to_close_twice_is_to_close(self, store: Store) -> None:
        await fill(store, "a", b"one")
        first = await store.append("a", Append(close=True))
        again = await store.append("a", Append(close=True))
        assert (again.tail, again.closed) == (first.tail, True)

    async def test_a_content_type_does_not_matter_to_close(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="text/plain"))
        assert (await store.append("a", Append(close=True, content_type=JSON))).closed

    @pytest.mark.parametrize("name", TO_A_CLOSED_STREAM)
    async def test_a_closed_stream_takes_nothing_whatever_else_is_wrong(
        self, store: Store, name: str
    ) -> None:
        await store.create("a", NewStream(content_type="text/plain"))
        await store.append("a", Append(data=b"1", seq="5", producer=Producer("known", 1, 0)))
        tail = (await store.append("a", Append(close=True))).tail
        with pytest.raises(StreamClosed) as refused:
            await store.append("a", TO_A_CLOSED_STREAM[name])
        assert (refused.value.path, refused.value.tail) == ("a", str(tail))
        assert (await store.head("a")).tail == tail
        assert (await store.read("a", START)).data == b"1"

    async def test_a_stream_that_began_closed_takes_nothing(self, store: Store) -> None:
        await store.create("a", NewStream(data=b"all", closed=True))
        with pytest.raises(StreamClosed):
            await store.append("a", Append(data=b"more"))

    async def test_another_content_type_is_refused(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="text/plain"))
        with pytest.raises(ContentTypeMismatch) as refused:
            await store.append("a", Append(data=b"{}", content_type=JSON))
        assert (refused.value.given, refused.value.wanted) == (JSON, "text/plain")
        assert (await store.head("a")).tail == START

    async def test_the_same_content_type_in_other_words_is_accepted(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="text/plain"))
        given = "TEXT/plain; charset=utf-8"
        assert (await store.append("a", Append(data=b"x", content_type=given))).tail.position == 1

    async def test_a_content_type_is_looked_at_before_a_producer_and_a_sequence(
        self, store: Store
    ) -> None:
        await store.create("a", NewStream(content_type="text/plain"))
        await store.append("a", Append(data=b"x", seq="5"))
        with pytest.raises(ContentTypeMismatch):
            await store.append(
                "a",
                Append(data=b"x", content_type=JSON, seq="1", producer=Producer("p", 0, 9)),
            )

    async def test_a_sequence_must_grow_byte_by_byte(self, store: Store) -> None:
        await store.create("a", NewStream())
        for seq in GROWING:
            await store.append("a", Append(data=b"x", seq=seq))
            with pytest.raises(SequenceConflict) as refused:
                await store.append("a", Append(data=b"no", seq=seq))
            assert (refused.value.last, refused.value.given) == (seq, seq)
        for seq in GROWING[:-1]:
            with pytest.raises(SequenceConflict):
                await store.append("a", Append(data=b"no", seq=seq))
        assert (await store.head("a")).tail.position == len(GROWING)

    async def test_an_append_without_a_sequence_leaves_the_last_one(self, store: Store) -> None:
        await fill(store, "a", b"x")
        await store.append("a", Append(data=b"x", seq="5"))
        await store.append("a", Append(data=b"x"))
        with pytest.raises(SequenceConflict):
            await store.append("a", Append(data=b"x", seq="5"))

    async def test_a_refused_append_does_not_use_its_sequence(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="text/plain"))
        with pytest.raises(ContentTypeMismatch):
            await store.append("a", Append(data=b"x", content_type=JSON, seq="9"))
        await store.append("a", Append(data=b"x", seq="1"))

    async def test_a_close_obeys_the_sequence(self, store: Store) -> None:
        await store.create("a", NewStream())
        await store.append("a", Append(data=b"x", seq="5"))
        with pytest.raises(SequenceConflict):
            await store.append("a", Append(close=True, seq="4"))
        assert not (await store.head("a")).closed

    async def test_of_equal_sequences_at_the_same_time_one_is_accepted(self, store: Store) -> None:
        await store.create("a", NewStream())
        accepted: list[bytes] = []

        async def append(data: bytes) -> None:
            try:
                await store.append("a", Append(data=data, seq="1"))
            except SequenceConflict:
                return
            accepted.append(data)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(append, b"%d" % number)
        assert len(accepted) == 1
        assert (await store.read("a", START)).data == accepted[0]

    async def test_appends_at_the_same_time_are_all_there_and_whole(self, store: Store) -> None:
        await store.create("a", NewStream())
        ends: dict[bytes, int] = {}

        async def append(data: bytes) -> None:
            ends[data] = (await store.append("a", Append(data=data))).tail.position

        sent = [b"%d;" % number * 20 for number in range(40)]
        async with anyio.create_task_group() as group:
            for data in sent:
                group.start_soon(append, data)
        chunks = (await store.read("a", START)).chunks
        assert sorted(chunk.data for chunk in chunks) == sorted(sent)
        assert {chunk.data: chunk.end.position for chunk in chunks} == ends

    async def test_appends_of_one_task_are_in_order(self, store: Store) -> None:
        for path in ("a", "b", "c"):
            await store.create(path, NewStream())

        async def write(path: str) -> None:
            for number in range(20):
                await store.append(path, Append(data=b"%d," % number))

        async with anyio.create_task_group() as group:
            for path in ("a", "b", "c"):
                group.start_soon(write, path)
        for path in ("a", "b", "c"):
            data = (await store.read(path, START)).data
            assert data == b"".join(b"%d," % number for number in range(20))

    async def test_what_is_acknowledged_is_read_at_once(self, store: Store) -> None:
        await store.create("a", NewStream())
        for number in range(20):
            tail = (await store.append("a", Append(data=b"x"))).tail
            assert tail.position == number + 1
            assert (await store.read("a", Mark.TAIL)).start == tail
            assert (await store.head("a")).tail == tail

    async def test_a_fork_takes_appends_of_its_own(self, store: Store) -> None:
        await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.append("b", Append(data=b"two", close=True))
        assert (await store.read("b", START)).data == b"onetwo"
        assert (await store.read("a", START)).data == b"one"
