"""Files are offered where the way to the server is proved clear, and nowhere else.

An extension of the protocol must not reach code in between that does not know it: Starlette's own
file classes send by it where it is offered, and a middleware of the application looks for bodies.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware.sessions import SessionMiddleware

from tailrace.connection import CONNECTION, is_clear, leads_to
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


class Instrumented:
    """Says that it is what it wraps, and shows all that it has, as wrapt's proxies do."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    async def __call__(self, message: Any) -> None: ...

    @property  # type: ignore[misc] # a proxy lies
    def __class__(self) -> type:
        return type(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def __eq__(self, other: object) -> bool:
        return bool(self.wrapped == other)

    __hash__ = None  # type: ignore[assignment] # as with any __eq__ of one's own


class OfAServer:
    async def send(self, message: Any) -> None: ...


def passing(send: Any) -> Any:
    """A wrapper that is known, and looks at no body."""
    asked: list[Any] = []
    middleware = SessionMiddleware(lambda *those: take(asked, those[2]), secret_key="a")
    scope = {"type": "http", "headers": []}
    with contextlib.suppress(StopIteration):
        middleware(scope, asyncio.sleep, send).send(None)  # type: ignore[arg-type] # nobody receives
    return asked[0]


async def take(asked: list[Any], send: Any) -> None:
    asked.append(send)


def test_what_stands_for_the_servers_send_is_not_it() -> None:
    """Kind of fault: a proxy that instruments a program is equal to what it wraps."""
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    own = OfAServer().send
    assert leads_to(own, own)
    assert leads_to(passing(own), own)
    for send in (Instrumented(own), passing(Instrumented(own)), Instrumented(passing(own))):
        assert not leads_to(send, own)
    cycles = RequestResponseCycle.__new__(RequestResponseCycle).send
    assert is_clear(cycles)
    assert is_clear(passing(cycles))
    assert not is_clear(Instrumented(cycles))
    assert not is_clear(Instrumented(passing(cycles)))
