from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.rawhttp import Connection, Reply, ReplyError

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(5)
        yield sock


@pytest.fixture
def client(listener: socket.socket) -> Iterator[Connection]:
    host, port = listener.getsockname()
    with Connection(host, port, timeout=5) as connection:
        yield connection


@pytest.fixture
def peer(listener: socket.socket, client: Connection) -> Iterator[socket.socket]:
    """The server's end of the connection. What a test writes to it waits in the kernel."""
    sock, _ = listener.accept()
    sock.settimeout(5)
    with sock:
        yield sock


def reply_to(client: Connection, peer: socket.socket, sent: bytes) -> Reply:
    client.send("/")
    peer.recv(65536)
    peer.sendall(sent)
    peer.close()
    return client.read_reply()


def test_a_request_is_written_as_asked(client: Connection, peer: socket.socket) -> None:
    client.send("/a", method="POST", headers={"accept": "*/*"}, body=b"xy", version="1.0")
    first, *fields = peer.recv(65536).split(b"\r\n")
    assert first == b"POST /a HTTP/1.0"
    assert b"accept: */*" in fields
    assert b"content-length: 2" in fields
    assert fields[-1] == b"xy"


def test_a_chunked_body_with_its_last_chunk_is_complete(
    client: Connection, peer: socket.socket
) -> None:
    reply = reply_to(client, peer, CHUNKED + b"3\r\none\r\n3;x=y\r\ntwo\r\n0\r\n\r\n")
    assert reply == Reply(200, {"transfer-encoding": "chunked"}, b"onetwo", True)


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"3\r\none\r\n", b"one"),
        (b"3\r\none\r\n3", b"one"),
        (b"3\r\none\r\n3\r\ntw", b"onetw"),
        (b"3\r\none\r\n3\r\ntwo\r", b"onetwo"),
        (b"3\r\none\r\n0\r\n", b"one"),
    ],
)
def test_a_chunked_body_without_its_last_chunk_is_not(
    client: Connection, peer: socket.socket, sent: bytes, body: bytes
) -> None:
    reply = reply_to(client, peer, CHUNKED + sent)
    assert (reply.body, reply.complete) == (body, False)


def test_a_counted_body_is_complete_with_its_last_byte(
    client: Connection, peer: socket.socket
) -> None:
    reply = reply_to(client, peer, HEAD + b"content-length: 3\r\n\r\none")
    assert (reply.body, reply.complete) == (b"one", True)


def test_a_counted_body_that_is_short_is_not(client: Connection, peer: socket.socket) -> None:
    reply = reply_to(client, peer, HEAD + b"content-length: 4\r\n\r\none")
    assert (reply.body, reply.complete) == (b"one", False)


def test_a_body_without_framing_ends_with_the_connection(
    client: Connection, peer: socket.socket
) -> None:
    reply = reply_to(client, peer, b"HTTP/1.0 200 OK\r\n\r\nall of it")
    assert (reply.body, reply.complete) == (b"all of it", True)


def test_a_body_without_framing_that_is_reset_is_not_complete(
    client: Connection, peer: socket.socket
) -> None:
    client.send("/")
    peer.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    client.read_head()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    assert client.read_some() == b""
    assert client.ended == "reset"


def test_a_reply_to_head_has_no_body(client: Connection, peer: socket.socket) -> None:
    client.send("/", method="HEAD")
    peer.sendall(HEAD + b"content-length: 5\r\n\r\n")
    assert client.read_reply() == Reply(200, {"content-length": "5"}, b"", True)


def test_replies_of_a_pipeline_are_read_in_order(client: Connection, peer: socket.socket) -> None:
    client.send("/1", method="HEAD")
    client.send("/2")
    peer.sendall(HEAD + b"content-length: 3\r\n\r\n" + CHUNKED + b"1\r\n2\r\n0\r\n\r\n")
    assert [client.read_reply().body, client.read_reply().body] == [b"", b"2"]


def test_informational_heads_are_passed_over(client: Connection, peer: socket.socket) -> None:
    reply = reply_to(
        client, peer, b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"content-length: 0\r\n\r\n"
    )
    assert (reply.status, reply.complete) == (200, True)


def test_fields_of_one_name_are_joined(client: Connection, peer: socket.socket) -> None:
    reply = reply_to(client, peer, HEAD + b"Vary: a\r\nvary: b\r\ncontent-length: 0\r\n\r\n")
    assert reply.headers["vary"] == "a, b"


def test_a_connection_that_ends_within_a_head_is_an_error(
    client: Connection, peer: socket.socket
) -> None:
    with pytest.raises(ReplyError, match="closed"):
        reply_to(client, peer, b"HTTP/1.1 200 OK\r\n")


def test_what_is_not_http_is_an_error(client: Connection, peer: socket.socket) -> None:
    with pytest.raises(ReplyError, match="SSH"):
        reply_to(client, peer, b"SSH-2.0-x\r\n\r\n")


def test_bytes_can_be_read_as_they_come(client: Connection, peer: socket.socket) -> None:
    peer.sendall(CHUNKED + b"3\r\none\r\n")
    client.read_head()
    assert client.read_chunk() == b"one"
    peer.sendall(b"3\r\nt")
    assert client.read_some() == b"3\r\nt"
    peer.close()
    assert client.read_some() == b""


def test_half_closing_leaves_the_reply_to_be_read(client: Connection, peer: socket.socket) -> None:
    client.half_close()
    assert peer.recv(1) == b""
    peer.sendall(HEAD + b"content-length: 1\r\n\r\nx")
    assert client.read_reply().body == b"x"


def test_a_reset_is_seen_as_one_by_the_server(client: Connection, peer: socket.socket) -> None:
    client.reset()
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


def test_a_small_receive_buffer_stalls_the_sender_soon(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    with Connection(host, port, receive_buffer=4096):
        peer, _ = listener.accept()
        with peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            peer.settimeout(0.05)
            with pytest.raises(TimeoutError):
                peer.sendall(bytes(1_000_000))
