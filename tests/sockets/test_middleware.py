"""Streams behind a middleware that passes the response on piece by piece, or changes it."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable

import pytest

from tests.apps.live import CHUNK, ITEMS
from tests.servers import RunningServer, ServerName
from tests.sockets.live_server import LiveServer, new_key

GZIP = {"accept-encoding": "gzip"}


@pytest.fixture
def base(shared_server: Callable[..., RunningServer]) -> LiveServer:
    """Starlette's BaseHTTPMiddleware in front."""
    return LiveServer("uvicorn", shared_server("tests.apps.live:behind_base_middleware"))


@pytest.fixture
def base_under_each(
    shared_server: Callable[..., RunningServer], server_name: ServerName
) -> LiveServer:
    """Starlette's BaseHTTPMiddleware in front, under each server, for tests that depend on it."""
    server = shared_server("tests.apps.live:behind_base_middleware", server_name)
    return LiveServer(server_name, server)


@pytest.fixture
def gzip(shared_server: Callable[..., RunningServer]) -> LiveServer:
    """Starlette's GZipMiddleware in front."""
    return LiveServer("uvicorn", shared_server("tests.apps.live:behind_gzip"))


def test_base_middleware_passes_a_chunk_on_while_the_source_waits(
    base: LiveServer, style: str
) -> None:
    key = new_key()
    with base.connect(f"/{style}/waits?key={key}") as connection:
        assert connection.read_head().headers["x-passed"] == "yes"
        assert connection.read_chunk() == b"first"
        assert base.entries(key) == ["started"]
        base.release(key)
        assert connection.read_chunk() == b"second"
        assert connection.read_chunk() == b""


def test_a_client_behind_base_middleware_leaves_while_the_source_waits(base: LiveServer) -> None:
    key = new_key()
    with base.connect(f"/async/waits?key={key}") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
        connection.reset()
    assert base.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_a_client_behind_base_middleware_leaves_while_a_send_is_blocked(
    base: LiveServer, style: str
) -> None:
    key = new_key()
    with base.connect(f"/{style}/endless?key={key}", receive_buffer=4096) as connection:
        base.wait_until_stalled(key)
        connection.reset()
    assert base.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_a_client_behind_base_middleware_that_stops_reading_is_cut_off(
    base: LiveServer, style: str
) -> None:
    key = new_key()
    path = f"/{style}/endless?key={key}&send_timeout=0.2"
    with base.connect(path, receive_buffer=4096) as connection:
        assert base.wait_for(key, "returned") == ["started", "closed", "returned"]
        assert not connection.read_reply().complete


def test_an_error_behind_base_middleware_is_visible(
    base_under_each: LiveServer, style: str
) -> None:
    reply = base_under_each.request(f"/{style}/fails/jsonl?key={new_key()}")
    *items, tail = [json.loads(line) for line in reply.body.splitlines()]
    assert items == [{"n": n} for n in range(ITEMS)]
    assert tail["error"]["code"] == "stream_failed"
    assert not reply.complete


def test_a_raw_body_that_fails_behind_base_middleware_is_cut(
    base_under_each: LiveServer, style: str
) -> None:
    reply = base_under_each.request(f"/{style}/fails/raw?key={new_key()}")
    assert reply.body == CHUNK * ITEMS
    assert not reply.complete


def test_a_raw_stream_behind_base_middleware_is_cut_by_drain(base: LiveServer, style: str) -> None:
    key = new_key()
    with base.connect(f"/{style}/paced?key={key}") as connection:
        connection.read_head()
        assert connection.read_chunk()
        assert base.ask("/drain?timeout=0.1", method="POST") == {"ended": 0, "cut": 1}
        while chunk := connection.read_chunk():
            pass
        assert chunk is None


def test_an_error_behind_base_middleware_is_logged_with_its_traceback(
    base: LiveServer, style: str
) -> None:
    before = base.server.log.count("in make_or_fail")
    key = new_key()
    base.request(f"/{style}/fails/raw?key={key}")
    base.wait_for(key, "returned")
    base.request("/quick")
    assert base.server.log.count("in make_or_fail") == before + 1


