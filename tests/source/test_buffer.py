"""The buffer alone: its decisions are tested with a fake loop, its waits with real loops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.runtime import current_loop
from tailrace.source import Buffer
from tailrace.testing import settle

LIMIT = 10


class PaperSignal:
    """A signal that only counts how often it was set; nothing waits for it."""

    def __init__(self) -> None:
        self.times_set = 0

    def set(self) -> None:
        self.times_set += 1

    async def wait(self) -> None:
        raise AssertionError("nothing here waits")


class PaperLoop:
    """A fake loop, for tests that call both sides of a buffer in turn."""

    def __init__(self) -> None:
        self.signals: list[PaperSignal] = []

    def time(self) -> float:
        return 0.0

    def signal(self) -> PaperSignal:
        self.signals.append(PaperSignal())
        return self.signals[-1]

    def cancel_once(self) -> Any:
        raise AssertionError("a buffer interrupts nobody")

    def call_at(self, when: float, call: Callable[[], None]) -> Callable[[], None]:
        raise AssertionError("a buffer has no timers")

    def call_from_thread(self, call: Callable[[], None]) -> None:
        call()


def buffer(limit: int = LIMIT, *, threaded: bool = False) -> Buffer:
    loop: Any = PaperLoop()
    return Buffer(loop, limit, threaded=threaded)


def begun(of: Buffer) -> Buffer:
    """The same buffer after its first frame, which is taken alone."""
    of.put(b"first")
    assert of.take()
    return of


def drained(of: Buffer) -> list[Any]:
    batches: list[Any] = []
    while of.size:
        batches.append(of.take())
    return batches


# What is decided ---------------------------------------------------------------------------------

frames = st.one_of(
    st.just(b""),
    st.binary(min_size=1, max_size=LIMIT),
    st.binary(min_size=LIMIT + 1, max_size=3 * LIMIT),
)
TAKE = None
steps = st.lists(st.one_of(frames, st.just(TAKE)), max_size=40)


@given(steps, st.booleans())
def test_no_interleaving_of_puts_and_takes_loses_reorders_or_invents_a_byte(
    steps: list[bytes | None], threaded: bool
) -> None:
    tested = buffer(threaded=threaded)
    put = b""
    taken: Any = b""
    for step in steps:
        if step is TAKE:
            taken += tested.take()
        else:
            tested.put(step)
            put += step
        assert tested.size == len(put) - len(taken)
    assert taken + b"".join(drained(tested)) == put


@given(steps)
def test_no_batch_is_larger_than_the_limit(steps: list[bytes | None]) -> None:
    tested = buffer()
    for step in steps:
        if step is TAKE:
            assert len(tested.take()) <= LIMIT
        else:
            tested.put(step)
    assert all(len(batch) <= LIMIT for batch in drained(tested))


@given(steps)
def test_a_batch_without_bytes_means_that_none_wait(steps: list[bytes | None]) -> None:
    tested = buffer()
    for step in steps:
        if step is not TAKE:
            tested.put(step)
        elif not tested.take():
            assert tested.size == 0
            assert not tested.has_items


@given(st.lists(st.binary(min_size=1, max_size=3 * LIMIT)))
def test_a_producer_that_stops_when_told_is_one_frame_over_the_limit_at_most(
    given_frames: list[bytes],
) -> None:
    tested = buffer()
    for frame in given_frames:
        before = tested.size
        has_room = tested.put(frame)
        assert before <= LIMIT
        if not has_room:
            drained(tested)


@given(st.lists(st.binary(min_size=1, max_size=LIMIT)))
def test_every_batch_but_the_last_is_full(given_frames: list[bytes]) -> None:
    tested = begun(buffer())
    for frame in given_frames:
        tested.put(frame)
    batches = list(drained(tested))
    assert all(len(batch) == LIMIT for batch in batches[:-1])
    assert b"".join(batches) == b"".join(given_frames)


def test_frames_of_one_size_fill_a_batch_and_leave_nothing_small_over() -> None:
    tested = begun(buffer(10))
    assert [tested.put(b"abc") for _ in range(3)] == [True, True, False]
    assert drained(tested) == [b"abcabcabc"]


def test_there_is_room_for_no_other_frame_until_the_first_was_taken() -> None:
    tested = buffer()
    assert not tested.put(b"x")
    tested.take()
    assert tested.put(b"y")


def test_a_large_frame_is_cut() -> None:
    tested = buffer(4)
    tested.put(b"0123456789")
    assert drained(tested) == [b"0123", b"4567", b"89"]


def test_the_rest_of_a_large_frame_is_filled_up_with_what_follows() -> None:
    tested = buffer(4)
    tested.put(b"012345")
    tested.put(b"67")
    assert drained(tested) == [b"0123", b"4567"]


def test_taking_from_an_empty_buffer_gives_nothing() -> None:
    assert buffer().take() == b""


def test_the_first_item_without_bytes_is_told_and_later_ones_are_not() -> None:
    tested = buffer()
    assert tested.touch()
    assert tested.has_items
    assert tested.take() == b""
    tested.put(b"x")
    tested.take()
    assert tested.touch()
    assert not tested.has_items


def test_a_batch_is_bytes_and_not_a_view_of_what_the_source_holds() -> None:
    tested = buffer(4)
    for frame in (b"whole", b"a"):
        tested.put(frame)
    assert [type(batch) for batch in drained(tested)] == [bytes, bytes]


# Waiting -----------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_consumer_waits_for_the_first_frame() -> None:
    async with anyio.create_task_group() as group:
        tested = Buffer(current_loop(group), LIMIT, threaded=False)
        got: list[Any] = []

        async def consume() -> None:
            await tested.ready()
            got.append(tested.take())

        group.start_soon(consume)
        await settle()
        assert got == []
        tested.put(b"x")
        await settle()
        assert got == [b"x"]


@pytest.mark.anyio
async def test_a_consumer_that_is_woken_without_a_frame_looks_for_itself() -> None:
    async with anyio.create_task_group() as group:
        tested = Buffer(current_loop(group), LIMIT, threaded=False)
        group.start_soon(tested.ready)
        await settle()
        tested.wake_consumer()


@pytest.mark.anyio
async def test_a_producer_waits_until_half_of_the_limit_is_free() -> None:
    async with anyio.create_task_group() as group:
        tested = begun(Buffer(current_loop(group), LIMIT, threaded=False))
        for _ in range(4):
            tested.put(b"1234567")
        came_back: list[int] = []

        async def produce() -> None:
            await tested.room()
            came_back.append(tested.size)

        group.start_soon(produce)
        await settle()
        tested.take()
        tested.take()
        await settle()
        assert came_back == []
        tested.take()
        await settle()
        assert came_back == [0]


@pytest.mark.anyio
async def test_there_is_room_at_once_where_there_is_room() -> None:
    async with anyio.create_task_group() as group:
        tested = begun(Buffer(current_loop(group), LIMIT, threaded=True))
        tested.put(b"x")
        await tested.room()
        assert tested.room_in_thread(0.0)


@pytest.mark.anyio
async def test_a_thread_waits_for_room_no_longer_than_it_says() -> None:
    async with anyio.create_task_group() as group:
        tested = Buffer(current_loop(group), LIMIT, threaded=True)
        tested.put(b"x" * LIMIT)
        assert not tested.room_in_thread(0.0)
        tested.take()
        assert tested.room_in_thread(0.0)


@pytest.mark.anyio
@pytest.mark.parametrize("sizes", [[1], [3, 0, 11, 7], [25]])
async def test_a_task_and_a_task_pass_everything_in_order(sizes: list[int]) -> None:
    async with anyio.create_task_group() as group:
        tested = Buffer(current_loop(group), LIMIT, threaded=False)
        given_frames = [bytes([n % 256]) * sizes[n % len(sizes)] for n in range(500)]
        largest = 0

        async def produce() -> None:
            nonlocal largest
            for frame in given_frames:
                has_room = tested.put(frame)
                largest = max(largest, tested.size)
                if not has_room:
                    await tested.room()

        group.start_soon(produce)
        got: Any = b""
        with anyio.fail_after(10):
            while len(got) < sum(map(len, given_frames)):
                await tested.ready()
                got += tested.take()
        assert got == b"".join(given_frames)
        assert largest <= LIMIT + max(sizes)


@pytest.mark.anyio
@pytest.mark.parametrize("sizes", [[1], [3, 0, 11, 7], [25]])
@pytest.mark.slow
async def test_a_thread_and_a_task_pass_everything_in_order(sizes: list[int]) -> None:
    async with anyio.create_task_group() as group:
        tested = Buffer(current_loop(group), LIMIT, threaded=True)
        given_frames = [bytes([n % 256]) * sizes[n % len(sizes)] for n in range(3000)]
        largest: list[int] = []

        def produce() -> None:
            for frame in given_frames:
                has_room = tested.put(frame)
                largest.append(tested.size)
                if not has_room:
                    while not tested.room_in_thread(5.0):
                        pass

        thread = threading.Thread(target=produce, daemon=True)
        thread.start()
        got: Any = b""
        with anyio.fail_after(10):
            while len(got) < sum(map(len, given_frames)):
                await tested.ready()
                got += tested.take()
        thread.join(5)
        assert got == b"".join(given_frames)
        assert max(largest) <= LIMIT + max(sizes)
