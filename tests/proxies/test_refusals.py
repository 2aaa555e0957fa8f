"""A body that is refused before it is read: the proxy in front passes the refusal on."""

from __future__ import annotations

import contextlib
from itertools import product

import pytest

from tailrace import limits
from tests.proxies.running import proxy
from tests.rawhttp import Connection
from tests.servers import HOST, ServerName, serve

PROXIES = ["nginx-plain", "apache-plain", "haproxy-plain"]
SIZE = limits.MAX_APPEND_BYTES + limits.BODY_LINGER_BYTES


@pytest.mark.parametrize(
    ("server_name", "paths"),
    [
        # Our server reads on behind every answer, elsewhere the protocol does behind its own.
        ("uvicorn-tailrace", ["/v1/stream/s", "/refused"]),
        ("uvicorn", ["/v1/stream/s"]),
    ],
)
def test_a_proxy_passes_a_413_on(server_name: ServerName, paths: list[str]) -> None:
    """Kind of fault: a reset that overtakes the answer, of which the proxy makes a 502."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve("tests.apps.behind:app", server_name))
        ports = [stack.enter_context(proxy(name, server.port)) for name in PROXIES]
        for port, path in product(ports, paths):
            assert refusal(port, path) == 413


def refusal(port: int, path: str) -> int:
    with Connection(HOST, port) as connection:
        length = {"content-type": "text/plain", "content-length": str(SIZE)}
        connection.send(path, method="POST", headers=length)
        with contextlib.suppress(ConnectionError):  # some proxies let it end early
            connection.sock.sendall(bytes(SIZE))
        return connection.read_head().status
