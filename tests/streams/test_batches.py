from __future__ import annotations

import threading

import anyio
import pytest

from tailrace.runtime import current_loop
from tailrace.streams.local_run import Batches
from tailrace.testing import settle, wait_until

pytestmark = pytest.mark.anyio


async def test_a_batch_is_what_is_there_up_to_the_limit_and_nothing_is_cut() -> None:
    batches = Batches(current_loop(), 10, threaded=False)
    for message in (b"aaaa,", b"bbbb,", b"c,", b"0123456789ab,", b"d,"):
        batches.put(message)
    assert [batches.take() for _ in range(5)] == [
        b"aaaa,bbbb,",
        b"c,",
        b"0123456789ab,",
        b"d,",
        b"",
    ]
    assert batches.size == 0


async def test_put_says_when_to_wait() -> None:
    batches = Batches(current_loop(), 10, threaded=False)
    assert batches.put(b"x" * 5)
    assert not batches.put(b"x" * 5)


async def test_room_comes_with_taking() -> None:
    batches = Batches(current_loop(), 10, threaded=False)
    batches.put(b"x" * 10)
    has_room = anyio.Event()

    async def wait() -> None:
        await batches.room()
        has_room.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await settle()
        assert not has_room.is_set()
        batches.take()


async def test_ready_comes_with_putting() -> None:
    batches = Batches(current_loop(), 10, threaded=False)
    async with anyio.create_task_group() as group:
        group.start_soon(batches.ready)
        await settle()
        batches.put(b"x")


async def test_a_thread_waits_for_room_and_wakes_the_task() -> None:
    batches = Batches(current_loop(), 100, threaded=True)
    done = threading.Event()

    def produce() -> None:
        for n in range(1000):
            if not batches.put(b"%09d," % n):
                while not batches.room_in_thread(0.01):
                    pass
        done.set()

    thread = threading.Thread(target=produce)
    thread.start()
    taken = b""
    while len(taken) < 10_000:
        await batches.ready()
        batch = batches.take()
        assert len(batch) <= 100
        taken += batch
    await wait_until(done.is_set)
    thread.join()
    assert taken == b"".join(b"%09d," % n for n in range(1000))
    assert batches.size == 0
