"""Files under each real server: the bytes are right, and a cut body never looks complete."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rawhttp import Connection, request
from tests.servers import SERVERS, RunningServer, ServerName, serve
from tests.sockets.live_server import wait_until

pytestmark = pytest.mark.slow

CONTENT = bytes(at % 251 for at in range(3_000_000))
MANY = 64 * 1024 * 1024
"""The size of a file that does not fit into the buffers of a socket."""


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "film.bin").write_bytes(CONTENT)
    (folder / "small.txt").write_bytes(b"small\n" * 500)
    with serve("tests.apps.file_responses:app", request.param, env={"FOLDER": str(folder)}) as one:
        yield one


def ask(server: RunningServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = request(server.host, server.port, path, headers=names)
    assert reply.complete
    body = reply.body
    if reply.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return reply.status, reply.headers, body


@pytest.mark.parametrize("prefix", ["", "/gzip", "/base"])
@pytest.mark.parametrize("name", ["/film", "/generated"])
def test_every_server_sends_the_same_bytes(server: RunningServer, prefix: str, name: str) -> None:
    path = prefix + name
    status, _, body = ask(server, path, accept_encoding="gzip")
    assert (status, body == CONTENT) == (200, True)
    status, headers, body = ask(server, path, range="bytes=1000-2500000")
    assert (status, body == CONTENT[1000:2_500_001]) == (206, True)
    assert headers["content-range"] == "bytes 1000-2500000/3000000"
    status, headers, body = ask(server, path, range="bytes=-5,0-99,500000-1999999")
    assert (status, len(body)) == (206, int(headers["content-length"]))
    for part in (CONTENT[-5:], CONTENT[:100], CONTENT[500_000:2_000_000]):
        assert b"\r\n\r\n" + part + b"\r\n--" in body
    assert ask(server, path, range="bytes=3000000-")[0] == 416


@pytest.mark.parametrize("prefix", ["/shouting", "/shouting-base"])
def test_a_middleware_that_changes_bodies_changes_a_file_under_every_server(
    server: RunningServer, prefix: str
) -> None:
    assert ask(server, f"{prefix}/small")[2] == b"SMALL\n" * 500


def test_every_server_answers_conditions_and_head(server: RunningServer) -> None:
    _, headers, body = ask(server, "/small")
    assert body == b"small\n" * 500
    etag = headers["etag"]
    assert ask(server, "/small", if_none_match=etag)[0] == 304
    assert ask(server, "/small", if_match='"other"')[0] == 412
    head = request(server.host, server.port, "/film", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "3000000")


def test_no_descriptor_is_left_after_clients_that_leave(server: RunningServer) -> None:
    for _ in range(20):
        with Connection(server.host, server.port, receive_buffer=4096) as connection:
            connection.send("/film")
            connection.read_head()
            connection.read_some()
            connection.reset()
    wait_until(
        lambda: ask(server, "/descriptors")[2] == b"0",
        lambda: f"{ask(server, '/descriptors')[2].decode()} descriptors are open",
    )


def truncate(path: Path) -> None:
    os.truncate(path, 1_000_000)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\1" * MANY)


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"\1" * MANY)
    path.with_name("new").replace(path)


# Not granian: it opens the path itself, and does not notice changes of the file.
THAT_READ: list[ServerName] = ["uvicorn", "uvicorn-tailrace", "uvloop-tailrace", "hypercorn"]


@pytest.mark.parametrize("name", THAT_READ)
@pytest.mark.parametrize("change", [truncate, overwrite, delete, replace])
def test_a_file_that_is_changed_on_its_way_is_never_complete(
    tmp_path: Path, name: ServerName, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "film.bin"
    with path.open("wb") as film:
        film.truncate(MANY)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    with serve("tests.apps.file_responses:app", name, env={"FOLDER": str(tmp_path)}) as server:
        with Connection(server.host, server.port, receive_buffer=65536) as connection:
            connection.send("/film")
            got = 0
            while got < 2_000_000:
                got += len(connection.read_some())
            change(path)
            reply_bytes = drain(connection)
            assert got + reply_bytes < MANY
        wait_until(lambda: failures(server.log) > 0, lambda: server.log)
        log = server.log
    assert failures(log) == 1, log


def failures(log: str) -> int:
    return log.count("FileChanged: ") + log.count("TransferFailed: ")


def drain(connection: Connection) -> int:
    total = 0
    while chunk := connection.read_some():
        total += len(chunk)
    return total
