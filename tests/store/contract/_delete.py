"""Deletion: a stream is gone at once; its data stays, out of sight, while forks read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tailrace.errors import ForkRefused, OffsetGone, StreamExists, StreamGone, StreamNotFound
from tailrace.store import START, Append, Fork, Mark, NewStream, Producer, Store
from tests.store.contract._suite import StoreSuite, fill, is_there

__all__ = ["DeleteContract"]

Verb = Callable[[Store], Awaitable[object]]

VERBS: dict[str, Verb] = {
    "append": lambda store: store.append("a", Append(data=b"x")),
    "append as a producer": lambda store: store.append(
        "a", Append(data=b"x", producer=Producer("p", 0, 3))
    ),
    "close": lambda store: store.append("a", Append(close=True)),
    "read": lambda store: store.read("a", Mark.BEGINNING),
    "read at the tail": lambda store: store.read("a", Mark.TAIL),
    "head": lambda store: store.head("a"),
    "delete": lambda store: store.delete("a"),
}


class DeleteContract(StoreSuite):
    @pytest.mark.parametrize("name", VERBS)
    async def test_a_deleted_stream_is_not_there(self, store: Store, name: str) -> None:
        await fill(store, "a", b"one")
        await store.delete("a")
        with pytest.raises(StreamNotFound) as refused:
            await VERBS[name](store)
        assert not isinstance(refused.value, StreamGone)

    async def test_what_was_never_there_cannot_be_deleted(self, store: Store) -> None:
        with pytest.raises(StreamNotFound):
            await store.delete("a")

    async def test_a_closed_stream_can_be_deleted(self, store: Store) -> None:
        await store.create("a", NewStream(data=b"one", closed=True))
        await store.delete("a")
        assert not await is_there(store, "a")

    async def test_a_path_can_be_used_again(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="text/plain", data=b"old", closed=True))
        await store.delete("a")
        created = await store.create("a", NewStream(data=b"new", ttl=60))
        assert created.is_new
        assert (created.info.content_type, created.info.closed) == (
            "application/octet-stream",
            False,
        )
        assert (await store.read("a", START)).data == b"new"

    @pytest.mark.parametrize("name", VERBS)
    async def test_a_stream_that_forks_read_is_gone_for_everybody_else(
        self, store: Store, name: str
    ) -> None:
        await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.delete("a")
        with pytest.raises(StreamGone) as refused:
            await VERBS[name](store)
        assert refused.value.path == "a"
        assert [info.path for info in await store.list()] == ["b"]
        assert (await store.read("b", START)).data == b"one"

    async def test_the_path_of_a_stream_that_forks_read_cannot_be_used_again(
        self, store: Store
    ) -> None:
        await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.delete("a")
        with pytest.raises(StreamExists):
            await store.create("a", NewStream())

    async def test_a_stream_that_is_kept_for_its_forks_gets_no_new_ones(self, store: Store) -> None:
        await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.delete("a")
        with pytest.raises(ForkRefused) as refused:
            await store.create("c", NewStream(fork=Fork("a")))
        assert refused.value.status == 409
        assert (await store.create("d", NewStream(fork=Fork("b")))).is_new

    async def test_with_its_last_fork_it_is_gone_for_good(self, store: Store) -> None:
        await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.create("c", NewStream(fork=Fork("a")))
        await store.delete("a")
        await store.delete("b")
        with pytest.raises(StreamGone):
            await store.head("a")
        await store.delete("c")
        with pytest.raises(StreamNotFound) as refused:
            await store.head("a")
        assert not isinstance(refused.value, StreamGone)
        assert (await store.create("a", NewStream())).is_new

    async def test_a_chain_is_let_go_of_from_its_end(self, store: Store) -> None:
        await store.create("s0", NewStream(data=b"0"))
        for depth in range(1, 5):
            await store.create(f"s{depth}", NewStream(fork=Fork(f"s{depth - 1}"), data=b"x"))
        for depth in (1, 3, 0, 2):
            await store.delete(f"s{depth}")
            assert (await store.read("s4", START)).data == b"0xxxx"
        await store.delete("s4")
        for depth in range(5):
            assert (await store.create(f"s{depth}", NewStream())).is_new

    async def test_a_chain_is_kept_by_a_stream_in_its_middle(self, store: Store) -> None:
        for depth in range(3):
            fork = Fork(f"s{depth - 1}") if depth else None
            await store.create(f"s{depth}", NewStream(fork=fork, data=b"%d" % depth))
        await store.delete("s0")
        await store.delete("s2")
        assert (await store.read("s1", START)).data == b"01"
        with pytest.raises(StreamGone):
            await store.head("s0")

    async def test_a_fork_in_what_its_source_inherits_keeps_both(self, store: Store) -> None:
        offsets = await fill(store, "a", b"one", b"two")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.create("c", NewStream(fork=Fork("b", offsets[1])))
        await store.delete("a")
        await store.delete("b")
        assert (await store.read("c", START)).data == b"one"
        for path in ("a", "b"):
            with pytest.raises(StreamGone):
                await store.head(path)
        await store.delete("c")
        for path in ("a", "b"):
            assert (await store.create(path, NewStream())).is_new

    async def test_a_fork_that_was_refused_keeps_nothing(self, store: Store) -> None:
        await fill(store, "a", b"one", new=NewStream(content_type="text/plain"))
        await store.create("b", NewStream())
        for new in (
            NewStream(fork=Fork("a", None, 1)),
            NewStream(fork=Fork("a"), content_type="text/html"),
        ):
            with pytest.raises(ForkRefused):
                await store.create("c", new)
        with pytest.raises(StreamExists):
            await store.create("b", NewStream(fork=Fork("a")))
        await store.delete("a")
        assert not await is_there(store, "a")
        assert (await store.create("a", NewStream())).is_new

    async def test_a_fork_found_again_keeps_its_source_once(self, store: Store) -> None:
        await fill(store, "a", b"one")
        for _ in range(3):
            await store.create("b", NewStream(fork=Fork("a")))
        await store.delete("a")
        await store.delete("b")
        assert (await store.create("a", NewStream())).is_new

    async def test_a_fork_made_again_does_not_accept_the_former_ones_offsets(
        self, store: Store
    ) -> None:
        *_, tail = await fill(store, "a", b"one")
        await store.create("b", NewStream(fork=Fork("a")))
        former = (await store.append("b", Append(data=b"former"))).tail
        await store.delete("b")
        await store.create("b", NewStream(fork=Fork("a")))
        await store.append("b", Append(data=b"latter"))
        with pytest.raises(OffsetGone):
            await store.read("b", former)
        assert (await store.read("b", tail)).data == b"latter"

    async def test_large_streams_are_deleted_whole(self, store: Store) -> None:
        await store.create("a", NewStream())
        for _ in range(40):
            await store.append("a", Append(data=b"x" * 5000))
        await store.delete("a")
        await fill(store, "a", b"new")
        assert (await store.read("a", START)).data == b"new"
