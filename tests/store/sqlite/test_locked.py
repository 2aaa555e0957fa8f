"""Somebody else holds the file: told in bounded time, and done with when it is let go."""

from __future__ import annotations

from pathlib import Path

import anyio
import apsw
import pytest

from tailrace import limits
from tailrace.errors import StoreLocked, StreamClosed
from tailrace.store import START, Append, NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.testing import no_leaks
from tests.store.sqlite.locking import held

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_LOCK_TIMEOUT", 0.1)


async def test_who_waits_behind_a_lock_is_told_and_goes_on_when_it_is_let_go(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"one"))
        with held(file):
            for _ in range(2):
                with pytest.raises(StoreLocked, match="-lock"):
                    await store.append("a", Append(data=b"lost"))
            with pytest.raises(StoreLocked):
                await store.check()
            assert (await store.read("a", START)).data == b"one"
        await store.append("a", Append(data=b"two"))
        assert (await store.read("a", START)).data == b"onetwo"


async def test_a_short_wait_is_not_told(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        async with anyio.create_task_group() as group:
            with held(file):
                group.start_soon(store.append, "a", Append(data=b"x"))
                await anyio.sleep(0.01)
        assert (await store.head("a")).tail.position == 1


async def test_a_program_that_locks_the_database_itself_is_told(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        other = apsw.Connection(str(file))
        other.set_busy_timeout(1000)  # our maintenance may hold it for a moment
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked):
            await store.append("a", Append(data=b"x"))
        other.execute("ROLLBACK")
        other.close()
        await store.append("a", Append(data=b"y"))
        assert (await store.read("a", START)).data == b"y"


async def test_opening_a_held_file_is_told_and_leaves_nothing(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
    async with no_leaks():
        with held(file):
            with pytest.raises(StoreLocked):
                await SQLiteStore(file).open()


async def test_closing_behind_a_lock_does_not_wait_for_ever(file: Path) -> None:
    async with no_leaks():
        store = SQLiteStore(file)
        await store.open()
        with held(file):
            await store.aclose()
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())


async def test_what_another_program_writes_is_noticed(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"one"))
        await store.append("a", Append(data=b"two"))
        # Without our lock, behind our back: what the writer knows is wrong now.
        other = apsw.Connection(str(file))
        other.set_busy_timeout(10_000)  # our maintenance may hold it for a moment
        other.execute("UPDATE stream SET closed = 1")
        other.close()
        with pytest.raises(StreamClosed):
            await store.append("a", Append(data=b"three"))
