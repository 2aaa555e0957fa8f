from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from starlette.applications import Starlette
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from tailrace.protocol import ProtocolOptions
from tailrace.store import MemoryStore, Store
from tailrace.streams import Streams
from tailrace.subscriptions import SubscriptionOptions
from tailrace.testing import Client, settle

pytestmark = pytest.mark.anyio

PREFIX = "/v1/stream"
JSON = {"content-type": "application/json"}


def included(streams: Streams) -> ASGIApp:
    app = FastAPI(lifespan=streams.lifespan)
    app.include_router(streams.router(), prefix=PREFIX)
    return app


def included_twice(streams: Streams) -> ASGIApp:
    app, outer = FastAPI(lifespan=streams.lifespan), APIRouter(prefix="/v1")
    outer.include_router(streams.router(), prefix="/stream")
    app.include_router(outer)
    return app


def with_dependencies(streams: Streams) -> ASGIApp:
    app = FastAPI(lifespan=streams.lifespan)
    app.include_router(streams.router(), prefix=PREFIX, dependencies=[Depends(lambda: None)])
    return app


def mounted(streams: Streams) -> ASGIApp:
    app = FastAPI(lifespan=streams.lifespan)
    app.mount(PREFIX, streams.asgi())
    return app


def in_starlette(streams: Streams) -> ASGIApp:
    return Starlette(lifespan=streams.lifespan, routes=[Mount(PREFIX, streams.asgi())])


def in_a_mounted_application(streams: Streams) -> ASGIApp:
    app, inner = FastAPI(lifespan=streams.lifespan), FastAPI()
    inner.include_router(streams.router(), prefix="/stream")
    app.mount("/v1", inner)
    return app


WAYS = [
    included,
    included_twice,
    with_dependencies,
    mounted,
    in_starlette,
    in_a_mounted_application,
]


@pytest.fixture
def streams() -> Streams:
    return Streams(MemoryStore())


async def ask(
    client: Client, method: str, target: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.open(method, target, headers=given, body=body) as exchange:
        start = await exchange.response()
        return start.status, dict(start.headers), await exchange.read_all()


# The protocol ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a", "a"),
        ("/a/b/c", "a/b/c"),
        ("/a%20b", "a b"),
        ("/%C3%A9/x", "\u00e9/x"),
        ("/a%2Fb", "a/b"),
        ("/a%25b", "a%b"),
        ("/docs", "docs"),
    ],
)
async def test_every_method_reaches_a_stream_by_its_path(
    streams: Streams, way: Any, target: str, path: str
) -> None:
    async with Client(way(streams), lifespan=True) as client:
        url = PREFIX + target
        status, headers, _ = await ask(client, "PUT", url, content_type="application/json")
        assert status == 201
        assert headers["location"].endswith(url) or "%" in url
        status, _, _ = await ask(client, "POST", url, b'{"n":1}', content_type=JSON["content-type"])
        assert status == 204
        assert [message.data async for message in streams.read(path)] == [{"n": 1}]
        status, _, body = await ask(client, "GET", f"{url}?offset=-1")
        assert (status, body) == (200, b'[{"n":1}]')
        assert (await ask(client, "HEAD", url))[0] == 200
        assert (await ask(client, "DELETE", url))[0] == 204
        assert (await ask(client, "GET", url))[0] == 404
        assert await streams.list() == []


def included_behind_a_proxy(streams: Streams) -> ASGIApp:
    app = FastAPI(root_path="/api", lifespan=streams.lifespan)
    app.include_router(streams.router(ProtocolOptions(forks=True)), prefix=PREFIX)
    return app


def mounted_behind_a_proxy(streams: Streams) -> ASGIApp:
    app = FastAPI(root_path="/api", lifespan=streams.lifespan)
    app.mount(PREFIX, streams.asgi(ProtocolOptions(forks=True)))
    return app


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("way", [included_behind_a_proxy, mounted_behind_a_proxy])
async def test_a_proxy_that_takes_off_its_part_of_the_path_changes_no_name(
    streams: Streams, way: Any
) -> None:
    async with Client(way(streams), lifespan=True) as client:
        status, headers, _ = await ask(
            client, "PUT", f"{PREFIX}/a/b", b"x", content_type="text/plain"
        )
        assert status == 201
        assert headers["location"] == f"http://testserver/api{PREFIX}/a/b"
        assert [info.path for info in await streams.list()] == ["a/b"]
        forked: dict[str, Any] = {"stream_forked_from": f"/api{PREFIX}/a/b"}
        assert (await ask(client, "PUT", f"{PREFIX}/c", **forked))[0] == 201


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_nothing_is_open_to_pages_of_other_sites_unless_they_are_named(
    streams: Streams, way: Any
) -> None:
    async with Client(way(streams), lifespan=True) as client:
        status, headers, _ = await ask(
            client,
            "OPTIONS",
            f"{PREFIX}/a/b",
            origin="https://example.org",
            access_control_request_method="PUT",
        )
        assert status == 204
        assert not any(name.startswith("access-control") for name in headers)
        for method in ("PUT", "POST", "DELETE"):
            for origin in ("https://example.org", "null"):
                status, _, body = await ask(client, method, f"{PREFIX}/a/b", origin=origin)
                assert status == 403
                assert b"origin_not_allowed" in body


