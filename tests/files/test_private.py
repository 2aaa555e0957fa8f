"""What belongs to a store of streams is never served: by no name, through no link."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tailrace import Files
from tailrace.store import Append, NewStream
from tailrace.store.sqlite import SQLiteStore, verify
from tests.files.asking import ask

pytestmark = pytest.mark.anyio

SECRET = b"what only the streams hold"
MARKS = (SECRET, b"SQLite format 3", b"streams.db")

OTHERS = """
import asyncio, sys
from tailrace.store import NewStream
from tailrace.store.sqlite import SQLiteStore

async def main():
    async with SQLiteStore(sys.argv[1]) as store:
        await store.create("a", NewStream(data=sys.argv[2].encode()))
        store.watch("a", lambda change: None)
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@asynccontextmanager
async def here(path: Path) -> AsyncIterator[None]:
    """A store that this process has open."""
    async with SQLiteStore(path) as store:
        await store.create("a", NewStream(data=SECRET))
        store.watch("a", lambda _change: None)
        await store.append("a", Append(data=SECRET, content_type="application/octet-stream"))
        yield


@contextmanager
def elsewhere(path: Path) -> Iterator[None]:
    """A store that another process has open."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHERS, str(path), SECRET.decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
    finally:
        process.communicate(b"", timeout=20)


def plant(files: Path, store: Path) -> list[str]:
    """Every way that leads to a store; the names under which it would be reached."""
    (files / "innocent.txt").write_bytes(b"innocent")
    ways: list[str] = []
    for suffix in ("", "-wal", "-shm", "-lock"):
        real = Path(f"{store}{suffix}")
        (files / f"hard{suffix}.bin").hardlink_to(real)
        (files / f"soft{suffix}.bin").symlink_to(os.path.relpath(real, files))
        (files / f"far{suffix}.bin").symlink_to(real)
        ways += (f"hard{suffix}.bin", f"soft{suffix}.bin", f"far{suffix}.bin")
    (files / "data").symlink_to(os.path.relpath(store.parent, files))
    (files / "again").symlink_to("data")
    (files / "peers").symlink_to(f"{store}-peers")
    beside = [f"{store.name}{suffix}" for suffix in ("", "-wal", "-shm", "-lock", "-peers/")]
    for above in ("data", "again", os.path.relpath(store.parent, files)):
        ways += (f"{above}/{name}" for name in beside)
    return [*ways, "peers/"]


async def check(app: Any, ways: list[str], shown: set[str]) -> None:
    for way in ways:
        for method in ("GET", "HEAD"):
            got = await ask(app, f"/{way}", method)
            assert got.status == 404, (way, got.status)
    assert (await ask(app, "/innocent.txt")).body == b"innocent"
    for target in ("/", "/data/", "/again/"):
        listed = await ask(app, target, accept="application/json")
        packed = await ask(app, f"{target}?zip")
        for got in (listed, packed, await ask(app, target, accept="text/html")):
            assert not any(mark in got.body for mark in MARKS), target
        if target == "/":
            assert {each["name"] for each in json.loads(listed.body)["entries"]} - shown == set()
            with zipfile.ZipFile(BytesIO(packed.body)) as opened:
                names = {each.split("/")[1] for each in opened.namelist()}
            assert names - shown == set()


def unplant(folder: Path) -> None:
    """Remove what was planted: a store that has a second name is refused."""
    for each in folder.iterdir():
        if each.is_file():
            each.unlink()


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("place", [".tailrace", "kept"])
async def test_a_store_that_is_open_here_is_not_served(
    tmp_path: Path, place: str, hidden: bool
) -> None:
    store = tmp_path / place / "streams.db"
    async with here(store):
        ways = plant(tmp_path, store)
        app = Files(tmp_path, hidden=hidden, follow_links=("data", "again"))
        await check(app, ways, {"innocent.txt", "kept", "data", "again"})
        await check(Files(tmp_path, hidden=hidden), ways, {"innocent.txt", "kept", "data", "again"})
    unplant(tmp_path)
    assert verify(store) == []


@pytest.mark.parametrize("place", [".tailrace", "kept"])
async def test_a_store_that_another_process_has_open_is_not_served(
    tmp_path: Path, place: str
) -> None:
    store = tmp_path / place / "streams.db"
    with elsewhere(store):
        # What has neither a stream's bytes nor a name of its own is told by its place only.
        blank = ("hard-shm.bin", "hard-lock.bin")
        ways = [way for way in plant(tmp_path, store) if way not in blank]
        shown = {"innocent.txt", "kept", "data", "again", *blank}
        await check(Files(tmp_path, hidden=True), ways, shown)


async def test_a_copy_of_a_store_is_not_served_and_another_database_is(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / ".tailrace" / "streams.db") as store:
        await store.create("a", NewStream(data=SECRET))
    shutil.copy(tmp_path / ".tailrace" / "streams.db", tmp_path / "backup.db")
    with sqlite3.connect(tmp_path / "mine.db") as mine:
        mine.execute("CREATE TABLE t (x)")
    mine.close()
    (tmp_path / "notes-lock").write_bytes(b"no store's")
    app = Files(tmp_path)
    assert (await ask(app, "/backup.db")).status == 404
    assert (await ask(app, "/mine.db")).status == 200
    assert (await ask(app, "/notes-lock")).status == 200
    listed = json.loads((await ask(app, "/", accept="application/json")).body)["entries"]
    assert [each["name"] for each in listed] == ["mine.db", "notes-lock"]


async def test_a_damaged_store_is_recognised_only_below_a_name_with_a_dot(tmp_path: Path) -> None:
    for place in (".kept", "kept"):
        path = tmp_path / place / "streams.db"
        async with SQLiteStore(path) as store:
            await store.create("a", NewStream(data=SECRET))
        with path.open("r+b") as file:
            file.write(b"damaged")
    app = Files(tmp_path)
    assert (await ask(app, "/.kept/streams.db")).status == 404
    assert (await ask(app, "/kept/streams.db")).status == 200  # so `tailrace serve` refuses it


async def test_the_directory_of_a_store_is_not_entered_by_another_spelling(tmp_path: Path) -> None:
    (tmp_path / ".TailRace").mkdir()  # on a disk that ignores case it is the same place
    (tmp_path / ".TailRace" / "notes").write_bytes(b"x")
    (tmp_path / "link").symlink_to(".TailRace")
    app = Files(tmp_path, hidden=True)
    for target in ("/.TailRace/", "/.TailRace/notes", "/link/", "/link/notes"):
        assert (await ask(app, target)).status == 404
    listed = json.loads((await ask(app, "/", accept="application/json")).body)["entries"]
    assert listed == []


async def test_a_store_in_use_keeps_its_locks_while_its_name_is_asked_for(tmp_path: Path) -> None:
    """To open a file that SQLite has open, and to close it again, drops SQLite's locks on it."""
    path = tmp_path / "streams.db"
    async with here(path):
        before = locks_of(path)
        assert before
        for target in ("/streams.db", "/streams.db-wal", "/streams.db-lock", "/", "/?zip"):
            await ask(Files(tmp_path), target)
        assert locks_of(path) == before


def locks_of(path: Path) -> list[str]:
    """The POSIX locks on a file, as the kernel lists them."""
    inode = f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    # Without its number, which is its place among the locks of the whole machine.
    return [line.partition(": ")[2] for line in lines if inode in f"{line} "]


# What a browser is told of a file ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.xhtml", "a.txt", "a.js", "a.bin"])
async def test_a_file_is_a_page_of_the_origin_only_where_it_is_meant_to_be(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"<script>1</script>")
    plain, kept = Files(tmp_path), Files(tmp_path, sandbox=True, resource_policy="cross-origin")
    for method in ("GET", "HEAD"):
        headers = (await ask(plain, f"/{name}", method)).headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" not in headers
        for more in ({}, {"range": "bytes=0-1"}):
            headers = (await ask(kept, f"/{name}", method, **more)).headers
            assert headers["content-security-policy"] == "sandbox"
            assert headers["cross-origin-resource-policy"] == "cross-origin"


async def test_a_listing_and_a_zip_say_so_too_and_a_pdf_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-")
    app = Files(tmp_path, sandbox=True)
    for target in ("/", "/?zip", "/a.pdf"):
        headers = (await ask(app, target)).headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers.get("content-security-policy") != "sandbox"
