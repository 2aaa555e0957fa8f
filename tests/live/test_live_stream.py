"""What is known of a live stream's tail: changes told, hints, and what was read meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace import limits
from tailrace.live.live_stream import LiveStream
from tailrace.live.tail import TailState
from tailrace.runtime import current_loop
from tailrace.runtime.timer_wheel import timer_wheel
from tailrace.store import START, Append, Change, Chunk, Mark, MemoryStore, NewStream, Offset, Slice
from tailrace.testing import settle

pytestmark = pytest.mark.anyio


class Sleeper:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


class Watched:
    """A live stream whose changes and reads a test makes."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.retired: list[LiveStream] = []
        self.live = LiveStream("s", current_loop(), timer_wheel(), self.read, self.retired.append)
        self.live.readers = 1

    async def read(self, path: str, offset: Offset) -> Slice:
        hints = self.live.tail.hints
        found = await self.store.read(path, offset)
        self.live.learn(found, hints)
        return found

    async def begin(self) -> Offset:
        """Create the stream, and read it to its tail."""
        await self.store.create("s", NewStream(data=b"abc"))
        self.live.learn(await self.store.read("s", Mark.BEGINNING), 0)
        assert self.live.tail.offset is not None
        return self.live.tail.offset

    async def append(self, data: bytes, **told: Any) -> Change:
        """Append, and make the change that tells of it."""
        start = (await self.store.head("s")).tail
        end = (await self.store.append("s", Append(data=data))).tail
        known = {"tail": end, "start": start, "chunks": (Chunk(data, end),), **told}
        return Change("s", end.generation, **known)


@pytest.fixture
async def watched() -> Any:
    made = Watched()
    yield made
    made.live.wheel.take_back(made.live)


def position(live: LiveStream) -> int:
    assert live.tail.offset is not None
    return live.tail.offset.position


def stale(live: LiveStream) -> bool:
    return live.tail.state is TailState.STALE


async def test_a_change_that_joins_on_is_taken_without_a_read(watched: Watched) -> None:
    await watched.begin()
    watched.live.on_change(await watched.append(b"def"))
    assert (position(watched.live), stale(watched.live)) == (6, False)


async def test_a_change_that_is_told_twice_is_taken_once(watched: Watched) -> None:
    await watched.begin()
    change = await watched.append(b"def")
    watched.live.on_change(change)
    watched.live.on_change(change)
    assert (position(watched.live), stale(watched.live)) == (6, False)
    assert watched.live.cache is not None
    assert len(watched.live.cache) == 1


async def test_a_change_after_one_that_was_not_told_is_a_hint(watched: Watched) -> None:
    await watched.begin()
    await watched.append(b"def")
    watched.live.on_change(await watched.append(b"ghi"))
    assert (position(watched.live), stale(watched.live)) == (3, True)
    await watched.live.refresh()
    assert (position(watched.live), stale(watched.live)) == (9, False)


async def test_a_hint_wakes_one_sleeper_who_reads_for_all(watched: Watched) -> None:
    await watched.begin()
    sleepers = [Sleeper() for _ in range(10)]
    for sleeper in sleepers:
        watched.live.sleep(sleeper)
    watched.live.on_change(await watched.append(b"def", chunks=None))
    assert sorted(sleeper.woken for sleeper in sleepers) == [0] * 9 + [1]
    await watched.live.refresh()
    assert [sleeper.woken for sleeper in sleepers] == [1] * 10


async def test_if_the_one_who_was_woken_goes_another_one_is_woken(watched: Watched) -> None:
    await watched.begin()
    first, second = Sleeper(), Sleeper()
    watched.live.sleep(first)
    watched.live.sleep(second)
    watched.live.on_change(await watched.append(b"def", chunks=None))
    assert (first.woken, second.woken) == (1, 0)
    watched.live.forget(first)
    assert (first.woken, second.woken) == (1, 1)