async def test_pages_of_origins_that_are_named_are_answered(streams: Streams) -> None:
    app = FastAPI(lifespan=streams.lifespan)
    options = ProtocolOptions(cors_origins=("https://example.org",))
    app.include_router(streams.router(options), prefix=PREFIX)
    async with Client(app, lifespan=True) as client:
        status, headers, _ = await ask(
            client, "OPTIONS", f"{PREFIX}/a/b", origin="https://example.org"
        )
        assert status == 204
        assert headers["access-control-allow-origin"] == "https://example.org"
        assert "PUT" in headers["access-control-allow-methods"]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_method_that_streams_do_not_have_is_refused_in_the_protocol_s_words(
    streams: Streams, way: Any
) -> None:
    async with Client(way(streams), lifespan=True) as client:
        status, headers, body = await ask(client, "PATCH", f"{PREFIX}/a")
        assert status == 405
        assert headers["content-type"] == "application/problem+json"
        assert b"method_not_allowed" in body


async def test_a_fork_names_its_source_by_its_url(streams: Streams) -> None:
    await streams.append("a", 1)
    app = FastAPI(lifespan=streams.lifespan)
    app.mount(PREFIX, streams.asgi(ProtocolOptions(forks=True)))
    async with Client(app, lifespan=True) as client:
        status, _, _ = await ask(client, "PUT", f"{PREFIX}/b", stream_forked_from=f"{PREFIX}/a")
        assert status == 201
    assert (await streams.head("b")).forked_from == "a"


async def test_our_own_streams_are_not_reached(streams: Streams) -> None:
    async with Client(included(streams), lifespan=True) as client:
        for method in ("GET", "PUT", "POST", "DELETE"):
            status, _, _ = await ask(client, method, f"{PREFIX}/__ds/workers/x")
            assert status in (404, 405)


async def test_options_are_passed_on(streams: Streams) -> None:
    app = FastAPI()
    app.include_router(streams.router(ProtocolOptions(max_append_bytes=3)), prefix=PREFIX)
    async with Client(app) as client:
        await ask(client, "PUT", f"{PREFIX}/a")
        status, _, _ = await ask(client, "POST", f"{PREFIX}/a", b"1234")
        assert status == 413


async def test_the_protocol_needs_no_lifespan(streams: Streams) -> None:
    app = FastAPI()
    app.include_router(streams.router(), prefix=PREFIX)
    async with Client(app) as client:
        assert (await ask(client, "PUT", f"{PREFIX}/a"))[0] == 201
    await streams.aclose()


async def test_other_routes_go_on_as_they_are(streams: Streams) -> None:
    app = FastAPI(lifespan=streams.lifespan)
    app.include_router(streams.router(), prefix=PREFIX)

    @app.get("/other")
    def other() -> str:
        return "here"

    async with Client(app, lifespan=True) as client:
        assert (await ask(client, "GET", "/other"))[2] == b'"here"'
        assert (await ask(client, "GET", "/openapi.json"))[0] == 200


# Who may -----------------------------------------------------------------------------------------


def only_friends(x_name: Annotated[str, Header()] = "") -> None:
    if x_name != "friend":
        raise HTTPException(403)


@pytest.mark.parametrize("place", ["include", "outer", "application"])
async def test_dependencies_keep_others_out(streams: Streams, place: str) -> None:
    guards = [Depends(only_friends)]
    app = FastAPI(lifespan=streams.lifespan, dependencies=guards if place == "application" else [])
    outer = APIRouter(dependencies=guards if place == "outer" else [])
    inner = guards if place == "include" else []
    outer.include_router(streams.router(), prefix=PREFIX, dependencies=inner)
    app.include_router(outer)
    async with Client(app, lifespan=True) as client:
        for method in ("PUT", "GET", "POST", "DELETE", "HEAD"):
            assert (await ask(client, method, f"{PREFIX}/a"))[0] == 403
        assert (await ask(client, "POST", f"{PREFIX}/__ds/runs/a/stop"))[0] == 403
        assert await streams.list() == []
        assert (await ask(client, "PUT", f"{PREFIX}/a", x_name="friend"))[0] == 201


async def test_a_limit_for_bodies_of_fastapi_s_is_kept(streams: Streams) -> None:
    app = FastAPI(lifespan=streams.lifespan)
    if "max_body_size" in inspect.signature(app.include_router).parameters:
        app.include_router(streams.router(), prefix=PREFIX, max_body_size=3)
    else:  # FastAPI before 0.164 has no limit of its own: there Starlette's is used
        app.include_router(streams.router(), prefix=PREFIX)
        app.add_middleware(RequestBodyLimitMiddleware, max_body_size=3)
    async with Client(app, lifespan=True) as client:
        await ask(client, "PUT", f"{PREFIX}/a")
        assert (await ask(client, "POST", f"{PREFIX}/a", b"1234"))[0] == 413


