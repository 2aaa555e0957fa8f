"""A request names one host, and what it names is one; or it ends before anybody reads it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.server.hosts import why_no_host
from tests.rawhttp import Connection
from tests.server.conftest import OURS
from tests.servers import RunningServer, serve

GOOD = [
    *(b"localhost", b"LOCALHOST:80", b"127.0.0.1:8000", b"a_b.example", b"a.example.", b"a:"),
    *(b"[::1]", b"[::1]:8000", b"[::ffff:127.0.0.1]", b"%41.example", b"", b" a\t"),
]
BAD = [
    *(b"a, b", b"a,b", b"a b", b"user@a", b"user:pw@a", b"a/b", b"http://a", b"a?b", b"a#b"),
    *(b"a:b", b"a:80:80", b":80", b"::1", b"[::1", b"[::1]x", b"[1]", b"[::1%25eth0]", b"[v1.a]"),
    *(b"a\\b", b"a%4", b"a%zz", b"\xe9", b"a\x00", b'"a"', b"<a>", b"a\n"),
    b"a" * (limits.MAX_HOST_BYTES + 1),
]


@pytest.mark.parametrize("host", GOOD)
def test_a_host_is_taken(host: bytes) -> None:
    assert why_no_host("1.1", b"/", [host]) is None


@pytest.mark.parametrize("host", BAD)
def test_what_is_no_host_is_not(host: bytes) -> None:
    assert why_no_host("1.1", b"/", [host]) == "a Host that is none"


@pytest.mark.parametrize(
    ("version", "target", "hosts", "is_good"),
    [
        ("1.1", b"/", [], False),
        ("1.0", b"/", [], True),
        ("1.0", b"/", [b"a", b"a"], False),
        ("1.1", b"/", [b"a", b"a"], False),
        ("1.1", b"/", [b"", b"a"], False),
        ("1.1", b"*", [b"a"], True),
        ("1.1", b"http://a/x", [b"A"], True),
        ("1.1", b"http://a:80?x", [b"a:80"], True),
        ("1.1", b"http://b/x", [b"a"], False),
        ("1.1", b"http://a/x", [b""], False),
        ("1.1", b"http://user@a/x", [b"a"], False),
    ],
)
def test_a_request_names_one_host(
    version: str, target: bytes, hosts: list[bytes], is_good: bool
) -> None:
    assert (why_no_host(version, target, hosts) is None) == is_good


@given(st.binary(max_size=60))
def test_what_is_taken_has_nothing_that_another_could_read_as_an_end(host: bytes) -> None:
    if why_no_host("1.1", b"/", [host]) is None:
        assert not set(host.strip(b" \t")) & set(b"@/?#, \t\r\n\\\x00")


@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_every_address_is_a_host(address: IPv6Address, port: int) -> None:
    assert why_no_host("1.1", b"/", [f"[{address}]:{port}".encode()]) is None


# Over a socket -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=OURS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with serve("tests.server.heads:app", request.param) as server:
        yield server


UPGRADE = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize("more", [b"", UPGRADE], ids=["http", "websocket"])
@pytest.mark.parametrize(
    "fields", [b"", b"host: a\r\nhost: b\r\n", b"host: a, b\r\n", b"host: u@a\r\n"]
)
def test_a_request_without_one_host_is_refused_and_cut(
    server: RunningServer, fields: bytes, more: bytes
) -> None:
    with Connection(server.host, server.port) as connection:
        path = b"/socket" if more else b"/"
        connection.sock.sendall(b"GET " + path + b" HTTP/1.1\r\n" + fields + more + b"\r\n")
        assert connection.read_reply().status == 400
        while connection.read_some():
            pass
        assert connection.ended is not None
