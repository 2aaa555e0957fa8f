"""One request at a time: offers that are not taken, pipelines, and clients that end their side."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from websockets.sync.client import connect

from tailrace import limits
from tests.rawhttp import Connection
from tests.server.conftest import OURS, Site
from tests.servers import serve
from tests.tools.tool import tool, until

SMUGGLED = b"GET /echo/smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
OFFERS = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "an unknown token": b"connection: upgrade\r\nupgrade: foo/2\r\n",
    "a list": b"connection: upgrade\r\nupgrade: foo, websocket\r\n",
    "a WebSocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "without Connection": b"upgrade: h2c\r\n",
}
SIZED = b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
CHUNKED = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
SAID = f"{SMUGGLED.decode()!r}"


@pytest.fixture(scope="module", params=OURS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with serve("tests.server.asked:app", request.param, timeout_graceful_shutdown=1) as server:
        yield Site(server)
        assert "Traceback" not in server.log


def request_of(method: bytes, path: bytes, rest: bytes, version: bytes = b"1.1") -> bytes:
    return b"%b %b HTTP/%b\r\nhost: a\r\n%b" % (method, path, version, rest)


def get(name: str) -> bytes:
    return request_of(b"GET", f"/echo/{name}".encode(), b"\r\n")


def state(site: Site) -> Any:
    return site.ask("/state")


# Offers of another protocol -----------------------------------------------------------------------


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("body", [SIZED, CHUNKED], ids=["sized", "chunked"])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_the_body_behind_an_offer_that_is_not_taken_is_the_requests(
    site: Site, offer: bytes, body: bytes, version: bytes
) -> None:
    """Kind of fault: request smuggling by an upgrade that is not taken."""
    if version == b"1.0" and body is CHUNKED:
        return  # HTTP/1.0 has no chunks
    for pieces in (1, 7):
        sent = request_of(b"POST", b"/echo/offer", offer + body, version)
        with site.connect() as connection:
            for at in range(0, len(sent), len(sent) // pieces + 1):
                connection.sock.sendall(sent[at : at + len(sent) // pieces + 1])
                time.sleep(0.002 if pieces > 1 else 0)
            reply = connection.read_reply()
            assert (reply.status, reply.body.decode()) == (200, f"POST offer {SAID}")
            if version == b"1.1":  # the connection goes on, with the next request and no other
                connection.sock.sendall(get("next"))
                assert connection.read_reply().body == b"GET next ''"
    assert "smuggled" not in state(site)["asked"]


@pytest.mark.parametrize("offer", list(OFFERS.values())[:3], ids=list(OFFERS)[:3])
def test_an_offer_without_a_body_is_an_ordinary_request(site: Site, offer: bytes) -> None:
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"GET", b"/echo/a", offer + b"\r\n") + get("b"))
        assert connection.read_reply().body == b"GET a ''"
        assert connection.read_reply().body == b"GET b ''"


def test_curl_may_offer_http_2_with_a_post(site: Site) -> None:
    url = f"http://{site.server.host}:{site.server.port}/echo/curl"
    command = [tool("curl"), "--silent", "--http2", "--max-time", "10", "--data", "a body", url]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"POST curl 'a body'"


@pytest.mark.parametrize("offer", [*OFFERS.values(), b""], ids=[*OFFERS, "none"])
@pytest.mark.parametrize(
    "framing",
    [
        b"transfer-encoding: gzip\r\n",
        b"transfer-encoding: chunked, gzip\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
    ],
)
def test_a_body_that_has_no_end_is_refused_before_anybody_is_asked(
    site: Site, offer: bytes, framing: bytes
) -> None:
    """In silence, too: the server's log is looked at when all are done, and has no traceback."""
    before = state(site)
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"POST", b"/echo/no-end", offer + framing + b"\r\n"))
        assert connection.read_reply().status == 400
        assert not connection.read_some()
    assert state(site) == before


def test_what_is_for_the_other_end_of_a_tunnel_is_no_request(site: Site) -> None:
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"CONNECT", b"a:443", b"\r\n") + SMUGGLED)
        assert connection.read_reply().status >= 400
        while connection.read_some():
            pass
    assert "smuggled" not in state(site)["asked"]


def test_a_websocket_is_taken_and_echoes(site: Site) -> None:
    with connect(f"ws://{site.server.host}:{site.server.port}/socket") as client:
        client.send("hello")
        assert client.recv(10) == "hello"
    with connect(f"ws://{site.server.host}:{site.server.port}/socket") as client:
        client.send("x" * 100_000)
        assert client.recv(10) == "x" * 100_000