# Stopping a run ----------------------------------------------------------------------------------


async def endless() -> AsyncIterator[int]:
    while True:
        yield 1
        await anyio.sleep(0.01)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("method", "target"), [("POST", "__ds/runs/a/b/stop"), ("DELETE", "__ds/runs/a/b")]
)
async def test_a_run_is_stopped_over_http(
    streams: Streams, way: Any, method: str, target: str
) -> None:
    async with Client(way(streams), lifespan=True) as client:
        run = await streams.run("a/b", endless(), on_disconnect="continue")
        assert (await ask(client, method, f"{PREFIX}/{target}"))[0] == 204
        await settle()
        assert run.status == "cancelled"
        assert (await ask(client, method, f"{PREFIX}/{target}"))[0] == 404


async def test_a_run_is_stopped_over_http_on_any_worker() -> None:
    store: Store = MemoryStore()
    async with Streams(store) as owner:
        run = await owner.run("a", endless(), on_disconnect="continue")
        async with Client(included(Streams(store)), lifespan=True) as client:
            assert (await ask(client, "POST", f"{PREFIX}/__ds/runs/a/stop"))[0] == 204
            await settle()
            assert run.status == "cancelled"


async def test_a_run_is_not_stopped_by_a_page_of_another_site(streams: Streams) -> None:
    async with Client(included(streams), lifespan=True) as client:
        run = await streams.run("a", endless(), on_disconnect="continue")
        for method, end in (("DELETE", ""), ("POST", "/stop")):
            url = f"{PREFIX}/__ds/runs/a{end}"
            assert (await ask(client, method, url, origin="https://example.org"))[0] == 403
        assert run.status == "running"


async def test_a_run_is_stopped_by_a_page_whose_origin_is_named(streams: Streams) -> None:
    app = FastAPI(lifespan=streams.lifespan)
    options = ProtocolOptions(cors_origins=("*",))
    app.include_router(streams.router(options), prefix=PREFIX)
    async with Client(app, lifespan=True) as client:
        url = f"{PREFIX}/__ds/runs/a"
        status, headers, _ = await ask(client, "OPTIONS", url, origin="https://example.org")
        assert status == 204
        assert "DELETE" in headers["access-control-allow-methods"]
        _, headers, _ = await ask(client, "DELETE", url, origin="https://example.org")
        assert headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
async def test_a_run_is_not_stopped_by_anything_else(streams: Streams, method: str) -> None:
    async with Client(included(streams), lifespan=True) as client:
        run = await streams.run("a", endless(), on_disconnect="continue")
        assert (await ask(client, method, f"{PREFIX}/__ds/runs/a"))[0] == 405
        assert (await ask(client, "POST", f"{PREFIX}/__ds/runs/a"))[0] == 405
        assert run.status == "running"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_else_is_asked_of_a_run_is_told_what_there_is(
    streams: Streams, method: str
) -> None:
    async with Client(included(streams), lifespan=True) as client:
        status, headers, body = await ask(client, method, f"{PREFIX}/__ds/runs/a")
        assert (status, headers["allow"]) == (405, "DELETE, POST, OPTIONS")
        assert (b"runs do not support 'GET'" in body) is (method == "GET")
        assert bool(body) is (method == "GET")


async def test_a_store_that_cannot_be_opened_is_a_problem_not_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else" * 100)
    streams = Streams(f"sqlite:///{tmp_path}/file")
    app = FastAPI()  # whose lifespan was forgotten
    app.include_router(streams.router(), prefix=PREFIX)
    async with Client(app) as client:
        status, headers, body = await ask(client, "GET", f"{PREFIX}/a")
        assert (status, headers["content-type"]) == (503, "application/problem+json")
        assert b"store_corrupt" in body


async def test_subscriptions_without_the_lifespan_say_so(streams: Streams) -> None:
    app = FastAPI()
    router = streams.router(subscriptions=SubscriptionOptions())
    app.include_router(router, prefix=PREFIX)
    async with Client(app) as client:
        status, _, body = await ask(client, "GET", f"{PREFIX}/__ds/subscriptions/a")
        assert (status, b"lifespan" in body) == (503, True)


# Subscriptions -----------------------------------------------------------------------------------


async def test_subscriptions_are_there_where_they_are_asked_for(streams: Streams) -> None:
    app = FastAPI(lifespan=streams.lifespan)
    app.include_router(streams.router(subscriptions=SubscriptionOptions()), prefix=PREFIX)
    async with Client(app, lifespan=True) as client:
        status, _, body = await ask(client, "GET", f"{PREFIX}/__ds/jwks.json")
        assert status == 200
        assert b"Ed25519" in body


async def test_subscriptions_are_not_there_otherwise(streams: Streams) -> None:
    async with Client(included(streams), lifespan=True) as client:
        assert (await ask(client, "GET", f"{PREFIX}/__ds/jwks.json"))[0] == 404


async def test_subscriptions_cannot_be_asked_for_too_late(streams: Streams) -> None:
    async with streams:
        with pytest.raises(RuntimeError, match="before"):
            streams.asgi(subscriptions=SubscriptionOptions())
