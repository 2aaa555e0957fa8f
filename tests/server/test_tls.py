"""Over TLS nothing can be sent past the encryption: the same bytes, by ordinary writes."""

from __future__ import annotations

import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme

from tailrace import limits
from tests.rawhttp import Connection
from tests.server.conftest import APP, OURS, Site, target
from tests.server.test_clients import until
from tests.server.test_shutdown import ended
from tests.servers import RunningServer, ServerName, serve


class SecureSite(Site):
    """A server behind TLS."""

    def __init__(self, server: RunningServer, context: ssl.SSLContext) -> None:
        super().__init__(server)
        self.context = context

    def connect(self, **options: Any) -> Connection:
        connection = super().connect(**options)
        connection.sock = self.context.wrap_socket(connection.sock, server_hostname="localhost")
        return connection

    def get(self, path: str, *, method: str = "GET", **query: Any) -> Any:
        with self.connect() as connection:
            connection.send(target(path, **query), method=method)
            return connection.read_reply()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    """A client's."""
    made = ssl.create_default_context()
    authority.configure_trust(made)
    return made


@pytest.fixture(scope="module")
def options(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A server's."""
    certificate = authority.issue_cert("localhost")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    certificate.private_key_pem.write_to_path(key)
    for part in certificate.cert_chain_pems:
        part.write_to_path(chain, append=True)
    return {"ssl_keyfile": str(key), "ssl_certfile": str(chain), "log_level": "info"}


@pytest.fixture(scope="module", params=OURS)
def secure(
    request: pytest.FixtureRequest,
    context: ssl.SSLContext,
    options: dict[str, Any],
) -> Iterator[SecureSite]:
    name: ServerName = request.param
    with serve(APP, name, **options) as server:
        yield SecureSite(server, context)


@pytest.mark.parametrize("framing", [{}, {"length": 3_000_000}])
def test_a_path_is_sent_whole(
    secure: SecureSite, file: Path, content: bytes, framing: dict[str, Any]
) -> None:
    reply = secure.get("/path", file=file, **framing)
    assert reply.complete
    assert reply.body == content


def test_stretches_and_bodies_mix(secure: SecureSite, file: Path, content: bytes) -> None:
    reply = secure.get("/zero", file=file, parts="5:200000,=between,2900000:,:7")
    assert reply.complete
    assert reply.body == content[5:200_005] + b"between" + content[2_900_000:] + content[:7]


def test_a_short_file_is_cut(secure: SecureSite, file: Path) -> None:
    reply = secure.get("/path", file=file, length=4_000_000)
    assert not reply.complete
    assert secure.ask("/process")["outcomes"][-1] == "TransferFailed"


def test_large_messages_come_whole(secure: SecureSite) -> None:
    with secure.connect() as connection:
        connection.send("/endless?size=300000")
        connection.read_head()
        for _ in range(20):
            assert connection.read_chunk() == b"x" * 300_000


def test_a_stalled_client_is_seen_and_can_be_dropped(secure: SecureSite) -> None:
    with secure.connect(receive_buffer=4096) as connection:
        connection.send("/endless?size=65536&name=tls")
        connection.read_head()
        seen = until(lambda: secure.ask("/connection", name="tls"), lambda seen: seen["stalled"])
        assert seen["stalled"]
        assert secure.ask("/abort", name="tls") == "aborted"
        closed = until(lambda: secure.ask("/connection", name="tls"), lambda seen: seen["closed"])
        assert closed["closed"]


def test_an_attached_client_gets_what_is_published(secure: SecureSite) -> None:
    with secure.connect() as connection:
        connection.send("/attach")
        connection.read_head()
        assert connection.read_chunk() == b": hello\n\n"
        assert secure.ask("/publish", size=100_000)["took"] == [1]
        assert secure.ask("/publish")["took"] == [1]
        assert connection.read_chunk() == b"data: 0 " + b"x" * 100_000 + b"\n\n"
        assert connection.read_chunk() == b"data: 0 \n\n"


@pytest.mark.parametrize("rest", [b"3\r\nabc\r\n0\r\n\r\n", b"no chunk\r\n"])
def test_behind_a_body_that_was_refused_the_connection_ends_at_once(
    secure: SecureSite, rest: bytes
) -> None:
    """Kind of fault: our side cannot end alone, so the client waits for an end that comes late."""
    with secure.connect() as connection:
        connection.send("/refuse", method="POST", headers={"transfer-encoding": "chunked"})
        assert connection.read_reply().status == 413
        connection.sock.sendall(rest)
        began = time.monotonic()
        assert connection.read_some() == b""
    assert time.monotonic() - began < limits.LINGER_SILENCE / 2


def open_streams(site: SecureSite) -> int:
    return int(site.ask("/process")["open"])


@pytest.mark.parametrize("leaves", ["half_close", "close", "reset"])
def test_a_client_that_leaves_behind_much_that_it_asked_for_is_noticed(
    secure: SecureSite, leaves: str
) -> None:
    """Nothing more is read from it then, so TLS does not tell."""
    before = open_streams(secure)
    with secure.connect() as connection:
        connection.send("/ticks")
        connection.read_head()
        connection.sock.sendall(b"GET /hello HTTP/1.1\r\nhost: h\r\n\r\n" * 4000)
        for _ in range(20):  # the server has read what it wants of it
            assert connection.read_chunk()
        getattr(connection, leaves)()
    assert until(lambda: open_streams(secure), lambda count: count == before) == before


@pytest.mark.parametrize("name", OURS)
def test_an_idle_client_that_does_not_answer_the_end_of_tls_does_not_hold_the_server(
    name: ServerName, context: ssl.SSLContext, options: dict[str, Any]
) -> None:
    with serve(APP, name, **options) as server:
        site = SecureSite(server, context)
        with site.connect() as idle, site.connect() as refused:
            idle.send("/hello")
            idle.read_reply()
            refused.sock.sendall(b"no HTTP\r\n\r\n")
            refused.read_head()
            psutil.Process(server.pid).send_signal(signal.SIGTERM)
            assert ended(server.pid, 9) < 5  # it was 10, the drain's own time