def test_a_refusal_behind_base_middleware_has_its_own_status(base: LiveServer, style: str) -> None:
    reply = base.request(f"/{style}/forbidden?key={new_key()}&items=0")
    assert (reply.status, reply.headers["x-passed"]) == (403, "yes")


def test_gzip_middleware_compresses_in_our_place_and_delivers_live(
    gzip: LiveServer, style: str
) -> None:
    key = new_key()
    with gzip.connect(f"/{style}/text?key={key}&compress=1", headers=GZIP) as connection:
        assert connection.read_head().headers["content-encoding"] == "gzip"
        decoder = zlib.decompressobj(wbits=31)
        first = connection.read_chunk()
        assert first is not None
        assert decoder.decompress(first) == b"first " * 200
        assert gzip.entries(key) == ["started"]
        gzip.release(key)
        rest = b""
        while chunk := connection.read_chunk():
            rest += decoder.decompress(chunk)
        assert (rest, chunk, decoder.eof) == (b"second " * 200, b"", True)


def test_events_behind_gzip_middleware_arrive_live(gzip: LiveServer, style: str) -> None:
    key = new_key()
    with gzip.connect(f"/{style}/events?key={key}", headers=GZIP) as connection:
        assert "content-encoding" not in connection.read_head().headers
        assert connection.read_chunk() == b"data: first\n\n"
        gzip.release(key)


def test_what_gzip_middleware_compresses_decodes_to_the_same_bytes(
    gzip: LiveServer, style: str
) -> None:
    key = new_key()
    gzip.release(key)
    reply = gzip.request(f"/{style}/text?key={key}", headers=GZIP)
    assert reply.headers["content-encoding"] == "gzip"
    assert zlib.decompress(reply.body, wbits=31) == b"first " * 200 + b"second " * 200
    assert reply.complete


def test_an_error_behind_gzip_middleware_is_visible(gzip: LiveServer, style: str) -> None:
    reply = gzip.request(f"/{style}/fails/jsonl?key={new_key()}", headers=GZIP)
    decoder = zlib.decompressobj(wbits=31)
    lines = [json.loads(line) for line in decoder.decompress(reply.body).splitlines()]
    assert [*lines[:ITEMS], list(lines[ITEMS])] == [*({"n": n} for n in range(ITEMS)), ["error"]]
    assert not reply.complete


# A middleware that repeats the request's body ----------------------------------------------------


@pytest.mark.parametrize(
    ("app", "server"),
    [
        *(("behind_again", name) for name in ("uvicorn", "uvicorn-h11", "uvloop-tailrace")),
        ("behind_log_body", "uvicorn-tailrace"),  # not plain uvicorn: its connection is hidden
    ],
)
def test_a_client_is_noticed_that_leaves_behind_a_middleware_which_repeats_the_body(
    shared_server: Callable[..., RunningServer], app: str, server: ServerName
) -> None:
    live = LiveServer(server, shared_server(f"tests.apps.live:{app}", server))
    key = new_key()
    with live.connect(f"/async/waits?key={key}") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
    live.wait_for(key, "returned")


@pytest.mark.slow
@pytest.mark.parametrize("app", ["behind_again", "behind_log_body"])
@pytest.mark.parametrize("server", ["uvicorn", "uvicorn-tailrace", "granian", "hypercorn"])
def test_an_idle_stream_behind_it_costs_no_time(
    shared_server: Callable[..., RunningServer], app: str, server: ServerName
) -> None:
    live = LiveServer(server, shared_server(f"tests.apps.live:{app}", server))
    key = new_key()
    with live.connect(f"/async/waits?key={key}") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
        worker = live.server.worker
        before = sum(worker.cpu_times()[:2])
        time.sleep(1)  # CPU is measured over this second
        assert sum(worker.cpu_times()[:2]) - before < 0.1
        live.release(key)
