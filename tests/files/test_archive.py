"""A directory as a ZIP."""

from __future__ import annotations

import io
import logging
import os
import stat
import tracemalloc
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from tailrace import Files
from tailrace.errors import ArchiveTooLarge
from tailrace.files.archive import Archive
from tailrace.files.beneath import Links, Tree
from tailrace.semantics import MediaTypes
from tailrace.testing import Client
from tests.files.asking import ask
from tests.files.tree import HIDDEN, SECRET
from tests.tools.tool import tool

pytestmark = pytest.mark.anyio


def archive_of(root: Path, **options: Any) -> Archive:
    settings: dict[str, Any] = {
        "tree": Tree(str(root), Links(True, frozenset())),
        "names": (),
        "label": "data",
        "hidden": False,
        "media_types": MediaTypes({}),
    }
    return Archive(**{**settings, **options})


async def archived(app: Any, target: str = "/?zip") -> zipfile.ZipFile:
    reply = await ask(app, target)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/zip"
    opened = zipfile.ZipFile(io.BytesIO(reply.body))
    assert opened.testzip() is None
    return opened


async def test_a_directory_is_given_whole(tmp_path: Path) -> None:
    contents = {"a.txt": b"a" * 1000, "b/c.bin": os.urandom(300_000), "b/d/e": b"", "f/": None}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(content)
    with await archived(Files(tmp_path)) as opened:
        found = {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}
        assert found == {
            f"files/{name}": content for name, content in contents.items() if content is not None
        }
        assert {"files/b/", "files/b/d/", "files/f/"} <= set(opened.namelist())


async def test_the_archive_bears_the_directorys_name(root: Path) -> None:
    reply = await ask(Files(root), "/docs/deep/?zip")
    assert reply.headers["content-disposition"] == 'attachment; filename="deep.zip"'
    with await archived(Files(root), "/docs/deep/?zip") as opened:
        assert opened.namelist() == ["deep/end.txt"]


async def test_times_and_modes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o750)
    when = datetime(2020, 5, 17, 12, 30, 42)
    os.utime(tmp_path / "run.sh", (when.timestamp(), when.timestamp()))
    with await archived(Files(tmp_path)) as opened:
        info = opened.getinfo("files/run.sh")
        assert info.date_time == (2020, 5, 17, 12, 30, 42)
        assert stat.S_IMODE(info.external_attr >> 16) == 0o755


@pytest.mark.parametrize("when", [-1e9, 0, 4e9, 1e11])
async def test_a_time_that_a_zip_cannot_hold_is_brought_into_its_range(
    tmp_path: Path, when: float
) -> None:
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", (when, when))
    with await archived(Files(tmp_path)) as opened:
        assert 1980 <= opened.infolist()[0].date_time[0] <= 2038


async def test_what_is_not_served_is_not_in_it(root: Path) -> None:
    with await archived(Files(root)) as opened:
        names = set(opened.namelist())
        contents = b"".join(opened.read(name) for name in names)
    assert SECRET not in contents
    assert HIDDEN not in contents
    assert {"files/in", "files/hello.txt", "files/docs/deep/end.txt"} <= names
    assert not any("/." in name or "/out" in name or "fifo" in name for name in names)


async def test_a_link_to_a_directory_is_not_gone_through(root: Path) -> None:
    with await archived(Files(root)) as opened:
        assert not any("in-docs" in name for name in opened.namelist())
    with await archived(Files(root), "/in-docs/?zip") as opened:
        assert "in-docs/guide.md" in opened.namelist()


