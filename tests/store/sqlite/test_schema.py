"""The check of a file finds what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import anyio
import apsw
import pytest

from tailrace.errors import StoreCorrupt
from tailrace.store import Append, Fork, NewStream, Producer, Retention
from tailrace.store.sqlite import SQLiteStore, verify


async def fill(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"12345"))
        await store.append("a", Append(data=b"678", producer=Producer("p", 0, 0)))
        await store.append("a", Append(data=b"9", close=True))
        await store.create("fork", NewStream(fork=Fork("a"), data=b"own"))
        await store.create("empty", NewStream())
        await store.create("empty fork", NewStream(fork=Fork("fork")))
        await store.create("short", NewStream(retention=Retention(max_records=2)))
        for _ in range(10):
            await store.append("short", Append(data=b"x"))
        await store.create("gone", NewStream(data=b"y"))
        await store.create("its fork", NewStream(fork=Fork("gone")))
        await store.delete("gone")


def test_a_file_that_is_right_has_no_problems(file: Path) -> None:
    anyio.run(fill, file)
    assert verify(file) == []


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM chunk WHERE tail = 8",
        "DELETE FROM chunk WHERE tail = 9",
        "DELETE FROM chunk WHERE tail = 5",
        "UPDATE chunk SET data = x'00' WHERE tail = 8",
        "UPDATE stream SET tail = tail + 1 WHERE path = 'a'",
        "UPDATE stream SET tail = 7 WHERE path = 'empty'",
        "UPDATE stream SET records = records + 1 WHERE path = 'short'",
        "UPDATE stream SET low = low - 1 WHERE path = 'short'",
        "UPDATE stream SET source = 17 WHERE path = 'fork'",
        "DELETE FROM stream WHERE path = 'a'",
        "UPDATE stream SET path = NULL WHERE path = 'gone'",
        "DELETE FROM stream WHERE path = 'its fork'",
        "INSERT INTO chunk VALUES(NULL, 17, 1, 0, x'00')",
        "INSERT INTO producer VALUES(17, 'p', 0, 0)",
        "UPDATE sqlite_sequence SET seq = seq - 1",
    ],
)
def test_damage_is_found(file: Path, damage: str) -> None:
    anyio.run(fill, file)
    connection = apsw.Connection(str(file))
    connection.execute(damage)
    connection.close()
    assert verify(file)


def test_a_damaged_page_is_found(file: Path) -> None:
    anyio.run(fill, file)
    connection = apsw.Connection(str(file))
    page = int(connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'chunk_place'"
    ).get)  # fmt: skip
    connection.close()
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * 4096 + 4000)
        damaged.write(b"\xff" * 96)
    assert verify(file)


def test_what_is_no_store_is_refused(file: Path) -> None:
    file.write_bytes(b"x" * 5000)
    with pytest.raises(StoreCorrupt):
        verify(file)
