"""A file that changes, and a disk that fails, while curl downloads.

A disk that fails is made by strace, which gives a server's own system calls EIO from the so-manieth
on, for one file. That needs no root, no device mapper and no file system of its own; the server is
the real one, and so is its `sendfile`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.apps.served import FAILS_AT
from tests.cli.running_demo import TAILRACE
from tests.cli.running_serve import Running, running_serve
from tests.rawhttp import request
from tests.tools.conftest import LARGE_BYTES
from tests.tools.tool import DEADLINE, running, tool, until

pytestmark = pytest.mark.slow

CURL_CUT = {18, 56}
"""curl's codes for a body that ends early, and for a connection that was reset."""

SHORT_BYTES = LARGE_BYTES // 3
"""Of a file after it was truncated; within a page."""


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that changes; each test writes it anew."""
    return tmp_path_factory.mktemp("changing") / "large"


@pytest.fixture(scope="module")
def server(changing: Path) -> Iterator[Running]:
    with running_serve(changing.parent) as running:
        yield running


def truncate(path: Path) -> None:
    os.truncate(path, SHORT_BYTES)


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"n" * LARGE_BYTES)
    other.replace(path)


@pytest.mark.parametrize("ranged", [False, True], ids=["whole", "range"])
@pytest.mark.parametrize("change", [replace, truncate, delete])
def test_a_file_that_changes_under_way_is_cut_and_never_mixed(
    server: Running,
    changing: Path,
    tmp_path: Path,
    large_content: bytes,
    change: Callable[[Path], None],
    ranged: bool,
) -> None:
    changing.write_bytes(large_content)
    part = tmp_path / "part"
    told = len(server.log)
    start = 1_000_000 if ranged else 0
    wanted = ("-r", f"{start}-") if ranged else ()
    limit = ("--limit-rate", "20M", "-o", part)
    url = f"http://127.0.0.1:{server.port}/files/large"
    with running("curl", "-sS", *limit, *wanted, url) as curl:
        until(lambda: part.exists() and part.stat().st_size, lambda size: size > 1_000_000)
        change(changing)
        said, _ = curl.communicate(timeout=DEADLINE)
    assert curl.returncode in CURL_CUT, said
    got = part.read_bytes()
    assert 1_000_000 < len(got) < LARGE_BYTES - start
    was = large_content[start : start + len(got)]
    if change is truncate:
        # The kernel sends pages of the file, not copies. Of the one that a cut goes through it
        # sets the rest to zero, also where it waits in a socket.
        kept = SHORT_BYTES - start
        zeros = len(got[kept:]) - len(got[kept:].lstrip(b"\0"))
        was = was[:kept] + bytes(zeros) + was[kept + zeros :]
    assert got == was
    is_told_once(server, "tailrace.errors.", told)

    after = request("127.0.0.1", server.port, "/files/large")
    assert after.complete
    if change is delete:
        assert after.status == 404
    else:
        assert after.body == changing.read_bytes()
    assert server.entry()["status"] == after.status


def is_told_once(server: Running, error: str, told: int = 0) -> None:
    """The access log says that it failed, and the log why, once.

    Args:
        error: The last line says this.
        told: How much of the log is older.
    """
    assert server.entry()["outcome"] == "failed"
    log = until(lambda: server.log[told:], lambda log: error in log)
    assert log.count("ERROR") == 1, log
    assert error in log.rstrip().splitlines()[-1]


def on_failing_disk(directory: Path, trace: Path, first: int) -> AbstractContextManager[Running]:
    """A server whose reads of `large` fail from the so-manieth system call on."""
    reading = "sendfile,pread64,preadv,preadv2"
    # -D: the server stays the process that was started.
    strace = (tool("strace"), "-D", "-f", "-q", "-o", trace, "-P", directory / "large")
    fails = ("-e", f"trace={reading}", "-e", f"inject={reading}:error=EIO:when={first}+")
    return running_serve(directory, command=[*strace, *fails, TAILRACE])


@pytest.mark.parametrize("first", [5, 10])
def test_a_disk_that_fails_under_way_cuts_the_download(
    directory: Path, tmp_path: Path, large_content: bytes, first: int
) -> None:
    with on_failing_disk(directory, tmp_path / "trace", first) as server:
        url = f"http://127.0.0.1:{server.port}/files/large"
        with running("curl", "-sS", "-o", tmp_path / "part", url) as curl:
            said, _ = curl.communicate(timeout=DEADLINE)
        assert curl.returncode in CURL_CUT, said
        assert "EIO" in (tmp_path / "trace").read_text()
        got = (tmp_path / "part").read_bytes()
        assert len(got) < LARGE_BYTES
        assert large_content.startswith(got)
        is_told_once(server, "Input/output error")
        assert request("127.0.0.1", server.port, "/healthz").status == 200


def test_a_disk_that_fails_at_once_is_a_500(directory: Path, tmp_path: Path) -> None:
    with on_failing_disk(directory, tmp_path / "trace", 1) as server:
        assert request("127.0.0.1", server.port, "/files/large").status == 500
        entry = server.entry()
        assert (entry["status"], entry["outcome"]) == (500, "complete")
        log = until(lambda: server.log, lambda log: "Input/output error" in log)
        assert "Input/output error" in log
        assert log.count("ERROR") == 1


def test_a_range_source_that_fails_under_way_cuts_the_download(
    directory: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.apps.served"]
    with running_serve(directory, command=command) as server:
        url = f"http://127.0.0.1:{server.port}/failing"
        with running("curl", "-sS", "-o", tmp_path / "part", url) as curl:
            said, _ = curl.communicate(timeout=DEADLINE)
        assert curl.returncode in CURL_CUT, said
        assert (tmp_path / "part").read_bytes() == bytes(FAILS_AT)
        is_told_once(server, "[Errno 5] Input/output error")