def test_a_websocket_behind_an_open_response_waits_for_its_turn(site: Site) -> None:
    handshake = request_of(b"GET", b"/socket", OFFERS["a WebSocket"] + b"\r\n")
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"GET", b"/echo/x?wait=0.2", b"\r\n") + handshake)
        assert connection.read_reply().body == b"GET x ''"
        answer = connection.read_some()
        assert answer.startswith(b"HTTP/1.1 101 ")


def test_a_handshake_with_something_behind_it_is_refused(site: Site) -> None:
    handshake = request_of(b"GET", b"/socket", OFFERS["a WebSocket"] + b"\r\n")
    with site.connect() as connection:
        connection.sock.sendall(handshake + SMUGGLED)
        assert connection.read_reply().status == 400
        assert connection.read_some() == b""
    assert "smuggled" not in state(site)["asked"]


def test_a_handshake_of_a_client_that_has_ended_its_side_is_an_ordinary_request(
    site: Site,
) -> None:
    handshake = request_of(b"GET", b"/socket", OFFERS["a WebSocket"] + b"\r\n")
    with half_closed(site, request_of(b"GET", b"/echo/x?wait=0.1", b"\r\n") + handshake) as client:
        assert client.read_reply().body == b"GET x ''"
        assert client.read_reply().status == 404
        assert client.read_some() == b""


@pytest.mark.parametrize("version", [b"2.0", b"3.0", b"0.9"])
def test_another_version_of_http_is_refused(site: Site, version: bytes) -> None:
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"GET", b"/echo/version", b"\r\n", version))
        assert connection.read_reply().status in (400, 505)
    assert "version" not in state(site)["asked"]


def test_a_tunnel_over_another_version_of_http_is_refused(site: Site) -> None:
    """Kind of fault: an offer is looked at behind a request that was refused already."""
    with site.connect() as connection:
        connection.sock.sendall(b"CONNECT a:443 HTTP/2.0\r\nhost: a\r\n\r\n")
        assert connection.read_reply().status == 505
    assert "data_received() call failed" not in site.server.log


def test_trailers_are_no_fields_of_the_request(site: Site) -> None:
    trailer = b"x-forwarded-for: 6.6.6.6\r\nhost: b\r\n"
    body = b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n%b\r\n" % trailer
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"POST", b"/fields", body))
        fields = json.loads(connection.read_reply().body)
    assert fields == [["host", "a"], ["transfer-encoding", "chunked"]]


def test_a_client_of_http_1_0_gets_no_interim_response(site: Site) -> None:
    fields = b"expect: 100-continue\r\ncontent-length: 6\r\n\r\n"
    with site.connect() as connection:
        connection.sock.sendall(b"POST /echo/old HTTP/1.0\r\n" + fields)
        connection.sock.sendall(b"a body")
        assert b" 200 " in connection.read_some().partition(b"\r\n")[0]


def test_chunks_over_http_1_0_are_refused(site: Site) -> None:
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"POST", b"/echo/old", CHUNKED, b"1.0"))
        assert connection.read_reply().status == 400
    assert "smuggled" not in state(site)["asked"]


@pytest.mark.parametrize("part", [b"1\r\nx\r\n", b"4\r\n\r\n\r\n\r\n"], ids=["bytes", "lines"])
def test_a_body_of_tiny_chunks_comes_whole(site: Site, part: bytes) -> None:
    """Kind of fault: input in tiny pieces holds the event loop."""
    body = b"transfer-encoding: chunked\r\n\r\n" + part * 60_000 + b"0\r\n\r\n"
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"POST", b"/size", body) + get("after"))
        assert connection.read_reply().body == b"%d" % (60_000 * int(part[:1]))
        assert connection.read_reply().body == b"GET after ''"


# Pipelines ----------------------------------------------------------------------------------------


def test_requests_that_come_together_are_answered_in_order(site: Site) -> None:
    names = [f"p{number}" for number in range(300)]
    with site.connect() as connection:
        connection.sock.sendall(b"".join(map(get, names)))
        for name in names:
            assert connection.read_reply().body == f"GET {name} ''".encode()


def test_what_is_behind_an_open_response_is_not_parsed(site: Site) -> None:
    """Kind of fault: requests are queued without a bound while nobody takes the answers."""
    with site.connect() as connection:
        connection.sock.sendall(request_of(b"GET", b"/silent/first", b"\r\n") + get("behind"))
        connection.read_head()
        assert "behind" not in state(site)["asked"]


