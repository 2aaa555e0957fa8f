"""The streams of `tailrace serve`: where they are kept, who may use them, how they end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running_serve import Running, running_serve
from tests.cli.streaming import (
    HOST,
    append,
    connect,
    create,
    entry_of,
    problem_of,
    ready,
    send,
    until_said,
)
from tests.cli.test_demo import is_one_line, run
from tests.cli.test_serve import as_it_was  # noqa: F401 - used by pytest
from tests.rawhttp import Connection, request

LIVE = "?offset=-1&live=sse"
TAIL = "?offset=now&live=long-poll"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served")
    (directory / "hello.txt").write_text("hello\n")
    return directory


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Running]:
    with running_serve(directory, "--long-poll-timeout", "0.3") as running:
        yield running


# Where they are -----------------------------------------------------------------------------------


def test_streams_are_served(server: Running) -> None:
    created = create(server, "first", b"one,")
    assert created.status == 201
    assert created.headers["location"] == f"http://{HOST}:{server.port}/v1/stream/first"
    assert append(server, "first", b"two").status == 204
    assert send(server, "GET", "first").body == b"one,two"
    assert ready(server) == (200, {"status": "ready"})


def test_their_file_is_in_the_directory_and_is_not_shown(server: Running, directory: Path) -> None:
    create(server, "hidden", b"secret")
    assert (directory / ".tailrace" / "streams.db").read_bytes().startswith(b"SQLite format 3")
    for path in (".tailrace/", ".tailrace", ".tailrace/streams.db", "%2etailrace/streams.db"):
        assert request(HOST, server.port, f"/files/{path}").status == 404
    shown = request(HOST, server.port, "/files/", headers={"accept": "application/json"}).body
    assert b"hello.txt" in shown
    assert b"tailrace" not in shown


def test_their_file_is_its_owners_alone(server: Running, directory: Path) -> None:
    create(server, "private")
    folder = directory / ".tailrace"
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_index_tells_where_they_are(server: Running) -> None:
    assert b"v1/stream/" in request(HOST, server.port, "/").body


def test_the_start_tells_where_they_are(server: Running) -> None:
    assert f" on http://{HOST}:{server.port}/v1/stream/ " in server.log


def test_a_long_poll_waits_as_long_as_it_is_told_to(server: Running) -> None:
    create(server, "silent")
    began = time.monotonic()
    reply = send(server, "GET", "silent" + TAIL)
    assert reply.status == 204
    assert 0.2 < time.monotonic() - began < 10


def test_they_are_below_the_path_of_a_proxy(tmp_path: Path) -> None:
    with running_serve(tmp_path, "--root-path", "/down/loads/") as server:
        created = create(server, "far/away", b"here")
        place = f"http://{HOST}:{server.port}/down/loads/v1/stream/far/away"
        assert created.headers["location"] == place
        assert send(server, "GET", "far/away").body == b"here"
        fork = create(server, "fork", stream_forked_from="/down/loads/v1/stream/far/away")
        assert fork.status == 201
        assert send(server, "GET", "fork").body == b"here"


def test_they_survive_a_restart(tmp_path: Path) -> None:
    store = f"--store=sqlite:///{tmp_path}/elsewhere/streams.db"
    folder = tmp_path / "served"
    folder.mkdir()
    with running_serve(folder, store) as server:
        create(server, "kept", b"one,")
        first = append(
            server, "kept", b"two,", producer_id="p", producer_epoch="0", producer_seq="0"
        )
        assert first.status == 200
    assert not (folder / ".tailrace").exists()
    with running_serve(folder, store) as server:
        assert send(server, "GET", "kept").body == b"one,two,"
        again = append(
            server, "kept", b"two,", producer_id="p", producer_epoch="0", producer_seq="0"
        )
        assert again.status == 204  # a duplicate
        assert again.headers["stream-next-offset"] == first.headers["stream-next-offset"]


def test_in_memory_they_are_gone_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with running_serve(tmp_path, "--store", "memory://") as server:
            assert send(server, "GET", "short").status == 404
            assert create(server, "short", b"lived").status == 201
    assert not list(tmp_path.iterdir())


# Who may use them ---------------------------------------------------------------------------------


def test_a_name_that_is_not_ours_is_misdirected(server: Running) -> None:
    """A page of evil.example whose DNS says 127.0.0.1 would be of one origin with us."""
    create(server, "secret", b"secret")
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        reply = send(server, method, "secret", host=f"evil.example:{server.port}")
        assert reply.status == 421
        assert b"secret" not in reply.body
    assert problem_of(send(server, "GET", "secret", host="evil.example"))["code"] == (
        "host_not_allowed"
    )
    for path in ("/", "/files/hello.txt"):
        assert request(HOST, server.port, path, headers={"host": "evil.example"}).status == 421


def test_a_health_check_may_call_by_any_name_or_none(server: Running) -> None:
    for path in ("/healthz", "/readyz"):
        for host in ("10.4.0.7:8000", "pod-7.local", ""):
            reply = request(HOST, server.port, path, headers={"host": host})
            assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
        for head, status in (
            (f"GET {path} HTTP/1.0\r\n", 200),  # HAProxy's own check
            (f"GET {path} HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", 400),
        ):
            with Connection(HOST, server.port) as connection:
                connection.sock.sendall(head.encode() + b"\r\n")
                assert connection.read_head().status == status


def test_a_page_of_another_site_may_not_write(server: Running) -> None:
    create(server, "guarded", b"ours")
    for method in ("POST", "PUT", "DELETE"):
        reply = send(
            server, method, "guarded", b"theirs", content_type="text/plain", origin="http://evil"
        )
        assert reply.status == 403
        assert problem_of(reply)["code"] == "origin_not_allowed"
    hook = b'{"type":"webhook","pattern":"**","webhook":{"url":"https://evil.example/"}}'
    reply = send(
        server,
        "PUT",
        "__ds/subscriptions/evil",
        hook,
        content_type="application/json",
        origin="http://evil",
    )
    assert reply.status == 403
    assert send(server, "GET", "guarded").body == b"ours"


def test_a_page_of_another_site_may_not_read(server: Running) -> None:
    assert create(server, "private-too", b"ours").status == 201
    reply = send(server, "GET", "private-too", origin="http://evil")
    assert "access-control-allow-origin" not in reply.headers
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    asked = send(server, "OPTIONS", "x", origin="http://evil", access_control_request_method="PUT")
    assert "access-control-allow-methods" not in asked.headers


def test_a_refused_body_that_goes_on_is_not_read_for_ever(server: Running) -> None:
    with Connection(HOST, server.port) as connection:
        fields = {"origin": "http://evil", "transfer-encoding": "chunked"}
        connection.send("/v1/stream/x", method="POST", headers=fields)
        reply = connection.read_reply()
        assert reply.status == 403
        assert reply.headers["connection"] == "close"
        assert connection.read_some() == b""


def test_the_origin_that_is_allowed_may_write_and_read(tmp_path: Path) -> None:
    origin = "https://app.example"
    options = ("--cors-origin", origin, "--cors-origin", "https://b.example", "--store=memory://")
    with running_serve(tmp_path, *options) as server:
        reply = create(server, "shared", b"x", origin=origin)
        assert reply.status == 201
        assert reply.headers["access-control-allow-origin"] == origin
        asked = send(server, "OPTIONS", "shared", origin=origin)
        assert "PUT" in asked.headers["access-control-allow-methods"]
        other = append(server, "shared", b"y", origin="https://c.example")
        assert other.status == 403
        assert send(server, "GET", "shared").body == b"x"


def test_names_that_are_allowed_are_served_and_no_others(tmp_path: Path) -> None:
    with running_serve(tmp_path, "--allowed-host", "Tail.example", "--store=memory://") as server:
        assert send(server, "PUT", "a", host="tail.example:443").status == 201
        assert send(server, "GET", "a", host="localhost").status == 421


def test_the_loopback_address_that_was_asked_for_is_a_name(tmp_path: Path) -> None:
    with running_serve(tmp_path, "--host", "127.0.0.2", "--store=memory://") as server:
        with Connection("127.0.0.2", server.port) as connection:
            connection.send("/healthz")
            assert connection.read_reply().status == 200


# The log ------------------------------------------------------------------------------------------


def test_an_append_is_logged(server: Running) -> None:
    create(server, "logged")
    assert entry_of(server, "logged")["status"] == 201
    append(server, "logged", b"12345")
    entry = entry_of(server, "logged")
    assert (entry["method"], entry["status"], entry["bytes"]) == ("POST", 204, 0)
    send(server, "GET", "logged")
    entry = entry_of(server, "logged")
    assert (entry["method"], entry["bytes"], entry["outcome"]) == ("GET", 5, "complete")


def test_what_was_sent_to_a_reader_at_the_tail_is_counted(server: Running) -> None:
    create(server, "followed")
    with connect(server, "followed" + LIVE) as connection:
        connection.read_head()
        said = until_said(connection, b"upToDate")
        for _ in range(50):
            append(server, "followed", b"x" * 100)
            said += until_said(connection, b"\ndata:" + b"x" * 100)
        assert said.count(b"event: data") == 50
    entry: dict[str, Any] = next(
        each for each in _entries(server, "followed") if each["method"] == "GET"
    )
    assert entry["outcome"] == "left"
    assert entry["status"] == 200
    # With the framing of what was written past the application, and without that of the rest.
    assert 0.8 * len(said) < entry["bytes"] <= len(said)


def test_a_reader_that_gets_to_the_end_is_complete(server: Running) -> None:
    create(server, "ended", b"all", stream_closed="true")
    with connect(server, "ended" + LIVE) as connection:
        reply = connection.read_reply()
    assert reply.complete
    entry = next(each for each in _entries(server, "ended") if each["method"] == "GET")
    assert entry["outcome"] == "complete"
    assert entry["bytes"] == len(reply.body)


def test_a_path_cannot_write_lines_into_the_log(server: Running) -> None:
    path = 'log%0a{"status":200}%1b[31m%e2%80%a8'
    assert send(server, "GET", path).status == 400
    assert entry_of(server, path)["status"] == 400  # as it came, in one line
    assert "\x1b" not in server.log


def _entries(server: Running, path: str) -> Iterator[dict[str, object]]:
    while True:
        yield entry_of(server, path)


# The end ------------------------------------------------------------------------------------------


def test_at_the_end_readers_are_told_and_nobody_is_waited_for(tmp_path: Path) -> None:
    with running_serve(tmp_path, "--drain-timeout", "10") as server, ExitStack() as stack:
        create(server, "s", b"hello")
        reading = stack.enter_context(connect(server, "s" + LIVE))
        reading.read_head()
        until_said(reading, b"upToDate")
        polling = [stack.enter_context(connect(server, "s" + TAIL)) for _ in range(5)]
        # The server has taken these when it answers the one that came after them.
        assert ready(server)[0] == 200
        began = time.monotonic()
        server.process.terminate()
        farewell = b""
        while more := reading.read_some():
            farewell += more
        assert b"retry:" in farewell
        assert farewell.endswith(b"0\r\n\r\n")
        for each in polling:
            reply = each.read_reply()
            assert reply.status == 204
            assert "stream-next-offset" in reply.headers
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 5
        assert "Traceback" not in server.log
        entry = next(each for each in _entries(server, "s") if each["method"] == "GET")
        assert entry["outcome"] == "complete"


# The file -----------------------------------------------------------------------------------------


def test_a_backup_that_is_made_while_it_serves_is_whole(tmp_path: Path) -> None:
    folder, copy = tmp_path / "served", tmp_path / "copy.db"
    folder.mkdir()
    with running_serve(folder) as server:
        create(server, "a", b"one,")
        append(server, "a", b"two,")
        # What `.backup` of the sqlite3 program calls.
        source = sqlite3.connect(folder / ".tailrace" / "streams.db")
        target = sqlite3.connect(copy)
        source.backup(target)
        source.close()
        target.close()
        append(server, "a", b"three")
    with running_serve(folder, "--store", f"sqlite:///{copy}") as server:
        assert send(server, "GET", "a").body == b"one,two,"
        assert append(server, "a", b"else").status == 204


# What it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--store", "postgres://x"], "'postgres://x'"),
        (["--store", "memory://x"], "'memory://x'"),
        (["--store", "sqlite://"], "sqlite:///PATH"),
        (["--store", "sqlite:///"], "sqlite:///PATH"),
        (["--store", "streams.db"], "'streams.db'"),
        (["--store", "memory://", "--workers", "2"], "--workers 1"),
        (["--cors-origin", "app.example"], "'app.example'"),
        (["--cors-origin", "*", "--cors-origin", "https://a.example"], "'*'"),
        (["--cors-origin", "https://a.example/path"], "/path"),
        (["--allowed-host", "https://a.example"], "'https://a.example'"),
        (["--allowed-host", "a.example:80"], "'a.example:80'"),
        (["--allowed-host", ""], "''"),
        (["--allowed-host", "a b"], "'a b'"),
        (["--public-url", "example.org"], "'example.org'"),
        (["--long-poll-timeout", "0"], "--long-poll-timeout"),
        (["--long-poll-timeout", "nan"], "nan is not a number of seconds"),
    ],
)
def test_a_wrong_use_is_refused_in_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], named: str
) -> None:
    assert run("serve", str(tmp_path), *arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert is_one_line(written.err)
    assert named in written.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["streams.db", "a/b/streams.db", "a/../streams.db", "link"])
def test_a_file_that_would_be_served_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / ".hidden").symlink_to("shown")
    path = ".hidden/streams.db" if name == "link" else name
    assert run("serve", str(tmp_path), "--store", f"sqlite:///{tmp_path / path}") == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert "/files/ cannot recognise a store that is damaged" in error


def test_a_file_below_a_name_with_a_dot_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / ".kept" / "streams.db"
    with running_serve(tmp_path, "--store", f"sqlite:///{path}") as server:
        create(server, "a", b"x")
        assert request(HOST, server.port, "/files/.kept/streams.db").status == 404
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
