"""`tailrace serve` whose store cannot work: it says so, files are served, and it comes back."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from tailrace.store import NewStream, open_store
from tests.cli.running_demo import TAILRACE
from tests.cli.running_serve import Running, running_serve
from tests.cli.small_disk import (
    may_mount,
    serve_on_small_disk,
    serve_with_full_disk,
    serve_without_rights,
)
from tests.cli.streaming import HOST, append, create, problem_of, ready, send, until_ready
from tests.rawhttp import Connection, request
from tests.tools.tool import tool, until

pytestmark = pytest.mark.slow

QUIET = ("--log-level", "warning")
"""Nobody reads the access log here, and a server waits for who reads it."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "served"
    directory.mkdir()
    (directory / "hello.txt").write_text("hello\n")
    return directory


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a store is, which is not served."""
    place = tmp_path / "kept"
    place.mkdir()
    return place


def serves_files(server: Running) -> bool:
    healthy = request(HOST, server.port, "/healthz").status == 200
    return healthy and request(HOST, server.port, "/files/hello.txt").body == b"hello\n"


def refuses_streams(server: Running, code: str, status: int = 503) -> bool:
    """Each verb, at once, with a problem that names no file."""
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        began = time.monotonic()
        body = b"x" if method in ("PUT", "POST") else b""
        reply = send(server, method, "any", body, content_type="text/plain")
        assert time.monotonic() - began < 3, method
        assert reply.status == status, reply
        assert reply.headers["retry-after"] == "1"
        assert b"/" not in reply.body.replace(b"application/", b"")
        assert method == "HEAD" or problem_of(reply)["code"] == code
    subscriptions = send(server, "GET", "__ds/subscriptions/any")
    return subscriptions.status == status


# At the start -------------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE precious (thing)")
    database.close()


def text(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1000)


def nothing_but_noise(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)


def newer(path: Path) -> None:
    async def make() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await store.create("a", NewStream(data=b"of the future"))

    anyio.run(make)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize(
    ("make", "code", "reason"),
    [
        (foreign, "store_corrupt", "another application"),
        (text, "store_corrupt", "something else"),
        (nothing_but_noise, "store_corrupt", ""),
        (newer, "store_version", "version 99"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_not_touched(
    directory: Path, place: Path, make: Callable[[Path], None], code: str, reason: str
) -> None:
    path = place / "streams.db"
    make(path)
    before = path.read_bytes()
    with running_serve(directory, f"--store=sqlite:///{path}", *QUIET) as server:
        status, told = ready(server)
        assert (status, told["code"]) == (503, code)
        assert reason in told["detail"]
        assert str(place) not in told["detail"]
        assert refuses_streams(server, code)
        assert serves_files(server)
        assert str(path) in server.log  # there the operator finds which
        assert server.log.count("streams are not served") == 1
        assert "Traceback" not in server.log
    assert path.read_bytes() == before


def test_a_place_where_no_file_can_be_is_told(directory: Path, place: Path) -> None:
    (place / "file").touch()
    store = f"--store=sqlite:///{place}/file/streams.db"
    with running_serve(directory, store, *QUIET) as server:
        status, told = ready(server)
        assert (status, told["code"]) == (503, "store_unavailable")
        assert refuses_streams(server, "store_unavailable")


def test_a_store_that_comes_back_is_served_without_a_restart(directory: Path, place: Path) -> None:
    path = place / "streams.db"
    text(path)
    with running_serve(directory, f"--store=sqlite:///{path}", *QUIET) as server:
        assert ready(server)[0] == 503
        path.unlink()
        assert until_ready(server)[0] == 200
        assert create(server, "a", b"x").status == 201
        # Subscriptions, too, which begin when the store does.
        body = b'{"type":"pull-wake","pattern":"*","wake_stream":"wake"}'
        made = send(server, "PUT", "__ds/subscriptions/s", body, content_type="application/json")
        assert made.status == 201
        assert until(lambda: "streams are served again" in server.log, bool)


def test_it_ends_well_while_its_store_cannot_be_opened(directory: Path, place: Path) -> None:
    text(place / "streams.db")
    with running_serve(directory, f"--store=sqlite:///{place}/streams.db", *QUIET) as server:
        assert ready(server)[0] == 503
        server.process.terminate()
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.log


# A store that others hold -------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As by a process that stands still while it writes."""
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_file_that_another_process_holds_is_told_and_waited_for(
    directory: Path, place: Path
) -> None:
    path = place / "streams.db"
    with running_serve(directory, f"--store=sqlite:///{path}", *QUIET) as server:
        create(server, "a", b"before,")
        with locked(Path(f"{path}-lock")):
            began = time.monotonic()
            refused = append(server, "a", b"never")
            assert refused.status == 503
            assert problem_of(refused)["code"] == "store_locked"
            assert time.monotonic() - began < 9
            assert send(server, "GET", "a").body == b"before,"
            assert serves_files(server)
            status, told = ready(server)
            assert (status, told["code"]) == (503, "store_locked")
        assert until_ready(server)[0] == 200
        assert append(server, "a", b"after").status == 204
        assert send(server, "GET", "a").body == b"before,after"