def flood(site: Site) -> socket.socket:
    """A client that sends more than is read, behind a response that is open."""
    client = socket.create_connection((site.server.host, site.server.port))
    client.sendall(request_of(b"GET", b"/silent/flooded", b"\r\n"))
    client.settimeout(0.2)
    many = get("flood") * 2000
    while True:
        try:
            client.sendall(many)
        except TimeoutError:
            return client


def test_a_flood_is_not_read_and_its_end_is_noticed(site: Site) -> None:
    """Kind of fault: a client behind whose request others are queued is not seen to leave."""
    process = psutil.Process(site.server.pid)
    before = process.memory_info().rss
    descriptors = state(site)["descriptors"]
    for linger in (b"", struct.pack("ii", 1, 0)):
        client = flood(site)
        assert process.memory_info().rss - before < 8 * limits.MAX_PIPELINED_BYTES * 20
        if linger:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()
        assert "flooded" not in until(
            lambda: state(site)["open"], lambda names: "flooded" not in names
        )
    assert until(lambda: state(site)["descriptors"], lambda n: n <= descriptors) <= descriptors
    assert "flood" not in state(site)["asked"]


# Clients that end their side ----------------------------------------------------------------------


def half_closed(site: Site, sent: bytes) -> Connection:
    connection = site.connect()
    connection.sock.sendall(sent)
    connection.sock.shutdown(socket.SHUT_WR)
    return connection


@pytest.mark.parametrize("target", ["/echo/half", "/echo/half?wait=0.8", "/lines?count=30"])
def test_a_client_that_ends_its_side_gets_its_answer(site: Site, target: str) -> None:
    """Kind of fault: the end of what a client sends is taken for the end of the client."""
    for _ in range(5):
        with half_closed(site, request_of(b"GET", target.encode(), b"\r\n")) as connection:
            reply = connection.read_reply()
            assert reply.complete
            assert reply.body in (b"GET half ''", b"".join(b"line %d\n" % n for n in range(30)))
            assert connection.read_some() == b""  # and the connection is closed


def test_all_that_it_had_asked_for_is_answered(site: Site) -> None:
    sent = request_of(b"POST", b"/echo/a", SIZED) + get("b") + get("c")
    with half_closed(site, sent) as connection:
        bodies = [connection.read_reply().body for _ in range(3)]
        assert bodies[1:] == [b"GET b ''", b"GET c ''"]
        assert connection.read_some() == b""


def test_a_body_that_waits_for_its_turn_behind_an_end_is_answered(site: Site) -> None:
    """Kind of fault: what is not parsed yet is taken for what will never come."""
    # Each blank line is a piece of its own: together more than there is time for in one turn.
    chunks = b"4\r\n\r\n\r\n\r\n" * 5_000 + b"0\r\n\r\n"
    long = request_of(b"POST", b"/echo/long", b"transfer-encoding: chunked\r\n\r\n") + chunks
    with half_closed(site, get("first?wait=0.2") + long + get("last")) as connection:
        replies = [connection.read_reply() for _ in range(3)]
        assert [reply.complete for reply in replies] == [True, True, True]
        assert replies[2].body == b"GET last ''"


@pytest.mark.parametrize("count", [3_000, 10_000])
def test_the_end_behind_more_than_is_read_at_once_cuts_no_answer(site: Site, count: int) -> None:
    """Kind of fault: an end that the kernel has is taken for the end of what was read."""
    with site.connect(timeout=60) as connection:
        connection.sock.sendall(get("first?wait=0.3") + get("more") * count)
        connection.half_close()
        came = bytearray()
        while data := connection.read_some():
            came += data
        assert (came.count(b"200 OK"), connection.ended) == (count + 1, "closed")


def test_a_request_whose_rest_will_never_come_is_over(site: Site) -> None:
    with half_closed(site, request_of(b"POST", b"/echo/part", SIZED[:-5])) as connection:
        assert not connection.read_some()


@pytest.mark.parametrize("moment", ["at once", "later"])
def test_a_silent_stream_does_not_stay_open_for_a_client_that_has_left(
    site: Site, moment: str
) -> None:
    name = moment.replace(" ", "-")
    client = socket.create_connection((site.server.host, site.server.port))
    client.sendall(request_of(b"GET", f"/silent/{name}".encode(), b"\r\n"))
    if moment == "later":
        until(lambda: state(site)["open"], lambda names: name in names)
        time.sleep(limits.HALF_CLOSE_GRACE)
    client.close()
    began = time.monotonic()
    until(lambda: state(site)["asked"], lambda _: time.monotonic() > began + 0.3)
    assert name not in until(lambda: state(site)["open"], lambda names: name not in names)
    assert time.monotonic() < began + 4 * limits.HALF_CLOSE_GRACE + 1
