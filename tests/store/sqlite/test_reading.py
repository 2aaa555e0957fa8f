"""The threads that read."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from tailrace import limits
from tailrace.errors import StoreUnavailable
from tailrace.store import START, NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.store.sqlite.connection import open_reader
from tailrace.store.sqlite.reading import Query, Readers
from tailrace.testing import no_leaks, wait_until
from tests.store.sqlite.faulty import no_threads

pytestmark = pytest.mark.anyio


async def make(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"x"))


async def test_as_many_read_at_a_time_as_there_are_threads_and_the_next_waits(file: Path) -> None:
    await make(file)
    async with no_leaks():
        readers = Readers(str(file), lambda: open_reader(str(file), vfs=None), 3, lambda _: None)
        go = threading.Event()
        begun: list[int] = []
        done: list[int] = []

        def query(number: int) -> Query:
            def ask(_connection: object) -> None:
                begun.append(number)
                go.wait()

            return Query(ask, lambda: done.append(number))

        for number in range(5):
            readers.put(query(number))
        await wait_until(lambda: len(begun) == 3)
        assert sorted(begun) == [0, 1, 2]
        go.set()
        await wait_until(lambda: len(done) == 5)
        readers.close()


async def test_one_after_the_other_needs_one_thread(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        for _ in range(10):
            await store.read("a", START)
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("tailrace-store-read") for name in names) == 1


async def test_a_store_has_no_more_threads_than_it_says(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(store.read, "a", START)
        names = [thread.name for thread in threading.enumerate()]
        readers = [name for name in names if name.startswith("tailrace-store-read")]
        assert 1 <= len(readers) <= limits.STORE_READ_THREADS


async def test_a_reader_that_gives_up_leaves_its_thread_to_the_next(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"x"))
        for _ in range(20):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await store.read("a", START)
        assert (await store.read("a", START)).data == b"x"


async def test_a_read_for_which_there_is_no_thread_is_refused_and_a_later_one_is_not(
    file: Path,
) -> None:
    async with no_leaks(), SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"x"))
        with no_threads():
            for _ in range(limits.STORE_READ_THREADS + 1):
                with pytest.raises(StoreUnavailable, match="thread"):
                    await store.read("a", START)
        for _ in range(2):
            assert (await store.read("a", START)).data == b"x"


async def test_a_read_waits_for_a_thread_that_is_there_if_no_other_can_be_started(
    file: Path,
) -> None:
    await make(file)
    async with no_leaks():
        readers = Readers(str(file), lambda: open_reader(str(file), vfs=None), 3, lambda _: None)
        go = threading.Event()
        done: list[int] = []
        readers.put(Query(lambda _connection: go.wait(), lambda: done.append(1)))
        with no_threads():
            readers.put(Query(lambda _connection: None, lambda: done.append(2)))
        go.set()
        await wait_until(lambda: done == [1, 2])
        readers.close()
