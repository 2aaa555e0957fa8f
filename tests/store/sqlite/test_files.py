# ruff: noqa: ASYNC221, ASYNC222, ASYNC240 - nothing else runs while a test looks at its files
"""The files of a store: where they are, whose, and whether they are ours."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from tailrace.errors import (
    InvalidOption,
    StoreCorrupt,
    StoreReadOnly,
    StoreUnavailable,
    StoreVersion,
)
from tailrace.store import START, Append, NewStream, open_store
from tailrace.store.private import APPLICATION_ID
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.location import is_ours
from tailrace.testing import no_leaks

pytestmark = pytest.mark.anyio


async def fill(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await store.create("a", NewStream(data=b"kept"))


def image(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.posix
async def test_a_file_is_its_owners_alone_and_its_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "streams.db"
    async with SQLiteStore(path) as store:
        await store.create("a", NewStream(data=b"x"))
        store.watch("a", lambda _change: None)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {
        "streams.db": 0o600,
        "streams.db-wal": 0o600,
        "streams.db-shm": 0o600,
        "streams.db-lock": 0o600,
        "streams.db-peers": 0o700,
    }
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_url_names_a_relative_or_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///here/a.db", f"sqlite:///{tmp_path}/there/a.db"):
        async with open_store(url) as store:
            await store.create("a", NewStream())
    assert (tmp_path / "here" / "a.db").exists()
    assert (tmp_path / "there" / "a.db").exists()
    with pytest.raises(InvalidOption):
        open_store("sqlite:///")


async def test_a_later_chdir_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("streams.db")
    monkeypatch.chdir(tmp_path / "other")
    async with store:
        await store.create("a", NewStream())
    assert (tmp_path / "streams.db").exists()


async def test_a_name_with_every_kind_of_character_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=ro&x=#é%41'\".db"
    await fill(path)
    assert path.exists()
    assert verify(path) == []


async def test_closed_there_is_one_file_and_it_is_whole(file: Path) -> None:
    await fill(file)
    assert not Path(f"{file}-wal").exists()
    assert verify(file) == []


async def test_what_was_written_is_there_again(file: Path) -> None:
    await fill(file)
    async with SQLiteStore(file) as store:
        assert (await store.read("a", START)).data == b"kept"


async def test_nothing_is_left_open(file: Path) -> None:
    await fill(file)
    async with no_leaks():
        async with SQLiteStore(file) as store:
            stop = store.watch("a", lambda _change: None)
            await store.append("a", Append(data=b"x"))
            await store.read("a", START)
            stop()
    assert list(Path(f"{file}-peers").glob("*")) == []


async def test_nothing_is_left_open_when_it_cannot_be_opened(file: Path) -> None:
    file.write_bytes(b"something else")
    async with no_leaks():
        with pytest.raises(StoreCorrupt):
            await SQLiteStore(file).open()


async def test_opening_and_closing_twice_is_as_once(file: Path) -> None:
    store = SQLiteStore(file)
    await store.open()
    await store.open()
    await store.create("a", NewStream())
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.head("a")
    await store.open()
    await store.head("a")
    await store.aclose()


async def test_a_file_that_is_no_database_is_not_touched(file: Path) -> None:
    file.write_bytes(b"notes of mine\n" * 1000)
    before = file.read_bytes()
    with pytest.raises(StoreCorrupt, match="not a store"):
        await SQLiteStore(file).open()
    assert file.read_bytes() == before


@pytest.mark.parametrize("application", [0, 0x12345678])
async def test_a_database_of_another_application_is_not_touched(
    file: Path, application: int
) -> None:
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute(f"PRAGMA application_id = {application}")
        other.execute("CREATE TABLE stream(x)")
    other.close()
    before = image(file.parent)
    with pytest.raises(StoreCorrupt, match="another application"):
        await SQLiteStore(file).open()
    after = image(file.parent)
    after.pop("streams.db-lock", None)
    assert after == before


async def test_a_file_of_another_version_is_not_touched(file: Path) -> None:
    await fill(file)
    connection = apsw.Connection(str(file))
    connection.pragma("user_version", 2)
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreVersion, match="version 2"):
        await SQLiteStore(file).open()
    assert file.read_bytes() == before


async def test_an_empty_file_becomes_a_store(file: Path) -> None:
    file.touch()
    await fill(file)
    connection = apsw.Connection(str(file))
    assert connection.pragma("application_id") == APPLICATION_ID
    connection.close()


async def test_a_file_whose_making_was_cut_short_is_made_anew(file: Path) -> None:
    # Killed in the transaction that makes it: a journal is left, and maybe pages without our mark.
    script = (
        "import apsw, os, sys\n"
        "from tailrace.store.sqlite import schema\n"
        "c = apsw.Connection(sys.argv[1])\n"
        "c.pragma('cache_size', 1); c.pragma('cache_spill', 1)\n"
        "c.execute('BEGIN IMMEDIATE'); c.execute(schema._TABLES)\n"
        "c.cache_flush(); os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    assert Path(f"{file}-journal").exists()
    assert file.stat().st_size > 0
    await fill(file)
    assert verify(file) == []


async def test_a_damaged_file_is_told_by_those_who_meet_the_damage(file: Path) -> None:
    async with SQLiteStore(file) as store:
        for number in range(50):
            await store.create(f"s/{number}", NewStream(data=b"x" * 3000))
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(StoreCorrupt):
        async with SQLiteStore(file) as store:
            await store.read("s/1", START)


@pytest.mark.posix
async def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    await fill(folder / "streams.db")
    # As a user who may read the store and write nothing: root could. It has used a store before,
    # so that all is imported: that user may not be able to read this project.
    script = (
        "import os, sys\n"
        "sys.path[:0] = sys.argv[3].split(os.pathsep)\n"
        "import anyio\n"
        "from tailrace.store.sqlite import SQLiteStore\n"
        "async def use(file):\n"
        "    try:\n"
        "        async with SQLiteStore(file): print('opened')\n"
        "    except BaseException as error: print(type(error).__name__)\n"
        "anyio.run(use, sys.argv[1])\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "anyio.run(use, sys.argv[2])\n"
    )
    for path in folder.iterdir():
        path.chmod(0o444)
    lock = folder / "streams.db-lock"
    folder.chmod(0o555)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o555)
    lock.chmod(0o666)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-c", script, str(tmp_path / "own.db")),
                *(str(folder / "streams.db"), os.pathsep.join(sys.path)),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        folder.chmod(0o755)
    assert done.stdout.split() == ["opened", StoreReadOnly.__name__]


async def test_a_file_in_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        await SQLiteStore(tmp_path / "file" / "streams.db").open()


async def test_a_path_that_is_too_long_for_sqlite_is_told(tmp_path: Path) -> None:
    room = 500 - len(os.fsencode(tmp_path)) - 1
    folder = tmp_path.joinpath(*["d" * 90] * (room // 91 - 1))
    name = "f" * (500 - len(os.fsencode(folder)) - 1)
    await fill(folder / name)
    with pytest.raises(StoreUnavailable, match="shorter"):
        await SQLiteStore(folder / (name + "f")).open()


@pytest.mark.posix
async def test_a_store_of_another_process_says_so(file: Path) -> None:
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        read, write = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - what coverage counts is the parent
            try:
                try:
                    store._require_open()
                except StoreUnavailable as error:
                    os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as said:
            assert "opened in another process" in said.read()
        os.waitpid(child, 0)
        await store.append("a", Append(data=b"x"))


# What somebody else has put beside it -----------------------------------------------------------


def planted_link(at: Path, precious: Path) -> None:
    at.symlink_to(precious)


def planted_hard_link(at: Path, precious: Path) -> None:
    at.hardlink_to(precious)


def planted_copy(at: Path, precious: Path) -> None:
    at.write_bytes(precious.read_bytes())


def planted_dangling_link(at: Path, precious: Path) -> None:
    at.symlink_to(precious.with_name("not-there"))


def planted_pipe(at: Path, precious: Path) -> None:
    os.mkfifo(at)


@pytest.mark.posix
@pytest.mark.parametrize("size", [0, 230, 4096])
@pytest.mark.parametrize("plant", [planted_link, planted_hard_link, planted_dangling_link])
async def test_a_name_is_not_opened_for_writing_where_it_is_a_link(
    file: Path, tmp_path: Path, size: int, plant: Any
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * size)
    plant(Path(f"{file}-lock"), precious)
    async with no_leaks():
        with pytest.raises(StoreUnavailable, match="remove it"):
            await SQLiteStore(file).open()
    assert precious.read_bytes() == b"x" * size
    assert not precious.with_name("not-there").exists()


@pytest.mark.posix
@pytest.mark.parametrize("plant", [planted_copy, planted_pipe])
async def test_a_lock_that_is_another_file_is_not_touched(
    file: Path, tmp_path: Path, plant: Any
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"words of somebody else")
    plant(Path(f"{file}-lock"), precious)
    with pytest.raises(StoreUnavailable, match="another file"):
        await SQLiteStore(file).open()


@pytest.mark.parametrize("size", [0, 32_768])
@pytest.mark.parametrize("plant", [planted_link, planted_hard_link, planted_dangling_link])
@pytest.mark.parametrize("name", ["-wal", "-shm", "-journal"])
async def test_the_files_of_sqlite_are_not_opened_where_they_are_links(
    file: Path, tmp_path: Path, name: str, plant: Any, size: int
) -> None:
    await fill(file)
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * size)
    plant(Path(f"{file}{name}"), precious)
    async with no_leaks():
        with pytest.raises(StoreUnavailable, match="remove it"):
            await SQLiteStore(file).open()
        with pytest.raises(StoreUnavailable, match="remove it"):
            verify(file)
    assert precious.read_bytes() == b"x" * size
    Path(f"{file}{name}").unlink()
    assert verify(file) == []


@pytest.mark.parametrize("size", [0, 4096])
async def test_a_database_that_has_a_second_name_is_not_opened(
    file: Path, tmp_path: Path, size: int
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * size)
    file.hardlink_to(precious)
    with pytest.raises(StoreUnavailable, match="a second name"):
        await SQLiteStore(file).open()
    assert precious.read_bytes() == b"x" * size


async def test_beside_a_link_to_the_database_it_is_looked_at_what_lies_beside_the_database(
    file: Path, tmp_path: Path
) -> None:
    await fill(file)
    precious = tmp_path / "precious"
    precious.touch()
    Path(f"{file}-shm").hardlink_to(precious)
    (tmp_path / "link.db").symlink_to(file)
    with pytest.raises(StoreUnavailable, match="a second name"):
        await SQLiteStore(tmp_path / "link.db").open()
    assert precious.read_bytes() == b""


def planted_directory(at: Path, others: Path) -> None:
    at.symlink_to(others, target_is_directory=True)


@pytest.mark.parametrize("plant", [planted_directory, planted_dangling_link, planted_pipe])
async def test_sockets_are_not_made_or_removed_where_their_directory_is_none(
    file: Path, tmp_path: Path, plant: Any
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "precious").write_bytes(b"x")
    plant(Path(f"{file}-peers"), others)
    with pytest.raises(StoreUnavailable, match="remove it"):
        await SQLiteStore(file).open()
    assert [path.name for path in others.iterdir()] == ["precious"]


async def test_sockets_are_not_made_through_a_link_that_comes_later(
    file: Path, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "precious").write_bytes(b"x")
    async with SQLiteStore(file) as store:
        Path(f"{file}-peers").symlink_to(others)
        await store.create("a", NewStream())
        store.watch("a", lambda _change: None)
        await store.append("a", Append(data=b"x", content_type="application/octet-stream"))
        assert [path.name for path in others.iterdir()] == ["precious"]
    assert [path.name for path in others.iterdir()] == ["precious"]


@pytest.mark.posix
def test_what_another_user_has_made_is_not_ours_but_the_directorys_owners_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "streams.db-lock"
    path.touch()
    found = list(path.stat())
    assert is_ours(str(path), os.stat_result(found))
    found[stat.ST_UID] = 12345
    assert not is_ours(str(path), os.stat_result(found))