async def test_one_that_has_risen_is_not_chosen_to_read(watched: Watched) -> None:
    await watched.begin()
    busy, sleeper = Sleeper(), Sleeper()
    watched.live.sleep(busy)
    watched.live.sleep(sleeper)
    watched.live.rise(busy)
    watched.live.on_change(await watched.append(b"def", chunks=None))
    assert (busy.woken, sleeper.woken) == (0, 1)


async def test_a_hint_that_comes_during_a_read_is_not_settled_by_it(watched: Watched) -> None:
    tail = await watched.begin()
    hints = watched.live.tail.hints
    found = await watched.store.read("s", tail)
    watched.live.on_change(await watched.append(b"def", chunks=None))
    watched.live.learn(found, hints)
    assert stale(watched.live)


@pytest.mark.parametrize("count", [limits.EARLY_CHANGES, limits.EARLY_CHANGES + 1])
async def test_changes_before_the_tail_is_known_are_kept_up_to_a_bound(
    watched: Watched, count: int
) -> None:
    await watched.store.create("s", NewStream(data=b"abc"))
    found = await watched.store.read("s", Mark.BEGINNING)
    for _ in range(count):
        watched.live.on_change(await watched.append(b"x"))
    watched.live.learn(found, watched.live.tail.hints - (count > limits.EARLY_CHANGES))
    if count == limits.EARLY_CHANGES:
        assert (position(watched.live), stale(watched.live)) == (3 + count, False)
    else:
        assert (position(watched.live), stale(watched.live)) == (3, True)
        await watched.live.refresh()
        assert (position(watched.live), stale(watched.live)) == (3 + count, False)


async def test_what_a_reader_has_read_beyond_the_tail_is_handed_on(watched: Watched) -> None:
    await watched.begin()
    sleeper = Sleeper()
    watched.live.sleep(sleeper)
    await watched.append(b"def")
    watched.live.learn(await watched.store.read("s", START), 0)
    assert (position(watched.live), sleeper.woken) == (6, 1)


async def test_those_who_wait_to_join_the_broadcast_are_woken_when_it_has_been_served(
    watched: Watched,
) -> None:
    await watched.begin()
    sleeper = Sleeper()
    watched.live.sleep(sleeper)
    watched.live.broadcast._on_settled()
    assert sleeper.woken == 1


async def test_what_is_deleted_is_over_once_and_for_all(watched: Watched) -> None:
    tail = await watched.begin()
    sleeper = Sleeper()
    watched.live.sleep(sleeper)
    for _ in range(2):
        watched.live.on_change(Change("s", tail.generation, tail, tail, deleted=True))
    assert (watched.live.tail.state, sleeper.woken) == (TailState.DELETED, 1)
    assert watched.retired == [watched.live]
    watched.live.on_change(await watched.append(b"def"))
    assert position(watched.live) == 3


async def test_closing_is_learned_from_a_change_and_from_a_read(watched: Watched) -> None:
    await watched.begin()
    await watched.store.append("s", Append(close=True))
    watched.live.learn(await watched.store.read("s", Mark.TAIL), 0)
    assert watched.live.tail.state is TailState.CLOSED
    assert watched.live.closing is not None
    assert watched.live.closing.part.closed
    await settle()


async def test_a_change_while_nobody_reads_it_ends_it(watched: Watched) -> None:
    await watched.begin()
    change = await watched.append(b"def")
    watched.live.readers = 0
    watched.live.linger()
    watched.live.on_change(change)
    assert watched.retired == [watched.live]


async def test_a_reader_that_is_back_at_once_finds_it_as_it_was(watched: Watched) -> None:
    await watched.begin()
    watched.live.readers = 0
    watched.live.linger()
    watched.live.readers = 1
    await settle()
    assert watched.retired == []
    watched.live.readers = 0
    watched.live.linger()
    await settle()
    assert watched.retired == [watched.live]
