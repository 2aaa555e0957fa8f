"""A file that is known to be damaged: nothing more is acknowledged on it, by anybody."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tailrace.errors import StoreCorrupt, StoreUnavailable
from tailrace.store import START, Append, Mark, NewStream
from tailrace.store.sqlite import SQLiteStore
from tailrace.testing import wait_until

pytestmark = pytest.mark.anyio


def lose_a_chunk(file: Path) -> None:
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(10_000)
    connection.execute("DELETE FROM chunk WHERE tail = 3")
    connection.close()


def break_a_page(file: Path) -> None:
    connection = apsw.Connection(str(file))
    sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'chunk_place'"
    page = int(connection.execute(sql).get)
    connection.close()
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * 4096)
        damaged.write(b"\xff" * 4096)


def empty(file: Path) -> None:
    os.truncate(file, 0)


DAMAGES = [lose_a_chunk, break_a_page, empty]


def put_back(copy: Path, file: Path) -> None:
    for beside in ("-wal", "-shm"):
        Path(f"{file}{beside}").unlink(missing_ok=True)
    shutil.copyfile(copy, file)


def move_away(file: Path) -> None:
    for each in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        if each.exists():
            each.rename(f"{each}.damaged")


async def refuses(store: SQLiteStore) -> None:
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.append("a", Append(data=b"three"))
    with pytest.raises(StoreUnavailable):
        await store.create("b", NewStream())
    with pytest.raises(StoreUnavailable):
        await store.delete("a")
    with pytest.raises(StoreUnavailable):
        await store.check()


@pytest.fixture
async def filled(file: Path) -> Path:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"one"))
        await store.append("a", Append(data=b"two"))
    return file


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_a_reader_finds_stops_the_writers_of_all_processes(
    filled: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with SQLiteStore(filled) as store, SQLiteStore(filled) as other:
        damage(filled)
        with caplog.at_level(logging.ERROR), pytest.raises(StoreCorrupt):
            await store.read("a", Mark.BEGINNING)
        await refuses(store)
        await refuses(other)
    told = [each for each in caplog.messages if "is damaged" in each]
    assert len(told) == 2  # once by each


@pytest.mark.posix
@pytest.mark.parametrize("damage", DAMAGES)
async def test_it_is_not_opened_again_before_it_is_put_right(
    filled: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    copy = tmp_path / "copy.db"
    shutil.copyfile(filled, copy)
    async with SQLiteStore(filled) as store:
        damage(filled)
        with pytest.raises(StoreCorrupt):
            await store.read("a", Mark.BEGINNING)
        await refuses(store)
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            await SQLiteStore(filled).open()
    put_back(copy, filled)
    async with SQLiteStore(filled) as store:
        assert (await store.read("a", START)).data == b"onetwo"
        await store.append("a", Append(data=b"three"))


async def test_a_new_file_in_its_place_is_another(filled: Path) -> None:
    async with SQLiteStore(filled) as store:
        lose_a_chunk(filled)
        with pytest.raises(StoreCorrupt):
            await store.read("a", Mark.BEGINNING)
        await refuses(store)
    move_away(filled)
    async with SQLiteStore(filled) as store:
        await store.create("a", NewStream(data=b"new"))


async def test_others_learn_of_it_without_an_append(filled: Path) -> None:
    async with SQLiteStore(filled) as store, SQLiteStore(filled) as other:
        lose_a_chunk(filled)
        with pytest.raises(StoreCorrupt):
            await store.read("a", Mark.BEGINNING)
        lock = other._writer.lock
        await wait_until(lambda: lock.damaged != 0)
        with pytest.raises(StoreCorrupt, match="another process"):
            await other.append("a", Append(data=b"three"))


async def test_what_the_writer_finds_is_final_too(filled: Path) -> None:
    async with SQLiteStore(filled) as store:
        break_a_page(filled)
        with pytest.raises(StoreCorrupt):
            await store.append("a", Append(data=b"three"))
        await refuses(store)
