"""A store's life: opened once, in one event loop, whoever else opens or closes it meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import anyio.from_thread
import apsw
import pytest

from tailrace.errors import StoreUnavailable
from tailrace.runtime import Threads, file_threads, short_threads
from tailrace.store import Append, Change, NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.store.sqlite.lock import WriteLock
from tailrace.testing import no_leaks, wait_until
from tests.store.sqlite.faulty import no_threads

pytestmark = pytest.mark.anyio


async def test_what_opens_it_while_it_closes_waits_and_opens_it_anew(file: Path) -> None:
    store = SQLiteStore(file)
    await store.open()
    await store.create("a", NewStream())
    async with anyio.create_task_group() as group:
        group.start_soon(store.aclose)
        group.start_soon(store.open)
    with anyio.fail_after(30):
        await store.open()
        await store.append("a", Append(data=b"x"))
        await store.aclose()


async def test_it_is_not_opened_in_a_second_event_loop(file: Path) -> None:
    def elsewhere() -> None:
        with anyio.from_thread.start_blocking_portal() as portal:
            with pytest.raises(StoreUnavailable, match="another event loop"):
                portal.call(store.open)

    async with SQLiteStore(file) as store:
        await anyio.to_thread.run_sync(elsewhere)
        await store.create("a", NewStream())


async def test_it_waits_for_its_reads_in_a_thread_for_disks_when_it_closes(file: Path) -> None:
    go = threading.Event()
    begun = threading.Event()

    def hang(_connection: apsw.Connection) -> None:
        begun.set()
        go.wait(10)

    store = SQLiteStore(file)
    await store.open()
    async with anyio.create_task_group() as group:
        group.start_soon(store._ask, hang)
        await wait_until(begun.is_set)
        group.start_soon(store.aclose)
        await wait_until(lambda: file_threads.busy + short_threads.busy)
        assert (file_threads.busy, short_threads.busy) == (1, 0)
        go.set()


# Without a thread ---------------------------------------------------------------------------------


async def test_it_closes_where_the_system_has_no_thread_left(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = Threads("tailrace-test", "tests", 1)
    monkeypatch.setattr("tailrace.store.sqlite.store.file_threads", none)
    async with no_leaks():
        store = SQLiteStore(file)
        await store.open()
        store.watch("a", lambda _change: None)
        await store.create("a", NewStream())
        await store.head("a")
        with no_threads():
            await store.aclose()


async def test_one_that_finds_no_thread_to_write_with_is_not_open_and_can_be_opened_later(
    file: Path,
) -> None:
    store = SQLiteStore(file)
    with no_threads(), pytest.raises(StoreUnavailable, match="thread"):
        await store.open()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.create("a", NewStream())
    async with store:
        await store.create("a", NewStream())


async def test_a_watch_for_which_there_is_no_thread_is_refused_and_leaves_nothing(
    file: Path,
) -> None:
    told: list[Change] = []
    async with no_leaks(), SQLiteStore(file) as store, SQLiteStore(file) as other:
        await store.create("a", NewStream())
        with no_threads(), pytest.raises(StoreUnavailable, match="thread"):
            store.watch("a", told.append)
        assert len(store._watchers) == 0
        await store.append("a", Append(data=b"x"))
        assert not told
        store.watch("a", told.append)
        await store.head("a")
        await other.append("a", Append(data=b"y"))
        await wait_until(lambda: told)


async def test_who_waits_for_the_lock_waits_also_without_a_thread_to_bound_it(
    tmp_path: Path,
) -> None:
    lock = WriteLock(str(tmp_path / "streams.db-lock"), lambda: None)
    for _ in range(2):
        with no_threads():
            lock._wait()
        lock._file.release()
    lock.close()
