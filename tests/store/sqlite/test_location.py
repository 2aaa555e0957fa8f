"""SQLite's locks are the process's: they survive a second store, and a child has none of them."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tailrace.errors import StoreUnavailable
from tailrace.store import Append, Mark, NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.store.sqlite.location import held_open

pytestmark = pytest.mark.anyio

DEADLINE = 30.0

# SQLite's lock of those who use a file: 510 bytes behind the first gigabyte. Ends with 1 if nobody
# holds any of them.
LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
    except OSError:
        sys.exit(0)
sys.exit(1)
"""


def is_locked(file: Path) -> bool:
    found = subprocess.run([sys.executable, "-c", LOCKED, file], timeout=DEADLINE, check=False)
    return found.returncode == 0


async def test_another_store_on_the_file_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "streams.db"
    async with SQLiteStore(file) as first:
        await first.create("a", NewStream())
        assert is_locked(file)
        async with SQLiteStore(file) as second:
            await second.head("a")
            assert is_locked(file)
        assert is_locked(file)


def test_a_file_that_is_open_is_not_looked_at_again(tmp_path: Path) -> None:
    file = str(tmp_path / "streams.db")
    looks: list[str] = []
    with held_open(file, looks.append):
        with held_open(file, looks.append):
            pass
        with held_open(str(tmp_path / "." / "streams.db"), looks.append):
            pass
    assert looks == [file]
    with held_open(file, looks.append):
        assert looks == [file, file]


def _append_in_child(file: Path, said: multiprocessing.Queue[str]) -> None:
    async def append() -> None:
        async with SQLiteStore(file) as store:
            await store.append("a", Append(data=b"child"))

    try:
        anyio.run(append)
    except StoreUnavailable as error:
        said.put(str(error))
    else:
        said.put("done")


def said_by_a_forked_child(file: Path) -> str:
    context = multiprocessing.get_context("fork")
    said: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=_append_in_child, args=(file, said))
    child.start()
    words = said.get(timeout=DEADLINE)
    child.join(DEADLINE)
    return words


@pytest.mark.posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
async def test_a_child_that_was_forked_while_the_file_was_open_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "streams.db"
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"parent"))
        words = await anyio.to_thread.run_sync(said_by_a_forked_child, file)
        assert "was open when this process was forked" in words
        assert (await store.read("a", Mark.BEGINNING)).data == b"parent"


@pytest.mark.posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
async def test_a_child_that_was_forked_when_the_file_was_closed_again_may_open_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "streams.db"
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"parent,"))
    assert await anyio.to_thread.run_sync(said_by_a_forked_child, file) == "done"
    async with SQLiteStore(file) as store:
        assert (await store.read("a", Mark.BEGINNING)).data == b"parent,child"
