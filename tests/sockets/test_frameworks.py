"""Files and streams, mounted in Litestar, Quart, Django and BlackSheep, work as under Starlette."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rawhttp import Connection, Reply, request
from tests.servers import RunningServer, ServerName, serve

pytestmark = pytest.mark.slow

SERVED: list[tuple[str, ServerName]] = [
    ("litestar", "uvicorn-tailrace"),
    ("quart", "hypercorn"),
    ("django", "uvicorn"),
    ("blacksheep", "granian"),
]
CONTENT = bytes(at % 251 for at in range(300_000))
TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module", params=SERVED, ids=lambda each: "-".join(each))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    framework, name = request.param
    folder = tmp_path_factory.mktemp("files")
    (folder / "film.bin").write_bytes(CONTENT)
    (folder / "a folder").mkdir()
    (folder / "a folder" / "50% of ä.txt").write_bytes(b"named")
    env = {"FRAMEWORK": framework, "FOLDER": str(folder)}
    with serve("tests.apps.frameworks:app", name, env=env) as one:
        yield one


def get(server: RunningServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = request(server.host, server.port, path, headers=named)
    assert reply.complete
    return reply.status, reply.headers, reply.body


def test_the_frameworks_own_pages_are_served_beside(server: RunningServer) -> None:
    status, _, body = get(server, "/own")
    assert (status, body) == (200, b"own")


def test_no_framework_is_in_the_way_to_the_server(server: RunningServer) -> None:
    assert get(server, "/clear/")[2] == b"true"


def test_files_are_found_by_their_names(server: RunningServer) -> None:
    status, headers, body = get(server, "/files/film.bin")
    assert (status, body == CONTENT) == (200, True)
    assert get(server, "/files/film.bin", if_none_match=headers["etag"])[0] == 304
    status, _, body = get(server, "/files/film.bin", range="bytes=1000-200999")
    assert (status, body == CONTENT[1000:201_000]) == (206, True)
    path = "/files/a%20folder/50%25%20of%20%C3%A4.txt"
    assert get(server, path)[2] == b"named"


def test_what_is_not_there_is_not_found(server: RunningServer) -> None:
    for path in ("/files/none", "/files/film.bin/", "/files/%2e%2e/etc/passwd", "/files/a%00b"):
        assert get(server, path)[0] == 404, path


def test_a_directory_is_listed_at_its_slash(server: RunningServer) -> None:
    for path, name in (("/files/", "film.bin"), ("/files/a%20folder/", "50% of ä.txt")):
        status, _, body = get(server, path, accept="application/json")
        assert status == 200
        listing = json.loads(body)
        assert listing["path"] == path.replace("%20", " ")
        assert name in [entry["name"] for entry in listing["entries"]]
    status, headers, _ = get(server, "/files/a%20folder")
    assert (status, headers["location"]) == (307, "./a%20folder/")
    status, _, body = get(server, "/files/a%20folder/?zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert [each.filename for each in archive.infolist() if not each.is_dir()]


def test_a_stream_is_made_appended_to_forked_and_read(server: RunningServer) -> None:
    def ask(method: str, name: str, body: bytes = b"", **headers: str) -> Reply:
        path, at = f"/v1/stream/{name}", (server.host, server.port)
        return request(*at, path, method=method, headers={**TEXT, **headers}, body=body)

    made = ask("PUT", "a/b", b"one ")
    assert (made.status, made.headers["location"]) == (201, f"{server.url}/v1/stream/a/b")
    assert ask("POST", "a/b", b"two").status == 204
    assert get(server, "/v1/stream/a/b?offset=-1")[2] == b"one two"
    source: dict[str, Any] = {"stream-forked-from": "/v1/stream/a/b"}
    assert ask("PUT", "fork", **source).status == 201
    assert get(server, "/v1/stream/fork?offset=-1")[2] == b"one two"
    assert ask("DELETE", "a/b").status == 204
    assert get(server, "/v1/stream/a/b")[0] in (404, 410)  # 410: it is kept for its fork
    assert get(server, "/v1/stream/none")[0] == 404


def test_a_stream_is_followed_live(server: RunningServer) -> None:
    at = (server.host, server.port)
    assert request(*at, "/v1/stream/live", method="PUT", headers=TEXT, body=b"x").status == 201
    with Connection(*at) as connection:
        connection.send("/v1/stream/live?offset=-1&live=sse")
        assert connection.read_head().headers["content-type"].startswith("text/event-stream")
        seen = b""
        while b"data:x" not in seen.replace(b" ", b""):
            seen += connection.read_some()
        request(*at, "/v1/stream/live", method="POST", headers=TEXT, body=b"later")
        while b"later" not in seen:
            seen += connection.read_some()
