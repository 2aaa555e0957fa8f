"""`Hub.follow`: a stream as an iterator."""

from __future__ import annotations

import anyio
import pytest

from tailrace import limits
from tailrace.errors import OffsetGone, StreamNotFound, TooSlow
from tailrace.live import Follower, Gap, Hub, Piece, Slow
from tailrace.store import Append, Mark, MemoryStore, NewStream, Offset, Retention
from tailrace.testing import settle
from tests.live.stores import CountingStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> MemoryStore:
    made = MemoryStore()
    await made.create("s", NewStream(data=b"abc"))
    return made


async def next_data(pieces: Follower) -> bytes:
    piece = await anext(pieces)
    assert isinstance(piece, Piece)
    return piece.slice.data


async def come_to_rest(pieces: Follower) -> None:
    """Let it wait at the tail, and take the wait back."""

    async def wait() -> None:
        await anext(pieces)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await settle()
        group.cancel_scope.cancel()


async def test_it_gives_what_is_there_and_what_comes_until_the_end(store: MemoryStore) -> None:
    got = []

    async def read() -> None:
        async with Hub(store).follow("s", Mark.BEGINNING) as pieces:
            async for piece in pieces:
                assert isinstance(piece, Piece)
                got.append(piece.slice.data)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await settle()
        await store.append("s", Append(data=b"def"))
        await settle()
        await store.append("s", Append(data=b"ghi"))
        await store.append("s", Append(close=True))
    assert b"".join(got) == b"abcdefghi"


async def test_a_deleted_stream_is_an_error(store: MemoryStore) -> None:
    async with Hub(store).follow("s", Mark.TAIL) as pieces:
        async with anyio.create_task_group() as group:

            async def read() -> None:
                with pytest.raises(StreamNotFound):
                    await anext(pieces)

            group.start_soon(read)
            await settle()
            await store.delete("s")


async def test_no_stream_and_no_such_place_are_told_on_entering(store: MemoryStore) -> None:
    hub = Hub(store)
    with pytest.raises(StreamNotFound):
        async with hub.follow("none", Mark.TAIL):
            pass
    with pytest.raises(OffsetGone):
        async with hub.follow("s", Offset(7, 2)):
            pass
    assert len(hub) == 0


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_at_any_moment_it_loses_nothing(turns: int) -> None:
    store = CountingStore()  # whose reads take some turns
    await store.create("s", NewStream(data=b"abc"))
    async with Hub(store).follow("s", Mark.BEGINNING) as pieces:
        got = [await next_data(pieces)]
        for _ in range(20):
            await store.append("s", Append(data=b"x" * 50_000))

        async def read() -> None:
            got.append(await next_data(pieces))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        while sum(map(len, got)) < 1_000_003:
            await read()
    assert b"".join(got) == b"abc" + b"x" * 1_000_000


async def test_a_slow_one_misses_nothing(store: MemoryStore) -> None:
    async with Hub(store).follow("s", Mark.BEGINNING) as pieces:
        got = await next_data(pieces)
        for _ in range(100):
            await store.append("s", Append(data=b"x" * 10_000))
        while len(got) < 1_000_003:
            got += await next_data(pieces)
    assert got == b"abc" + b"x" * 1_000_000


async def test_the_latest_is_what_a_slow_one_gets_after_a_gap(store: MemoryStore) -> None:
    async with Hub(store).follow("s", Mark.TAIL, slow=Slow.LATEST) as pieces:
        await come_to_rest(pieces)
        for _ in range(10):
            await store.append("s", Append(data=b"x" * 10_000))
        gap = await anext(pieces)
        assert isinstance(gap, Gap)
        assert gap.start is not None
        assert (gap.start.position, gap.end.position) == (3, 100_003)
        await store.append("s", Append(data=b"end"))
        assert await next_data(pieces) == b"end"


@pytest.mark.parametrize("beyond", [0, 1])
async def test_too_slow_is_who_has_more_than_so_many_bytes_to_come(
    store: MemoryStore, beyond: int
) -> None:
    async with Hub(store).follow("s", Mark.TAIL, slow=Slow.DISCONNECT) as pieces:
        await come_to_rest(pieces)
        await store.append("s", Append(data=b"x" * (limits.ATTACH_BUFFER_BYTES + beyond)))
        if beyond:
            with pytest.raises(TooSlow):
                await anext(pieces)
        else:
            assert await next_data(pieces)


async def test_what_is_no_longer_retained_is_a_gap(store: MemoryStore) -> None:
    await store.create("r", NewStream(retention=Retention(max_bytes=50_000)))
    async with Hub(store).follow("r", Mark.TAIL) as pieces:
        for _ in range(60):
            await store.append("r", Append(data=b"x" * 10_000))
        gap = await anext(pieces)
        assert isinstance(gap, Gap)
        got = b""
        while pieces.offset.position < 600_000:
            got += await next_data(pieces)
        assert len(got) == 600_000 - gap.end.position


async def test_one_that_does_not_ask_does_not_keep_the_others_waiting(store: MemoryStore) -> None:
    hub = Hub(store)
    async with hub.follow("s", Mark.TAIL) as idle, hub.follow("s", Mark.TAIL) as pieces:
        for each in (idle, pieces):
            await come_to_rest(each)
        live = pieces._place.live  # type: ignore[union-attr] # it is there inside the block
        store._watchers._calls.clear()  # what comes now is told by nobody
        await store.append("s", Append(data=b"def"))
        live._suspect()
        assert await next_data(pieces) == b"def"
