"""The application: where it is mounted, what it answers beside streams, what cannot break it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from tailrace.errors import StoreFull, StoreUnavailable
from tailrace.live import Hub
from tailrace.protocol import DurableStreams, ProtocolOptions
from tailrace.protocol.reply import METHODS
from tailrace.store import Append, Appended, MemoryStore, StreamInfo
from tailrace.testing import Client
from tests.protocol.asking import ROOT, streams

pytestmark = pytest.mark.anyio

# Where it is -------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["", "/streams", "/a/b/c"])
async def test_it_can_be_mounted_anywhere(root: str) -> None:
    app: Any = DurableStreams(MemoryStore(), ProtocolOptions(forks=True))
    if root:
        app = Starlette(routes=[Mount(root, app)])
    async with Client(app) as client:
        async with client.open("PUT", f"{root}/a/b", body=b"x") as exchange:
            start = await exchange.response()
            assert start.status == 201
            assert start.headers["location"] == f"http://testserver{root}/a/b"
        forked = {"stream-forked-from": f"{root}/a/b"}
        async with client.open("PUT", f"{root}/c", headers=forked) as exchange:
            assert (await exchange.response()).status == 201
        async with client.open("GET", f"{root}/c") as exchange:
            assert await exchange.read_all() == b"x"


async def test_mounts_within_mounts() -> None:
    app = Starlette(
        routes=[Mount("/v1", Starlette(routes=[Mount("/stream", DurableStreams(MemoryStore()))]))]
    )
    async with Client(app) as client:
        async with client.open("PUT", f"{ROOT}/a") as exchange:
            assert (await exchange.response()).headers["location"].endswith(f"{ROOT}/a")


async def test_names_are_what_the_url_says_unescaped() -> None:
    async with streams() as site:
        await site.put("Gr%C3%B6%C3%9Fe/a%20b%2Fc", b"x")
        assert (await site.store.head("Größe/a b/c")).path == "Größe/a b/c"


@pytest.mark.parametrize("path", ["", "__ds", "__ds/runs/a", "%5F_ds/runs/a"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
async def test_what_is_no_stream_is_not_there(path: str, method: str) -> None:
    async with streams() as site:
        got = await site.ask(method, path, content_type="text/plain")
        assert got.status == 404


@pytest.mark.parametrize("path", ["a//b", "/a", "a/", "a/../b", "%2E%2E/a", "a%00b", "a%FFb"])
async def test_a_path_that_can_be_no_name(path: str) -> None:
    async with streams() as site:
        got = await site.put(path)
        assert (got.status, got.problem["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["__ds", "__ds/", "__ds/jwks.json"])
async def test_what_is_reserved_is_the_control_applications(path: str) -> None:
    asked = []

    async def control(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with streams(control=control) as site:
        assert (await site.get(path)).status == 202
        assert asked == [f"{ROOT}/{path}"]
        assert (await site.get("__dsx")).status == 404


async def test_what_a_server_may_leave_out_of_a_scope() -> None:
    app = DurableStreams(MemoryStore())
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    for method in ("PUT", "GET", "DELETE"):
        await app({"type": "http", "method": method, "path": "/s"}, receive, send)
    assert statuses == [201, 200, 204]


async def test_other_protocols_are_refused() -> None:
    app = DurableStreams(MemoryStore())
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket"}, receive, send)
    assert sent[0]["type"] == "websocket.close"


async def test_of_a_lifespan_it_has_nothing_to_do() -> None:
    asked = iter(["lifespan.startup", "lifespan.shutdown"])
    said: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(asked)}

    async def send(message: Any) -> None:
        said.append(message["type"])

    await DurableStreams(MemoryStore())({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# Methods and origins -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "PROPFIND"])
async def test_a_method_that_streams_do_not_have(method: str) -> None:
    async with streams() as site:
        got = await site.ask(method, "s")
        assert got.status == 405
        assert got.headers["allow"] == METHODS.decode()


@pytest.mark.parametrize("path", ["s", "", "a//b"])
async def test_a_page_of_another_origin_may_ask_what_it_may_do(path: str) -> None:
    async with streams(options=ProtocolOptions(cors_origins=("*",))) as site:
        got = await site.ask(
            "OPTIONS", path, origin="https://a.example", access_control_request_method="PUT"
        )
        assert got.status == 204
        assert got.headers["access-control-allow-origin"] == "*"
        assert got.headers["allow"] == METHODS.decode()
        assert int(got.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_without_a_word_nothing_is_open_to_pages_of_other_sites(method: str) -> None:
    async with streams() as site:
        await site.put("s", b"kept")
        asked = await site.ask(
            "OPTIONS", "s", origin="https://a.example", access_control_request_method=method
        )
        assert not any(name.startswith("access-control") for name in asked.headers)
        for headers in (
            {"origin": "https://a.example"},
            {"origin": "null"},
            {"sec_fetch_site": "cross-site"},
        ):
            got = await site.ask(method, "s", b"x", content_type="text/plain", **headers)
            assert got.status == 403
            assert got.problem["code"] == "origin_not_allowed"
        read = await site.get("s", origin="https://a.example")
        assert read.body == b"kept"
        assert "access-control-allow-origin" not in read.headers
        assert read.headers["cross-origin-resource-policy"] == "same-origin"
        own = await site.ask(
            method, "s", b"x", content_type="text/plain", origin="http://testserver"
        )
        assert own.status < 500


async def test_a_page_whose_origin_is_named_may_write() -> None:
    options = ProtocolOptions(cors_origins=("https://a.example",))
    async with streams(options=options) as site:
        assert (await site.put("s", origin="https://a.example")).status == 201
        got = await site.post("s", origin="https://b.example")
        assert got.status == 403


async def test_of_several_origins_each_is_told_its_own() -> None:
    origins = ("https://a.example", "https://b.example")
    async with streams(options=ProtocolOptions(cors_origins=origins)) as site:
        await site.put("s", b"x")
        for origin in origins:
            got = await site.get("s", origin=origin)
            assert got.headers["access-control-allow-origin"] == origin
        for headers in ({"origin": "https://c.example"}, {}):
            got = await site.get("s", **headers)
            assert "access-control-allow-origin" not in got.headers
            assert got.headers["vary"] == "Origin"


# The store ---------------------------------------------------------------------------------------


class Opened(MemoryStore):
    """Counts how often it is opened, which takes a while."""

    times = 0

    async def open(self) -> None:
        await anyio.sleep(0.01)
        self.times += 1


async def test_a_store_is_opened_at_the_first_request_and_not_again() -> None:
    store = Opened()
    async with streams(store) as site:
        assert store.times == 0
        await site.put("s")
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(site.put, str(number))
        assert store.times == 1


async def test_a_hub_can_be_shared() -> None:
    hub = Hub(MemoryStore())
    one, other = DurableStreams(hub), DurableStreams(hub)
    app = Starlette(routes=[Mount("/one", one), Mount("/other", other)])
    async with Client(app) as client:
        async with client.open("PUT", "/one/s", body=b"x") as exchange:
            await exchange.response()
        async with client.open("GET", "/other/s") as exchange:
            assert await exchange.read_all() == b"x"


class Broken(MemoryStore):
    """Cannot work, for one reason."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def append(self, path: str, append: Append) -> Appended:
        raise self.error

    async def head(self, path: str) -> StreamInfo:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(StoreFull("/secret", "is full"), 507), (StoreUnavailable("/", "x"), 503)]
)
async def test_a_store_that_cannot_work_is_said_without_its_secrets(
    error: Exception, status: int
) -> None:
    async with streams(Broken(error)) as site:
        got = await site.post("s")
        assert got.status == status
        assert got.headers["retry-after"]
        assert "secret" not in str(got.problem)
        head = await site.ask("HEAD", "s")
        assert (head.status, head.body) == (status, b"")


