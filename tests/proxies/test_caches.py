"""Caches that all clients share, between them and streams that caches may keep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxies.running import proxy
from tests.rawhttp import Connection, Reply, request
from tests.servers import HOST, RunningServer, serve

TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve("tests.apps.behind:app", "uvicorn-tailrace") as running:
        yield running


@pytest.fixture(scope="module", params=["varnish-plain", "nginx-cache"])
def cache(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[int]:
    with proxy(request.param, server.port) as port:
        yield port


def ask(port: int, target: str, method: str = "GET", body: bytes = b"") -> Reply:
    return request(HOST, port, f"/v1/stream/{target}", method=method, headers=TEXT, body=body)


def test_a_stream_that_is_made_anew_is_not_answered_from_the_old_one(cache: int) -> None:
    def read_all(path: str) -> list[Reply]:
        return [ask(cache, f"{path}{query}") for query in queries]

    for path in (f"notes-{cache}", f"fork-of-{cache}"):
        source = ask(cache, f"source-{path}", "PUT", b"of both ").headers["stream-next-offset"]
        queries = ["", "?offset=-1", f"?offset={'0' * 16}_{'0' * 16}"]
        fork = {"stream-forked-from": f"/v1/stream/source-{path}"}
        is_fork = path.startswith("fork")
        if is_fork:
            queries.append(f"?offset={source}")
        fields = {**TEXT, **(fork if is_fork else {})}
        for word in (b"old", b"new"):
            made = request(
                HOST, cache, f"/v1/stream/{path}", method="PUT", headers=fields, body=word
            )
            assert made.status == 201
            tail = made.headers["stream-next-offset"]
            assert ask(cache, path, "POST", b" and more").status == 204
            for _ in range(2):
                for got in read_all(path):
                    assert (got.status, got.body[-12:].split()[0]) == (200, word)
            first, second = (ask(cache, f"{path}?offset={tail}") for _ in range(2))
            assert first.body == second.body == b" and more"
            assert second.headers["x-cache"] in ("1", "HIT")  # whose URL no other stream has
            assert ask(cache, path, "DELETE").status == 204
            assert ask(cache, path).status == 404


@pytest.mark.parametrize("accept", ["text/event-stream", "application/jsonl", "text/plain"])
def test_a_run_is_not_given_to_somebody_else(cache: int, accept: str) -> None:
    """Nor held back until it ends."""
    for _ in range(2):
        with Connection(HOST, cache) as connection:
            connection.send(f"/run/{accept.partition('/')[2]}", headers={"accept": accept})
            head = connection.read_head()
            assert head.status == 200
            assert head.headers["x-cache"] in ("0", "MISS", "BYPASS")
            came = b""
            while b"line 1" not in came:
                came += (more := connection.read_some())
                assert more
