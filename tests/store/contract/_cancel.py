"""Cancellation: a call that writes and is cancelled has written all or nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from tailrace.store import START, Append, NewStream, Producer, Store
from tests.store.contract._suite import StoreSuite, fill, is_there

__all__ = ["CancelContract"]


async def cancelled_at_once(verb: Callable[[], Awaitable[object]]) -> bool:
    """Call in a scope that is cancelled already; returns whether the call was done all the same."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await verb()
        return True
    return False


async def cancelled_under_way(verb: Callable[[], Awaitable[object]], turns: int) -> bool:
    """Cancel a call after some turns of the event loop; returns whether it was done before."""
    done = False

    async def call() -> None:
        nonlocal done
        await verb()
        done = True

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    return done


class CancelContract(StoreSuite):
    async def test_a_cancelled_append_is_whole_or_not_there(self, store: Store) -> None:
        await store.create("a", NewStream())
        acknowledged = []
        for number in range(24):
            data = b"<%d>" % number
            if await cancelled_under_way(
                lambda data=data: store.append("a", Append(data=data)),  # type: ignore[misc]  # a default of a lambda has no annotation
                number % 6,
            ):
                acknowledged.append(data)
        await store.append("a", Append(data=b"<end>"))
        chunks = [chunk.data for chunk in (await store.read("a", START)).chunks]
        assert chunks[-1] == b"<end>"
        assert len(set(chunks)) == len(chunks)
        assert set(chunks[:-1]) <= {b"<%d>" % number for number in range(24)}
        assert [data for data in chunks[:-1] if data in acknowledged] == acknowledged

    async def test_a_producer_that_tries_again_after_a_cancellation_appends_once(
        self, store: Store
    ) -> None:
        await store.create("a", NewStream())
        for number in range(24):
            append = Append(data=b"<%d>" % number, producer=Producer("p", 0, number))

            async def send(append: Append = append) -> None:
                await store.append("a", append)

            await cancelled_under_way(send, number % 6)
            await cancelled_at_once(send)
            done = await store.append("a", append)
            assert done.producer == append.producer
        data = (await store.read("a", START)).data
        assert data == b"".join(b"<%d>" % number for number in range(24))

    async def test_a_cancelled_close_is_done_or_not(self, store: Store) -> None:
        for turns in range(6):
            path = f"a{turns}"
            await store.create(path, NewStream())

            async def close(path: str = path) -> None:
                await store.append(path, Append(data=b"last", close=True))

            done = await cancelled_under_way(close, turns)
            # When a later write to the stream is done, the cancelled one is over too.
            if not (await store.append(path, Append(close=True))).duplicate:
                assert not done
                assert (await store.read(path, START)).data == b""
            else:
                assert (await store.read(path, START)).data == b"last"

    async def test_a_cancelled_creation_is_whole_or_not_there(self, store: Store) -> None:
        for turns in range(6):
            path = f"a{turns}"

            async def create(path: str = path) -> None:
                await store.create(path, NewStream(data=b"all of it", closed=True))

            done = await cancelled_under_way(create, turns)
            created = await store.create(path, NewStream(data=b"all of it", closed=True))
            assert not (done and created.is_new)
            read = await store.read(path, START)
            assert (read.data, read.closed) == (b"all of it", True)

    async def test_a_cancelled_deletion_is_done_or_not(self, store: Store) -> None:
        for turns in range(6):
            path = f"a{turns}"
            await fill(store, path, b"one")

            async def delete(path: str = path) -> None:
                await store.delete(path)

            if await cancelled_under_way(delete, turns):
                assert not await is_there(store, path)
            created = await store.create(path, NewStream())
            assert (await store.read(path, START)).data == (b"" if created.is_new else b"one")

    async def test_the_store_works_after_a_cancellation(self, store: Store) -> None:
        await fill(store, "a", b"one")

        async def read() -> None:
            await store.read("a", START)

        async def head() -> None:
            await store.head("a")

        async def listing() -> None:
            await store.list()

        for turns in range(4):
            for verb in (read, head, listing):
                await cancelled_under_way(verb, turns)
                await cancelled_at_once(verb)
        await store.append("a", Append(data=b"two"))
        assert (await store.read("a", START)).data == b"onetwo"