async def test_a_fault_is_not_hidden() -> None:
    async with streams(Broken(KeyError("bug"))) as site:
        async with site.open("POST", "s", b"x", content_type="text/plain") as exchange:
            assert (await exchange.response()).status == 500
            assert isinstance((await exchange.finished()).error, KeyError)


# Anything ----------------------------------------------------------------------------------------


async def test_middleware_may_write_into_the_headers() -> None:
    app = GZipMiddleware(DurableStreams(MemoryStore()), minimum_size=10)
    zipped = {"accept-encoding": "gzip"}
    async with Client(app) as client:
        async with client.open("PUT", "/s", body=b"x" * 1000) as exchange:
            await exchange.response()
        for headers in (zipped, {}):
            async with client.open("GET", "/s", headers=headers) as exchange:
                start = await exchange.response()
                assert ("content-encoding" in start.headers) == (headers is zipped)


async def test_a_read_that_a_middleware_compresses_has_a_weak_etag() -> None:
    app = GZipMiddleware(DurableStreams(MemoryStore()), minimum_size=10)
    etags = []
    async with Client(app) as client:
        async with client.open("PUT", "/s", body=b"x" * 1000) as exchange:
            await exchange.response()
        for coding in ("identity", "gzip"):
            async with client.open("GET", "/s", headers={"accept-encoding": coding}) as exchange:
                etags.append((await exchange.response()).headers["etag"])
        plain, packed = etags
        assert packed == f"W/{plain}"
        for etag in etags:
            headers = {"accept-encoding": "gzip", "if-none-match": etag}
            async with client.open("GET", "/s", headers=headers) as exchange:
                start = await exchange.response()
                assert (start.status, start.headers["etag"]) == (304, etag)


