"""Every kind of stream, under every server that FastAPI applications use.

If a server cannot do something, docs/production.md says so, and so do the tests here.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import Any

import pytest

from tests import rawhttp, rawhttp2
from tests.rawhttp import Reply
from tests.servers import ALL_SERVERS, RunningServer, ServerName
from tests.sockets.live_server import DEADLINE, new_key, wait_until

pytestmark = pytest.mark.slow

EVENTS = {"accept": "text/event-stream"}
JSON = {"content-type": "application/json"}
RUNS = 50
PARTS = [random.Random(n).randbytes(16_384) for n in range(320)]
"""The body of an upload, in parts: 5 MB."""


class Site:
    """One server that runs `tests.apps.every`."""

    def __init__(self, name: ServerName, server: RunningServer) -> None:
        self.name = name
        self.server = server
        self.kinds = ["sse", "jsonl", "subscription", *(["run"] if name in WITH_RUNS else [])]

    def connect(self) -> Any:
        connect: Any = rawhttp2 if self.name.endswith("http2") else rawhttp
        return connect.Connection(self.server.host, self.server.port, timeout=DEADLINE)

    def reply(self, path: str) -> Reply:
        with self.connect() as client:
            client.send(path, headers=EVENTS)
            reply: Reply = client.read_reply()
            return reply

    def notes(self, key: str) -> list[str]:
        notes: list[str] = json.loads(self.reply(f"/record?of={key}").body)
        return notes


WITH_RUNS = [name for name in ALL_SERVERS if name != "daphne"]
"""Not daphne: it has no lifespan, which runs need, and leaves a failed response open."""


@pytest.fixture(scope="module", params=ALL_SERVERS)
def site(request: pytest.FixtureRequest, shared_server: Callable[..., RunningServer]) -> Site:
    return Site(request.param, shared_server("tests.apps.every:app", request.param))


def read_until(client: Any, wanted: bytes) -> None:
    got = b""
    while wanted not in got:
        some = client.read_some()
        assert some, got
        got += some


def until_each(site: Site, keys: list[str], entry: str) -> None:
    def missing() -> list[str]:
        return [key for key in keys if entry not in site.notes(key)]

    wait_until(lambda: not missing(), lambda: (site.name, entry, missing()))


def test_a_client_that_leaves_is_noticed(site: Site) -> None:
    keys = []
    with ExitStack() as stack:
        for kind in site.kinds:
            keys.append(new_key(kind))
            client = stack.enter_context(site.connect())
            client.send(f"/{kind}/waits?key={keys[-1]}", headers=EVENTS)
            read_until(client, b'"n":')
    until_each(site, keys, "returned")
    # A run's source is closed, too: its policy is to cancel it. A subscription has no source.
    until_each(site, [key for key in keys if not key.startswith("subscription")], "closed")


@pytest.mark.parametrize("path", ["waits", "waits-after-json"])
def test_one_whose_request_has_a_body_that_was_read_is_noticed(site: Site, path: str) -> None:
    keys = []
    with ExitStack() as stack:
        for kind in site.kinds:
            if kind == "subscription":
                continue
            keys.append(new_key(kind))
            client = stack.enter_context(site.connect())
            target = f"/{kind}/{path}?key={keys[-1]}"
            client.send(target, method="POST", headers=EVENTS | JSON, body=b'{"size": 1}')
            read_until(client, b'"n":')
    until_each(site, keys, "returned")
    until_each(site, keys, "closed")


@pytest.mark.parametrize("site", WITH_RUNS, indirect=True)
def test_a_source_that_fails_is_seen(site: Site) -> None:
    for kind in ("sse", "jsonl"):
        reply = site.reply(f"/{kind}/fails?key={new_key()}")
        assert (b"stream_failed" in reply.body, reply.complete) == (True, False)
    reply = site.reply(f"/run/fails?key={new_key('run')}")
    assert (reply.body.count(b'"n":'), reply.complete) == (2, True)
    assert b"stream_failed" in reply.body


def test_what_daphne_cannot_do(shared_server: Callable[..., RunningServer]) -> None:
    site = Site("daphne", shared_server("tests.apps.every:app", "daphne"))
    assert site.reply(f"/run/counts?key={new_key('run')}").status == 500
    with site.connect() as client:
        client.send(f"/sse/fails?key={new_key()}")
        read_until(client, b"stream_failed")


@pytest.mark.parametrize("framed", ["length", "chunks"])
def test_an_upload_comes_back_whole_from_a_source_that_reads_it(site: Site, framed: str) -> None:
    whole = b"".join(PARTS)
    if site.name.endswith("http2"):
        with site.connect() as client:
            client.send("/echo", method="POST", body=whole)
            got = client.read_reply().body
    else:
        got = upload(site.server, framed)
    assert hashlib.sha256(got).digest() == hashlib.sha256(whole).digest()


def upload(server: RunningServer, framed: str) -> bytes:
    """Send the parts to an endpoint that echoes them. Returns what comes back meanwhile."""
    with socket.create_connection((server.host, server.port), timeout=DEADLINE) as sock:
        length = f"content-length: {sum(map(len, PARTS))}"
        how = length if framed == "length" else "transfer-encoding: chunked"
        lines = ["POST /echo HTTP/1.1", "host: x", how, "connection: close", "", ""]
        sock.sendall("\r\n".join(lines).encode())

        def send() -> None:
            for part in PARTS:
                frame = b"%x\r\n%b\r\n" % (len(part), part)
                sock.sendall(part if framed == "length" else frame)
            if framed == "chunks":
                sock.sendall(b"0\r\n\r\n")

        sending = threading.Thread(target=send)
        sending.start()
        response = HTTPResponse(sock, method="POST")
        response.begin()
        got = response.read()
        sending.join()
        return got


@pytest.mark.parametrize("site", WITH_RUNS, indirect=True)
def test_no_run_is_cut(site: Site) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(site.connect()) for _ in range(RUNS)]
        for client in clients:
            client.send(f"/run/counts?key={new_key('run')}", headers=EVENTS)
        replies = [client.read_reply() for client in clients]
    assert [reply.body.count(b'"n":') for reply in replies] == [5] * RUNS
    assert all(reply.complete for reply in replies)
