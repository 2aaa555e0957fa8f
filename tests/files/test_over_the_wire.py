"""Hostile paths as real servers hand them on: each decodes and normalises in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.files.test_hostile_paths import CORPUS, FORBIDDEN_CONTENT
from tests.rawhttp import Connection
from tests.servers import RunningServer, ServerName, serve

pytestmark = pytest.mark.slow

EVERY = 9
"""One in so many paths of the corpus, so that each server is asked for some 500 in a second."""

# Each decodes the path by itself; the others are one of these or Python's own `unquote`, too.
DECODERS: list[ServerName] = ["uvicorn", "granian", "hypercorn"]


@pytest.fixture(scope="module", params=DECODERS)
def server(request: pytest.FixtureRequest, root: Path) -> Iterator[RunningServer]:
    env = {"TAILRACE_TEST_DIRECTORY": str(root)}
    with serve("tests.apps.directory:app", request.param, env=env) as running:
        yield running


def on_the_wire(path: str) -> bool:
    """Whether a server takes it at all: longer ones, and what is not ASCII, it refuses itself."""
    return path.isascii() and len(path) < 4000


def test_no_path_leads_out_behind_a_server(server: RunningServer) -> None:
    paths = [path for path in CORPUS if on_the_wire(path)][::EVERY]
    connection = Connection(server.host, server.port)
    for path in paths:
        connection.send(f"/files{path}")
        reply = connection.read_reply()
        assert reply.status in (200, 307, 404), (path, reply.status)
        for forbidden in FORBIDDEN_CONTENT:
            assert forbidden not in reply.body, path
        if reply.status == 307:
            # Ours is relative; Starlette's own, for a name with a line break, stays on its host.
            location = reply.headers["location"]
            assert location.startswith(("./", f"http://{server.host}:{server.port}/files/")), path
        if reply.headers.get("connection", "").lower() == "close":
            connection.close()
            connection = Connection(server.host, server.port)
    connection.close()
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/hello.txt", b"hello"),
        ("/docs/deep/end.txt", b"the end"),
        ("/a%20b%26c%23d%3Fe.txt", b"a name"),
        ("/bad%ff.txt", b"a name"),
        ("/%252e%252e", b"a name"),
        ("/in-docs/up", b"hello"),
    ],
)
def test_a_file_is_served_behind_a_server(server: RunningServer, path: str, content: bytes) -> None:
    with Connection(server.host, server.port) as connection:
        connection.send(f"/files{path}")
        reply = connection.read_reply()
    assert (reply.status, reply.body, reply.complete) == (200, content, True)
