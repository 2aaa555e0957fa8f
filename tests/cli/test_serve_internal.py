"""What is below `__ds/` is ours: no request for a stream gets there, however it is spelt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running_serve import Running, running_serve
from tests.cli.streaming import HOST, STREAMS, create, send
from tests.rawhttp import request

LIVE = "?offset=-1&live=sse"
QUIET = ("--log-level", "warning")
"""Nobody reads the access log here, and a server waits for who reads it."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Running]:
    with running_serve(directory, *QUIET, "--webhooks-to-localhost") as running:
        # So that there are a key, a run's state and a subscription's.
        made = subscribe(running, "real", pattern="orders/*")
        assert made == 201
        yield running
        assert "Traceback" not in running.log
        assert running.process.poll() is None


def subscribe(server: Running, name: str, **config: object) -> int:
    told = {"type": "webhook", "webhook": {"url": "http://127.0.0.1:9/"}, **config}
    body = json.dumps(told).encode()
    path = f"__ds/subscriptions/{name}"
    return send(server, "PUT", path, body, content_type="application/json").status


INTERNAL = [
    "__ds",
    "__ds/",
    "__ds/keys",
    "__ds/keys/",
    "__ds//keys",
    "/__ds/keys",
    "./__ds/keys",
    "a/../__ds/keys",
    "%5f%5fds/keys",
    "_%5Fds%2fkeys",
    "__ds%2Fkeys",
    "__ds/%6beys",
    "__ds/../__ds/keys",
    "__ds/workers/w",
    "__ds/subscriptions",
    "__ds/subscriptions/",
    "__ds/runs/any",
    "__ds/%00",
]


def ours(directory: Path) -> list[tuple[object, ...]]:
    """Our own streams, as the store has them."""
    database = sqlite3.connect(directory / ".tailrace" / "streams.db")
    query = "SELECT path, tail, records FROM stream WHERE path LIKE '\\_\\_ds/%' ESCAPE '\\'"
    found = sorted(database.execute(query), key=str)
    database.close()
    return found


@pytest.mark.parametrize("path", INTERNAL)
def test_no_verb_reaches_what_is_ours(server: Running, directory: Path, path: str) -> None:
    before = ours(directory)
    assert "__ds/keys" in {row[0] for row in before}
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"):
        for query in ("", "?offset=-1", LIVE, "?offset=-1&live=long-poll"):
            body = b"x" if method in ("PUT", "POST") else b""
            reply = send(server, method, path + query, body, content_type="text/plain")
            assert reply.status in (400, 404, 405, 415), (method, reply)
            assert b"secret" not in reply.body
    assert ours(directory) == before


@pytest.mark.parametrize("path", INTERNAL)
@pytest.mark.parametrize("root", ["", STREAMS, "http://127.0.0.1/v1/stream/"])
def test_nothing_is_forked_from_what_is_ours(server: Running, path: str, root: str) -> None:
    reply = create(server, "stolen", stream_forked_from=root + path)
    assert reply.status in (400, 404), reply
    assert send(server, "GET", "stolen").status == 404


@pytest.mark.parametrize("path", ["__ds/keys", "/__ds/keys", "__ds", "__ds/x/y", "//__ds/keys/"])
def test_no_subscription_looks_at_what_is_ours(server: Running, path: str) -> None:
    assert subscribe(server, "thief", streams=[path]) == 400
    waking = {"type": "pull-wake", "pattern": "*", "wake_stream": path}
    assert subscribe(server, "thief", **waking) == 400
    body = json.dumps({"streams": [path]}).encode()
    linked = send(
        server, "POST", "__ds/subscriptions/real/streams", body, content_type="application/json"
    )
    assert linked.status == 400


@pytest.mark.parametrize("pattern", ["__ds/*", "__ds/**"])
def test_a_pattern_below_what_is_ours_is_refused(server: Running, pattern: str) -> None:
    assert subscribe(server, "wide", pattern=pattern) == 400


@pytest.mark.parametrize("pattern", ["**", "*/keys", "**/keys", "*/*/*"])
def test_a_pattern_never_means_what_is_ours(server: Running, pattern: str) -> None:
    assert subscribe(server, "wide", pattern=pattern) == 201
    create(server, "wide/keys", b"x")
    told = json.loads(send(server, "GET", "__ds/subscriptions/wide").body)
    assert not [each for each in told["streams"] if each["path"].startswith("__ds")]
    assert send(server, "DELETE", "__ds/subscriptions/wide").status == 204


def test_the_signing_key_is_nowhere_to_be_read(server: Running, directory: Path) -> None:
    public = json.loads(send(server, "GET", "__ds/jwks.json").body)
    assert public["keys"]
    assert all("d" not in key for key in public["keys"])  # RFC 8037: the private half
    assert request(HOST, server.port, "/files/.tailrace/streams.db").status == 404
    archive = request(HOST, server.port, "/files/?zip")
    assert archive.headers["content-type"] == "application/zip"
    assert b"streams.db" not in archive.body
