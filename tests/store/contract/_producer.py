"""Producers: an append that is sent twice counts once; a lower epoch than the last is refused."""

from __future__ import annotations

import anyio
import pytest

from tailrace import limits
from tailrace.errors import (
    ContentTypeMismatch,
    InvalidProducer,
    ProducerFenced,
    ProducerGap,
    SequenceConflict,
    StreamClosed,
)
from tailrace.store import START, Append, Appended, Fork, NewStream, Producer, Store
from tests.store.contract._suite import JSON, StoreSuite

__all__ = ["ProducerContract"]


async def send(
    store: Store, epoch: int, number: int, data: bytes = b"x", **more: object
) -> Appended:
    append = Append(data=data, producer=Producer("p", epoch, number), **more)  # type: ignore[arg-type]  # keywords of Append, by name
    return await store.append("a", append)


class ProducerContract(StoreSuite):
    async def test_a_new_producer_begins_at_sequence_0_of_any_epoch(self, store: Store) -> None:
        for path, epoch in (("a", 0), ("b", 1), ("c", 700)):
            await store.create(path, NewStream())
            producer = Producer("p", epoch, 0)
            done = await store.append(path, Append(data=b"x", producer=producer))
            assert (done.duplicate, done.producer) == (False, producer)

    @pytest.mark.parametrize("epoch", [0, 3])
    async def test_a_new_producer_cannot_begin_later(self, store: Store, epoch: int) -> None:
        await store.create("a", NewStream())
        with pytest.raises(ProducerGap) as refused:
            await send(store, epoch, 1)
        assert (refused.value.expected, refused.value.received) == (0, 1)
        assert (await store.head("a")).tail == START
        assert not (await send(store, epoch, 0)).duplicate

    async def test_what_is_sent_twice_counts_once(self, store: Store) -> None:
        await store.create("a", NewStream())
        for seq in range(3):
            await send(store, 0, seq, b"%d" % seq)
        for seq in range(3):
            done = await send(store, 0, seq, b"again")
            assert done.duplicate
            assert done.tail.position == 3
            assert done.producer == Producer("p", 0, 2), "the highest that was accepted"
        assert (await store.read("a", START)).data == b"012"

    async def test_a_sequence_left_out_is_told_and_can_be_made_good(self, store: Store) -> None:
        await store.create("a", NewStream())
        await send(store, 0, 0, b"0")
        with pytest.raises(ProducerGap) as refused:
            await send(store, 0, 2, b"2")
        assert (refused.value.expected, refused.value.received) == (1, 2)
        await send(store, 0, 1, b"1")
        await send(store, 0, 2, b"2")
        assert (await store.read("a", START)).data == b"012"

    async def test_a_higher_epoch_fences_the_lower(self, store: Store) -> None:
        await store.create("a", NewStream())
        await send(store, 0, 0)
        await send(store, 4, 0)
        for seq in (0, 1, 9):
            with pytest.raises(ProducerFenced) as refused:
                await send(store, 3, seq)
            assert refused.value.epoch == 4
        assert (await store.head("a")).tail.position == 2
        assert not (await send(store, 4, 1)).duplicate

    async def test_a_new_epoch_begins_at_sequence_0(self, store: Store) -> None:
        await store.create("a", NewStream())
        await send(store, 1, 0)
        with pytest.raises(InvalidProducer) as refused:
            await send(store, 2, 1)
        assert (refused.value.epoch, refused.value.seq) == (2, 1)
        assert not (await send(store, 1, 1)).duplicate, "the refused epoch was not begun"

    async def test_producers_do_not_know_of_each_other(self, store: Store) -> None:
        await store.create("a", NewStream())
        await store.create("b", NewStream())
        for path in ("a", "b"):
            for name in ("p", "P", "p ", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"):
                done = await store.append(path, Append(data=b"x", producer=Producer(name, 0, 0)))
                assert not done.duplicate

    async def test_a_duplicate_is_told_from_a_sequence_that_did_not_grow(
        self, store: Store
    ) -> None:
        await store.create("a", NewStream())
        await send(store, 0, 0, seq="5")
        assert (await send(store, 0, 0, seq="5")).duplicate
        with pytest.raises(SequenceConflict):
            await send(store, 0, 1, seq="5")
        assert not (await send(store, 0, 1, seq="6")).duplicate, "a refused append uses nothing"

    async def test_a_gap_is_looked_at_before_the_sequence(self, store: Store) -> None:
        await store.create("a", NewStream())
        await send(store, 0, 0, seq="5")
        with pytest.raises(ProducerGap):
            await send(store, 0, 5, seq="1")

    async def test_a_refused_append_begins_no_epoch(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="text/plain"))
        await send(store, 0, 0)
        with pytest.raises(ContentTypeMismatch):
            await send(store, 1, 0, content_type=JSON)
        assert not (await send(store, 0, 1)).duplicate

    async def test_the_append_that_closed_can_be_sent_again(self, store: Store) -> None:
        await store.create("a", NewStream())
        await send(store, 0, 0)
        first = await send(store, 0, 1, b"last", close=True)
        again = await send(store, 0, 1, b"last", close=True)
        assert (again.duplicate, again.closed, again.tail) == (True, True, first.tail)
        assert again.producer == Producer("p", 0, 1)
        assert (await store.read("a", START)).data == b"xlast"

    async def test_a_close_without_data_can_be_sent_again(self, store: Store) -> None:
        await store.create("a", NewStream())
        await send(store, 2, 0, b"", close=True)
        again = await send(store, 2, 0, b"", close=True)
        assert (again.duplicate, again.closed) == (True, True)

    async def test_an_append_before_the_closing_one_is_no_duplicate_any_more(
        self, store: Store
    ) -> None:
        await store.create("a", NewStream())
        await send(store, 0, 0)
        await send(store, 0, 1, close=True)
        for epoch, seq in ((0, 0), (0, 2), (1, 0)):
            with pytest.raises(StreamClosed):
                await send(store, epoch, seq)

    async def test_of_one_append_sent_at_the_same_time_one_is_written(self, store: Store) -> None:
        await store.create("a", NewStream())
        done: list[Appended] = []

        async def once(seq: int) -> None:
            done.append(await send(store, 0, seq, b"%d" % seq))

        for seq in range(4):
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(once, seq)
        assert [each.duplicate for each in done].count(False) == 4
        assert (await store.read("a", START)).data == b"0123"

    async def test_a_fork_knows_neither_producers_nor_sequences_of_its_source(
        self, store: Store
    ) -> None:
        await store.create("a", NewStream())
        await send(store, 5, 0, b"one", seq="9")
        await store.create("b", NewStream(fork=Fork("a")))
        done = await store.append("b", Append(data=b"two", seq="1", producer=Producer("p", 0, 0)))
        assert not done.duplicate
        with pytest.raises(ProducerFenced):
            await send(store, 4, 0)

    async def test_a_stream_created_again_has_forgotten_its_producers(self, store: Store) -> None:
        await store.create("a", NewStream())
        await send(store, 5, 0, seq="9")
        await store.delete("a")
        await store.create("a", NewStream())
        assert not (await send(store, 0, 0, seq="1")).duplicate

    async def test_the_greatest_numbers_and_names_are_kept_exactly(self, store: Store) -> None:
        most = limits.MAX_SEQUENCE
        name = "p" * limits.MAX_PRODUCER_ID_BYTES
        seq = "s" * limits.MAX_STREAM_SEQ_BYTES
        await store.create("a", NewStream())
        await store.append("a", Append(data=b"x", seq=seq, producer=Producer(name, most, 0)))
        with pytest.raises(ProducerFenced) as fenced:
            await store.append("a", Append(data=b"x", producer=Producer(name, most - 1, 0)))
        assert fenced.value.epoch == most
        with pytest.raises(ProducerGap) as gap:
            await store.append("a", Append(data=b"x", producer=Producer(name, most, most)))
        assert gap.value.received == most
        with pytest.raises(SequenceConflict) as conflict:
            await store.append("a", Append(data=b"x", seq=seq))
        assert conflict.value.last == seq
