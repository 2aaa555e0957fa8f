"""`http.response.pathsend` and `http.response.zerocopysend`, on real sockets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Site, target


def test_the_offers_are_in_the_scope(site: Site) -> None:
    assert site.ask("/extensions") == [
        *("http.response.pathsend", "http.response.zerocopysend"),
        *("tailrace.attach", "tailrace.connection"),
    ]


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 3_000_000])
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_path_is_sent_whole(
    site: Site, tmp_path: Path, content: bytes, size: int, framing: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    length: dict[str, Any] = {"length": size} if framing == "content-length" else {}
    reply = site.get("/path", file=path, **length)
    assert reply.complete
    assert reply.body == content[:size]


def test_head_sends_no_body(site: Site, file: Path) -> None:
    reply = site.get("/path", method="HEAD", file=file, length=3_000_000)
    assert (reply.body, reply.headers["content-length"]) == (b"", "3000000")


@pytest.mark.parametrize("how", [{}, {"descriptor": 1}])
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_stretches_and_ordinary_bodies_mix(
    site: Site, file: Path, content: bytes, framing: str, how: dict[str, Any]
) -> None:
    wanted = (
        content[100:200] + b"between" + content[1_000_000:2_500_000] + content[2_999_990:] + b"end"
    )
    length: dict[str, Any] = {"length": len(wanted)} if framing == "content-length" else {}
    parts = "100:100,=between,1000000:1500000,2999990:,=end"
    reply = site.get("/zero", file=file, parts=parts, **length, **how)
    assert reply.complete
    assert reply.body == wanted


@pytest.mark.parametrize("how", [{}, {"descriptor": 1}])
def test_without_an_offset_each_goes_on_where_the_file_stands(
    site: Site, file: Path, content: bytes, how: dict[str, Any]
) -> None:
    reply = site.get("/zero", file=file, seek=7, parts=":100000,:20,:", **how)
    assert reply.complete
    assert reply.body == content[7:]


def test_a_count_of_nothing_ends_the_response(site: Site, file: Path) -> None:
    reply = site.get("/zero", file=file, parts="5:0")
    assert (reply.body, reply.complete) == (b"", True)


@pytest.mark.parametrize("framing", [{}, {"length": 15}])
def test_a_pipe_is_read_as_it_fills(site: Site, framing: dict[str, Any]) -> None:
    reply = site.get("/pipe", words="first,second,last", **framing)
    assert (reply.body, reply.complete) == (b"firstsecondlast", True)


def test_a_device_is_read_up_to_the_content_length(site: Site) -> None:
    reply = site.get("/path", file="/dev/zero", length=200_000)
    assert reply.complete
    assert reply.body == bytes(200_000)


def test_a_file_system_that_cannot_tell_is_sent_too(site: Site, content: bytes) -> None:
    path = Path("/dev/shm") / f"tailrace-{os.getpid()}"
    path.write_bytes(content)
    try:
        assert site.get("/path", file=path, length=len(content)).body == content
    finally:
        path.unlink()


@pytest.mark.linux
def test_a_cold_file_is_sent_whole(site: Site, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cold"
    path.write_bytes(content)
    with path.open("rb+") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert site.get("/path", file=path, length=len(content)).body == content


def test_files_on_one_connection_follow_each_other(site: Site, file: Path, content: bytes) -> None:
    with site.connect() as connection:
        for _ in range(3):
            connection.send(target("/path", file=file, length=3_000_000))
            assert connection.read_reply().body == content
            connection.send("/hello")
            assert connection.read_reply().body == b"hello"


def test_pipelined_requests_are_answered_in_order(site: Site, file: Path, content: bytes) -> None:
    with site.connect() as connection:
        for _ in range(3):
            connection.send(target("/path", file=file, length=3_000_000))
            connection.send(target("/zero", file=file, parts="10:50000"))
            connection.send("/hello")
        for _ in range(3):
            assert connection.read_reply().body == content
            assert connection.read_reply().body == content[10:50_010]
            assert connection.read_reply().body == b"hello"


def test_http_1_0_gets_the_file_and_the_end(site: Site, file: Path, content: bytes) -> None:
    with site.connect() as connection:
        connection.send(target("/path", file=file, length=3_000_000), version="1.0")
        assert connection.read_reply().body == content
        assert connection.read_some() == b""


def test_a_file_that_has_grown_is_sent_up_to_its_content_length(site: Site, file: Path) -> None:
    reply = site.get("/path", file=file, length=1_000_000)
    assert reply.complete
    assert len(reply.body) == 1_000_000


@pytest.mark.parametrize(
    "query",
    [
        {"file": "FILE", "length": 3_000_001},
        {"file": "FILE", "length": 9_000_000},
        {"file": "/nowhere"},
        {"file": "/nowhere", "length": 5},
        {"file": "/", "length": 5},
        {"file": "/root/\udcff".encode("utf-8", "surrogateescape"), "length": 5},
    ],
)
def test_what_cannot_be_sent_whole_is_cut(site: Site, file: Path, query: dict[str, Any]) -> None:
    reply = site.get("/path", **{**query, "file": str(query["file"]).replace("FILE", str(file))})
    assert not reply.complete
    assert site.ask("/process")["outcomes"][-1] == "TransferFailed"


@pytest.mark.parametrize("parts", ["2999999:2", "5000000:1", "0:5,2999999:2"])
def test_a_stretch_that_is_not_there_is_cut(site: Site, file: Path, parts: str) -> None:
    assert not site.get("/zero", file=file, parts=parts).complete


def test_more_than_the_content_length_is_refused(site: Site, file: Path) -> None:
    reply = site.get("/zero", file=file, parts="0:100", length=50)
    assert (reply.body, reply.complete) == (b"", False)


def test_a_stretch_shorter_than_the_content_length_is_cut(site: Site, file: Path) -> None:
    reply = site.get("/zero", file=file, parts="0:100", length=150)
    assert not reply.complete


def test_a_file_that_is_truncated_under_way_is_cut_and_never_padded(
    site: Site, tmp_path: Path
) -> None:
    path = tmp_path / "shrinks"
    content = os.urandom(1_000_000) * 60
    path.write_bytes(content)
    with site.connect(receive_buffer=4096) as connection:
        connection.send(target("/path", file=path, length=len(content)))
        connection.read_head()
        body = bytearray(connection.read_some())
        os.truncate(path, 10_000_000)
        while some := connection.read_some():
            body += some
    assert 0 < len(body) < len(content)
    assert content.startswith(bytes(body[:10_000_000]))
    # Behind the cut there is what was on its way before it; of the page that the cut is in, the
    # kernel may have made the rest zeros while the socket still referred to it.
    behind = zip(body[10_000_000:], content[10_000_000:], strict=False)
    assert all(got in (was, 0) for got, was in behind)
    assert site.ask("/process")["outcomes"][-1] == "TransferFailed"


def test_a_file_that_is_replaced_under_way_is_sent_as_it_was(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "replaced"
    content = os.urandom(1_000_000) * 30
    path.write_bytes(content)
    with site.connect(receive_buffer=4096) as connection:
        connection.send(target("/path", file=path, length=len(content)))
        connection.read_head()
        body = bytearray(connection.read_some())  # from here on it is open
        (tmp_path / "new").write_bytes(b"n" * len(content))
        os.replace(tmp_path / "new", path)
        while len(body) < len(content):
            body += connection.read_some()
    assert body == content


def test_a_transfer_that_is_given_up_cuts_the_connection(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    before = site.ask("/process")
    with site.connect(receive_buffer=4096) as connection:
        connection.send(target("/cancelled", file=path, length=100_000_000))
        assert not connection.read_reply().complete
    after = site.ask("/process")
    assert after["outcomes"][-1] == "given up"
    assert after["descriptors"] == before["descriptors"]


def test_starlettes_own_file_response_needs_nothing_but_the_protocol(
    site: Site, file: Path, content: bytes
) -> None:
    reply = site.get("/starlette-file", file=file)
    assert reply.body == content
    assert "etag" in reply.headers


def test_rubbish_behind_a_request_is_not_answered_into_its_body(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with site.connect(receive_buffer=4096) as connection:
        connection.send(target("/path", file=path, length=50_000_000))
        connection.read_head()
        connection.sock.sendall(b"\x00\x01rubbish\r\n\r\n")
        body = bytearray()
        while some := connection.read_some():
            body += some
    # It is parsed when its turn comes: behind the whole body, and is refused there.
    assert not body[:50_000_000].strip(b"\0")
    assert body[50_000_000:].startswith(b"HTTP/1.1 400 ")


def test_a_message_while_a_file_is_sent_is_refused_and_the_file_comes_whole(
    site: Site, file: Path, content: bytes
) -> None:
    reply = site.get("/at-once", file=file, length=3_000_000)
    assert reply.body == content
    assert "while a file is being sent" in site.ask("/process")["outcomes"][-1]