async def test_names_lead_nowhere_when_they_are_unpacked(tmp_path: Path) -> None:
    for name in ("x\\..\\..\\evil", "C:evil", "bad\udcff", "日本語"):
        (tmp_path / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    with await archived(Files(tmp_path)) as opened:
        assert set(opened.namelist()) == {
            "files/x%5C..%5C..%5Cevil",
            "files/C%3Aevil",
            "files/bad%FF",
            "files/日本語",
        }


@pytest.mark.slow  # it needs unzip
async def test_unzip_reads_it(root: Path, tmp_path: Path) -> None:
    reply = await ask(Files(root), "/?zip")
    (tmp_path / "made.zip").write_bytes(reply.body)
    run = await anyio.run_process([tool("unzip"), "-t", str(tmp_path / "made.zip")], check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert b"No errors detected" in run.stdout


@pytest.mark.slow  # it needs unzip
async def test_a_member_of_gigabytes_is_written_in_the_longer_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_bytes(b"again and " * 1000)
    (tmp_path / "b.txt").write_bytes(b"again and")
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 1000)
    made = b"".join(archive_of(tmp_path).chunks())
    monkeypatch.undo()
    (tmp_path / "made.zip").write_bytes(made)
    run = await anyio.run_process([tool("unzip"), "-t", str(tmp_path / "made.zip")], check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    with zipfile.ZipFile(io.BytesIO(made)) as opened:
        assert [info.extract_version for info in opened.infolist()] == [45, 20]
        assert opened.testzip() is None


class FailingTypes(MediaTypes):
    """A table that fails at the second file, as a disk may."""

    def of(self, name: str) -> str:
        if name == "b.bin":
            raise OSError("the disk has failed")
        return super().of(name)


async def test_an_archive_that_fails_is_not_a_whole_one(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin", "c.bin"):
        (tmp_path / name).write_bytes(os.urandom(100_000))
    archive = archive_of(tmp_path, media_types=FailingTypes({}))
    made: list[bytes] = []
    with pytest.raises(OSError, match="the disk has failed"):
        made.extend(archive.chunks())
    assert made
    assert not zipfile.is_zipfile(io.BytesIO(b"".join(made)))


@pytest.mark.linux
async def test_an_archive_that_nobody_takes_to_its_end_closes_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(os.urandom(1_000_000))
    before = set(os.listdir("/proc/self/fd"))
    chunks = archive_of(tmp_path).chunks()
    next(iter(chunks))
    assert set(os.listdir("/proc/self/fd")) != before
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    assert set(os.listdir("/proc/self/fd")) == before


async def test_text_is_compressed_and_what_is_compressed_already_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"again and " * 10_000)
    (tmp_path / "a.jpg").write_bytes(b"again and " * 10_000)
    with await archived(Files(tmp_path)) as opened:
        assert opened.getinfo("files/a.txt").compress_size < 1000
        assert opened.getinfo("files/a.jpg").compress_size > 100_000


async def test_names_without_a_byte_are_not_held_until_the_end(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number:0200}").touch()
        (tmp_path / f"{number:0200}.d").mkdir()
    *before, directory = archive_of(tmp_path).chunks()
    assert len(before) == 3
    assert max(map(len, before)) < 100_000
    assert zipfile.ZipFile(io.BytesIO(b"".join([*before, directory]))).testzip() is None


async def test_it_is_made_while_it_is_sent(tmp_path: Path) -> None:
    """The first bytes are there though the whole would take far more than is held."""
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(1 << 30)
    async with Client(Files(tmp_path)) as client:
        async with client.open("GET", "/?zip", leave_at=100_000) as exchange:
            tracemalloc.start()
            await exchange.read_all()
            await exchange.finished()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peak < 8_000_000


async def test_a_file_that_grows_is_taken_as_long_as_it_was(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 200_000)
    chunks = archive_of(tmp_path).chunks()
    made = [next(iter(chunks))]
    with log.open("ab") as file:
        file.write(b"y" * 100_000)
    made.extend(chunks)
    with zipfile.ZipFile(io.BytesIO(b"".join(made))) as opened:
        assert opened.read("data/a.log") == b"x" * 200_000


async def test_a_file_that_goes_away_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.bin").write_bytes(os.urandom(200_000))
    (tmp_path / "b\u2028x.txt").write_bytes(b"b")
    chunks = iter(archive_of(tmp_path).chunks())
    made = [next(chunks)]
    (tmp_path / "b\u2028x.txt").unlink()
    with caplog.at_level(logging.WARNING, "tailrace"):
        made.extend(chunks)
    with zipfile.ZipFile(io.BytesIO(b"".join(made))) as opened:
        assert opened.namelist() == ["data/a.bin"]
    (record,) = caplog.records
    assert "b\\u2028x.txt" in record.getMessage()
    assert record.getMessage().isascii()


async def test_too_many_files_are_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.files.archive.MAX_ARCHIVE_ENTRIES", 10)
    for number in range(9):
        (tmp_path / str(number)).touch()
    (tmp_path / "below").mkdir()
    assert (await ask(Files(tmp_path), "/?zip")).status == 200
    (tmp_path / "below" / "one").touch()
    reply = await ask(Files(tmp_path), "/?zip")
    assert (reply.status, reply.body) == (
        403,
        b"more than 10 files are too many for one ZIP: download the directories in it",
    )
    with pytest.raises(ArchiveTooLarge):
        archive_of(tmp_path).check()


async def test_links_that_go_round_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "round").symlink_to("..")
    (tmp_path / "a" / "file").write_bytes(b"x")
    with await archived(Files(tmp_path)) as opened:
        assert opened.namelist() == ["files/a/", "files/a/file"]


async def test_an_archive_can_be_turned_off(root: Path) -> None:
    reply = await ask(Files(root, zip=False), "/?zip")
    assert reply.headers["content-type"].startswith("text/html")
    assert b"?zip" not in reply.body


async def test_a_directory_with_an_index_is_its_index(root: Path) -> None:
    assert (await ask(Files(root), "/site/?zip")).body == b"<p>index</p>"


async def test_head_of_an_archive_makes_none(root: Path) -> None:
    reply = await ask(Files(root), "/?zip", "HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == "application/zip"
