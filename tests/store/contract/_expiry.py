"""Expiry: some time after the last use, or at a fixed time; and what counts as a use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tailrace import limits
from tailrace.errors import ForkRefused, StreamError, StreamExists, StreamGone, StreamNotFound
from tailrace.store import START, Append, Fork, Mark, NewStream, Producer, Store
from tests.store.contract._suite import StoreClock, StoreSuite, Watcher, fill, in_time, is_there

__all__ = ["ExpiryContract"]

Verb = Callable[[Store], Awaitable[object]]

USES: dict[str, Verb] = {
    "an append": lambda store: store.append("a", Append(data=b"x")),
    "a close": lambda store: store.append("a", Append(close=True)),
    "a read from the beginning": lambda store: store.read("a", Mark.BEGINNING),
    "a read at the tail": lambda store: store.read("a", Mark.TAIL),
    "a fork of it": lambda store: store.create("fork", NewStream(fork=Fork("a"))),
}

NO_USES: dict[str, Verb] = {
    "head": lambda store: store.head("a"),
    "list": lambda store: store.list(),
    "finding that it exists": lambda store: store.create("a", NewStream(ttl=10)),
    "an append that is refused": lambda store: store.append(
        "a", Append(data=b"x", producer=Producer("p", 0, 7))
    ),
    "a fork that is refused": lambda store: store.create("b", NewStream(fork=Fork("a", None, 1))),
}

GONE: dict[str, tuple[Verb, type[StreamError]]] = {
    "head": (lambda store: store.head("a"), StreamGone),
    "read": (lambda store: store.read("a", START), StreamGone),
    "append": (lambda store: store.append("a", Append(data=b"x")), StreamGone),
    "delete": (lambda store: store.delete("a"), StreamGone),
    "create": (lambda store: store.create("a", NewStream()), StreamExists),
    "fork": (lambda store: store.create("c", NewStream(fork=Fork("a"))), ForkRefused),
}


class ExpiryContract(StoreSuite):
    async def test_a_stream_that_nobody_uses_expires(self, store: Store, clock: StoreClock) -> None:
        await store.create("a", NewStream(ttl=10))
        clock.advance(9.999)
        assert await is_there(store, "a")
        clock.advance(0.001)
        assert not await is_there(store, "a")

    async def test_a_ttl_of_nothing_has_passed_at_once(self, store: Store) -> None:
        assert (await store.create("a", NewStream(ttl=0))).is_new
        assert not await is_there(store, "a")

    async def test_the_longest_ttl_can_be_had(self, store: Store, clock: StoreClock) -> None:
        await store.create("a", NewStream(ttl=limits.MAX_TTL))
        clock.advance(limits.MAX_TTL - 1)
        assert await is_there(store, "a")
        clock.advance(1)
        assert not await is_there(store, "a")

    @pytest.mark.parametrize("name", USES)
    async def test_each_use_begins_the_time_anew(
        self, store: Store, clock: StoreClock, name: str
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        clock.advance(6)
        await USES[name](store)
        clock.advance(9.999)
        assert await is_there(store, "a")
        clock.advance(0.001)
        assert not await is_there(store, "a")

    @pytest.mark.parametrize("name", NO_USES)
    async def test_to_look_at_it_is_no_use(
        self, store: Store, clock: StoreClock, name: str
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        clock.advance(6)
        with suppress(StreamError):
            await NO_USES[name](store)
        clock.advance(4)
        assert not await is_there(store, "a")

    async def test_many_uses_keep_it_for_as_long_as_they_go_on(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(ttl=2))
        for number in range(30):
            clock.advance(1.9)
            verb = "an append" if number % 2 else "a read at the tail"
            await USES[verb](store)
        clock.advance(2)
        assert not await is_there(store, "a")

    @pytest.mark.parametrize("name", ["an append", "a read from the beginning"])
    async def test_an_expired_stream_is_not_brought_back_by_a_use(
        self, store: Store, clock: StoreClock, name: str
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        clock.advance(10)
        for _ in range(2):
            with pytest.raises(StreamNotFound):
                await USES[name](store)

    async def test_no_use_puts_off_a_time_that_is_set(
        self, store: Store, clock: StoreClock
    ) -> None:
        expires_at = clock.milliseconds + 10_000
        await store.create("a", NewStream(expires_at=expires_at))
        clock.advance(9)
        await store.read("a", START)
        await store.append("a", Append(data=b"x"))
        assert (await store.head("a")).expires_at == expires_at
        clock.advance(0.999)
        assert await is_there(store, "a")
        clock.advance(0.001)
        assert not await is_there(store, "a")

    async def test_a_time_that_has_passed_is_taken_at_its_word(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(expires_at=clock.milliseconds - 1))
        assert not await is_there(store, "a")

    async def test_the_path_of_an_expired_stream_can_be_used_again(
        self, store: Store, clock: StoreClock
    ) -> None:
        await fill(store, "a", b"old", new=NewStream(ttl=10, content_type="text/plain"))
        clock.advance(10)
        created = await store.create("a", NewStream(data=b"new"))
        assert created.is_new
        assert (await store.read("a", START)).data == b"new"

    async def test_an_expired_stream_cannot_be_deleted_or_forked(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        clock.advance(10)
        with pytest.raises(StreamNotFound):
            await store.delete("a")
        with pytest.raises(StreamError) as refused:
            await store.create("b", NewStream(fork=Fork("a")))
        assert refused.value.status == 404

    async def test_a_stream_that_is_watched_is_in_use(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        with Watcher(store, "a"):
            for _ in range(3):
                clock.advance(100)
                assert await is_there(store, "a")
        clock.advance(9.999)
        assert await is_there(store, "a")
        clock.advance(0.001)
        assert not await is_there(store, "a")

    async def test_a_stream_was_in_use_until_the_watching_ended_though_nobody_looked(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        with Watcher(store, "a"):
            clock.advance(100)
        assert await is_there(store, "a")
        clock.advance(10)
        assert not await is_there(store, "a")

    async def test_of_two_who_watch_each_keeps_it(self, store: Store, clock: StoreClock) -> None:
        await store.create("a", NewStream(ttl=10))
        with Watcher(store, "a") as first, Watcher(store, "a"):
            first.stop()
            clock.advance(100)
            assert await is_there(store, "a")

    async def test_to_watch_an_expired_stream_does_not_bring_it_back(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(ttl=10))
        clock.advance(10)
        with Watcher(store, "a"):
            assert not await is_there(store, "a")

    async def test_to_wait_for_an_expired_stream_returns(
        self, store: Store, clock: StoreClock
    ) -> None:
        *_, tail = await fill(store, "a", b"x", new=NewStream(ttl=10))
        clock.advance(10)
        with in_time():
            await store.wait("a", tail)

    async def test_to_watch_does_not_put_off_a_time_that_is_set(
        self, store: Store, clock: StoreClock
    ) -> None:
        await store.create("a", NewStream(expires_at=clock.milliseconds + 10_000))
        with Watcher(store, "a"):
            clock.advance(10)
            assert not await is_there(store, "a")

    async def test_a_fork_lives_on_when_its_source_has_expired(
        self, store: Store, clock: StoreClock
    ) -> None:
        await fill(store, "a", b"one", new=NewStream(ttl=10))
        await store.create("b", NewStream(fork=Fork("a"), ttl=100))
        clock.advance(10)
        assert (await store.read("b", START)).data == b"one"
        clock.advance(99)
        assert (await store.read("b", START)).data == b"one"
        await store.delete("b")
        assert (await store.create("a", NewStream())).is_new

    @pytest.mark.parametrize("name", GONE)
    async def test_an_expired_stream_that_a_fork_reads_is_gone_as_a_deleted_one_is(
        self, store: Store, clock: StoreClock, name: str
    ) -> None:
        await fill(store, "a", b"one", new=NewStream(ttl=10))
        await store.create("b", NewStream(fork=Fork("a"), ttl=100))
        clock.advance(10)
        verb, error = GONE[name]
        for _ in range(2):
            with pytest.raises(error):
                await verb(store)
        assert (await store.read("b", START)).data == b"one"

    async def test_a_fork_that_lives_because_it_is_watched_keeps_its_source(
        self, store: Store, clock: StoreClock
    ) -> None:
        await fill(store, "a", b"one", new=NewStream(ttl=10))
        await store.create("b", NewStream(fork=Fork("a"), ttl=10))
        with Watcher(store, "b"):
            assert await is_there(store, "b")
            clock.advance(100)
            with pytest.raises(StreamGone):
                await store.head("a")
            with pytest.raises(StreamExists):
                await store.create("a", NewStream())
        assert (await store.read("b", START)).data == b"one"

    async def test_a_use_of_a_fork_is_none_of_its_source(
        self, store: Store, clock: StoreClock
    ) -> None:
        await fill(store, "a", b"one", new=NewStream(ttl=10))
        await store.create("b", NewStream(fork=Fork("a")))
        for _ in range(4):
            clock.advance(5)
            assert (await store.read("b", START)).data == b"one"
        with pytest.raises(StreamNotFound):
            await store.read("a", START)

    @pytest.mark.parametrize("deleted", ["", "a", "b", "ab"])
    async def test_a_fork_that_has_expired_keeps_nothing_though_nobody_has_looked_at_it(
        self, store: Store, clock: StoreClock, deleted: str
    ) -> None:
        await fill(store, "a", b"one", new=NewStream(ttl=10))
        await store.create("b", NewStream(fork=Fork("a"), ttl=20))
        await store.create("c", NewStream(fork=Fork("b"), ttl=30))
        for path in deleted:
            await store.delete(path)
        clock.advance(29.999)
        with pytest.raises(StreamGone):
            await store.head("a")
        clock.advance(0.001)
        with pytest.raises(StreamNotFound) as refused:
            await store.head("a")
        assert not isinstance(refused.value, StreamGone)
        with pytest.raises(ForkRefused) as fork_refused:
            await store.create("d", NewStream(fork=Fork("a")))
        assert fork_refused.value.status == 404
        for path in "abc":
            assert (await store.create(path, NewStream())).is_new

    async def test_with_its_last_fork_an_expired_source_goes_too(
        self, store: Store, clock: StoreClock
    ) -> None:
        await fill(store, "a", b"one", new=NewStream(ttl=10))
        await store.create("b", NewStream(fork=Fork("a"), ttl=20))
        clock.advance(20)
        for path in ("b", "a"):
            with pytest.raises(StreamNotFound) as refused:
                await store.head(path)
            assert not isinstance(refused.value, StreamGone)
            assert (await store.create(path, NewStream())).is_new