def test_a_file_that_is_held_at_the_start_keeps_nobody_waiting(
    directory: Path, place: Path
) -> None:
    path = place / "streams.db"
    with running_serve(directory, f"--store=sqlite:///{path}", *QUIET) as server:
        create(server, "a")  # it is up, and has made its files
    with locked(Path(f"{path}-lock")):
        with running_serve(directory, f"--store=sqlite:///{path}", *QUIET) as server:
            assert ready(server)[1]["code"] == "store_locked"
            # Many at once, each at once: nobody tries the lock himself.
            assert all(refuses_streams(server, "store_locked") for _ in range(5))
            assert serves_files(server)


def test_a_program_that_keeps_a_transaction_open_is_told(directory: Path, place: Path) -> None:
    path = place / "streams.db"
    with running_serve(directory, f"--store=sqlite:///{path}", *QUIET) as server:
        create(server, "a", b"before,")
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        refused = append(server, "a", b"never")
        assert problem_of(refused)["code"] == "store_locked"
        assert send(server, "GET", "a").body == b"before,"
        database.execute("ROLLBACK")
        database.close()
        assert append(server, "a", b"after").status == 204
        assert ready(server)[0] == 200
        assert send(server, "GET", "a").body == b"before,after"


def test_a_file_that_another_process_holds_does_not_hold_the_end(
    directory: Path, place: Path
) -> None:
    path = place / "streams.db"
    with running_serve(directory, f"--store=sqlite:///{path}", *QUIET) as server:
        create(server, "a", b"before,")
        with locked(Path(f"{path}-lock")):
            with Connection(HOST, server.port) as connection:
                fields = {"content-type": "text/plain"}
                connection.send("/v1/stream/a", method="POST", headers=fields, body=b"x")
                server.process.terminate()
                assert server.process.wait(25) == 0


# The disk -----------------------------------------------------------------------------------------


def appended_until_full(server: Running) -> bytes:
    """Append until the disk is full: what was acknowledged, and is there."""
    acknowledged = b""
    for number in range(1000):
        part = b"%04d" % number * 512
        reply = append(server, "a", part)
        if reply.status != 204:
            break
        acknowledged += part
    assert acknowledged
    assert reply.status == 507
    assert problem_of(reply)["code"] == "store_full"
    assert reply.headers["retry-after"] == "1"
    assert send(server, "GET", "a").body == acknowledged
    assert serves_files(server)
    return acknowledged