NAMES = (
    *(b"content-type", b"content-length", b"stream-ttl", b"stream-expires-at", b"stream-closed"),
    *(b"stream-seq", b"stream-forked-from", b"stream-fork-offset", b"stream-fork-sub-offset"),
    *(b"stream-retain-bytes", b"producer-id", b"producer-epoch", b"producer-seq", b"host"),
    *(b"last-event-id", b"if-none-match", b"origin", b"transfer-encoding", b"x-other"),
)
TOKEN = b"0000000000000000_0000000000000000"
values = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"0", b"1", b"true", TOKEN, b"text/plain", b"application/json", b"/s", b"*"]),
)
queries = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"offset=now", b"offset=" + TOKEN, b"offset=-1&live=long-poll&cursor=9"]),
    st.sampled_from([b"offset=-1&live=sse", b"live=sse"]),
)
requests = st.tuples(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    st.one_of(st.sampled_from(["/s", "/t", "/__ds/x", "/"]), st.text(max_size=10)),
    queries,
    st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=6),
    st.sampled_from([b"", b"x", b"[1]", b"{", b"\xff"]),
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
@given(st.lists(requests, min_size=1, max_size=5))
def test_no_request_brings_about_a_fault_of_the_server(asked: list[Any]) -> None:
    anyio.run(answer_all, asked)


async def answer_all(asked: Iterable[Any]) -> None:
    app = DurableStreams(MemoryStore(), ProtocolOptions(long_poll_timeout=0.001))
    for method, path, query, headers, body in asked:
        status, complete = await answered(app, method, path, query, headers, body)
        assert 200 <= status < 500
        assert complete


async def answered(
    app: Any, method: str, path: str, query: bytes, headers: list[Any], body: bytes
) -> tuple[int, bool]:
    """The status, and whether the answer came to its end; a client of SSE leaves."""
    sent: list[Any] = []
    begun = anyio.Event()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        begun.set()

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "root_path": "",
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in headers],
    }
    await app(scope, receive, send)
    for name, value in sent[0]["headers"]:
        assert b"\n" not in name + value
        assert b"\r" not in name + value
    is_stream = (b"content-type", b"text/event-stream") in sent[0]["headers"]
    return sent[0]["status"], is_stream or not sent[-1].get("more_body", False)
