"""Files are offered where the way to the server is proved clear, and nowhere else.

An extension of the protocol must not reach code in between that does not know it: Starlette's own
file classes send by it where it is offered, and a middleware of the application looks for bodies.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.pump import CONNECTION, is_clear
from tailrace.server.extensions import Extensions
from tests.rawhttp import request
from tests.servers import RunningServer, serve

SMALL = b"small\n" * 500
FILES = ["/starlettes", "/static/small.txt", "/small"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.txt").write_bytes(SMALL)
    app, env = "tests.apps.file_responses:app", {"FOLDER": str(folder)}
    with serve(app, "uvicorn-tailrace", env=env) as one:
        yield one


@pytest.mark.parametrize(
    ("prefix", "is_offered"),
    [
        ("", True),
        ("/cors", True),
        ("/base", False),
        ("/gzip", False),
        ("/shouting", False),
        ("/shouting-base", False),
    ],
)
def test_files_are_offered_where_nothing_in_between_may_look_at_bodies(
    server: RunningServer, prefix: str, is_offered: bool
) -> None:
    reply = request(server.host, server.port, f"{prefix}/offered/")
    assert json.loads(reply.body.lower()) == [is_offered, is_offered]


@pytest.mark.parametrize("prefix", ["", "/cors", "/base", "/gzip"])
@pytest.mark.parametrize("path", FILES)
def test_a_file_arrives_whole(server: RunningServer, prefix: str, path: str) -> None:
    reply = request(server.host, server.port, prefix + path)
    assert (reply.status, reply.complete, reply.body) == (200, True, SMALL)


@pytest.mark.parametrize("prefix", ["/shouting", "/shouting-base"])
@pytest.mark.parametrize("path", FILES)
def test_a_middleware_that_changes_bodies_changes_a_file(
    server: RunningServer, prefix: str, path: str
) -> None:
    reply = request(server.host, server.port, prefix + path)
    assert (reply.status, reply.complete, reply.body) == (200, True, SMALL.upper())


def test_a_compressing_middleware_compresses_a_file(server: RunningServer) -> None:
    for path in FILES:
        reply = request(
            server.host, server.port, f"/gzip{path}", headers={"accept-encoding": "gzip"}
        )
        assert reply.headers["content-encoding"] == "gzip"


class Reached:
    """Of a connection what decides."""

    def reached_by(self, send: object) -> bool:
        return send == "the server's"


@pytest.mark.parametrize("name", ["http.response.pathsend", "http.response.zerocopysend"])
def test_it_is_the_send_of_who_asks_that_counts(name: str) -> None:
    extensions = Extensions({CONNECTION: Reached(), "other": {}})

    def ask(send: object, offered: dict[str, Any] = extensions) -> bool:
        return name in offered

    assert ask("the server's")
    assert not ask("another")
    assert not ask("the server's", dict(extensions))
    assert not ask("the server's", {**extensions})
    assert name not in extensions  # nobody here was called with a `send`
    assert "other" in extensions
    del extensions[CONNECTION]
    assert not ask("the server's")  # the response is over


async def application_s_own(message: Any) -> None:
    pass


def test_what_is_of_no_known_server_is_not_clear() -> None:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    @functools.wraps(RequestResponseCycle.send)
    async def disguised(message: Any) -> None:
        pass

    assert is_clear(RequestResponseCycle.send)
    for send in (application_s_own, disguised, asyncio.sleep, print, Path(), None):
        assert not is_clear(send)
    assert not is_clear(functools.partial(application_s_own, {}))