def small_disk_loses_nothing(directory: Path, place: Path) -> None:
    with serve_on_small_disk(directory, place, *QUIET) as (server, disk):
        assert create(server, "a").status == 201
        assert append(server, "a", b"first").status == 204
        disk.fill()
        assert append(server, "a", b"x" * 100_000).status == 507
        assert create(server, "b", b"x" * 100_000).status == 507
        status, told = ready(server)
        assert (status, told["code"]) == (503, "store_full")
        disk.make_room()
        assert append(server, "a", b"again").status == 204
        assert ready(server)[0] == 200
        assert send(server, "GET", "a").body == b"first" + b"again"
        assert send(server, "GET", "b").status == 404


def test_a_full_disk_loses_nothing_and_comes_back(directory: Path, place: Path) -> None:
    with serve_with_full_disk(directory, place, 300, 340, *QUIET) as server:
        assert create(server, "a").status == 201
        acknowledged = appended_until_full(server)
        assert until(lambda: append(server, "a", b"again").status, lambda s: s == 204) == 204
        assert ready(server)[0] == 200
        assert send(server, "GET", "a").body == acknowledged + b"again"
    if may_mount():  # a disk that is really full fails in more places
        small_disk_loses_nothing(directory, place)


def test_a_disk_that_cannot_be_written_is_told_and_comes_back(directory: Path, place: Path) -> None:
    place.chmod(0o555)
    with serve_without_rights(directory, place, *QUIET) as server:
        status, told = ready(server)
        assert (status, told["code"]) == (503, "store_read_only")
        assert refuses_streams(server, "store_read_only")
        assert serves_files(server)
        place.chmod(0o755)
        assert until_ready(server)[0] == 200
        assert create(server, "a", b"x").status == 201


def test_a_disk_that_fails_to_sync_is_not_asked_again(directory: Path, place: Path) -> None:
    """What the system could not write it may have dropped: a second sync would report it saved."""
    store = f"--store=sqlite:///{place}/streams.db"
    once = [tool("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
    once += ["-e", "inject=fdatasync:error=EIO:when=40"]
    with running_serve(directory, store, *QUIET, command=[*once, TAILRACE]) as server:
        assert create(server, "a").status == 201
        acknowledged = b""
        for number in range(200):
            reply = append(server, "a", b"%d," % number)
            if reply.status != 204:
                break
            acknowledged += b"%d," % number
        assert reply.status == 503
        assert acknowledged
        # Only that one failed; it is not believed that the next ones do not.
        assert append(server, "a", b"never").status == 503
        status, told = ready(server)
        assert (status, told["code"]) == (503, "store_unavailable")
        assert "restart this process" in told["detail"]
        assert send(server, "GET", "a").body == acknowledged
        assert serves_files(server)
    with running_serve(directory, store, *QUIET) as server:
        assert ready(server)[0] == 200
        # The one that failed was not acknowledged; whether it is there was open.
        assert send(server, "GET", "a").body.startswith(acknowledged)


# A file that is damaged while it is in use --------------------------------------------------------


def test_a_damaged_file_is_told_and_what_is_whole_is_served(directory: Path, place: Path) -> None:
    path = place / "streams.db"
    store = f"--store=sqlite:///{path}"
    with running_serve(directory, store, *QUIET) as server:
        create(server, "small", b"whole")
        create(server, "large", b"L" * 2_000_000)
    data = bytearray(path.read_bytes())
    page = int.from_bytes(data[16:18])
    damaged = 0
    for at in range(page, len(data), page):
        if data[at + 8 : at + page] == b"L" * (page - 8):
            data[at : at + page] = b"\xff" * page
            damaged += 1
    assert damaged > 100
    path.write_bytes(data)
    with running_serve(directory, store, *QUIET) as server:
        assert send(server, "GET", "small").body == b"whole"
        assert append(server, "small", b", still").status == 204
        reply = send(server, "GET", "large")
        assert (reply.status, problem_of(reply)["code"]) == (503, "store_corrupt")
        assert str(place).encode() not in reply.body
        assert send(server, "GET", "small").body == b"whole, still"
        assert serves_files(server)
