"""The application's `authorize`: asked for every path that a request touches, in every way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.types import ASGIApp

from tailrace.errors import SubscriptionRefused
from tailrace.protocol import Authorize, ProtocolOptions
from tailrace.store import MemoryStore
from tailrace.streams import Streams
from tailrace.subscriptions import SubscriptionOptions
from tailrace.testing import Client
from tests.examples import ROOT, examples_in, load

pytestmark = pytest.mark.anyio

PREFIX = "/v1/stream"
BEN = "users/ben/letters"
SECRET = "what only Ben may read"
TEXT = {"content-type": "text/plain"}
AS_JSON = {"content-type": "application/json"}


class World:
    """Streams of two users, asked by one of them."""

    def __init__(self, authorize: Authorize | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.streams = Streams(MemoryStore(), authorize=authorize or self.authorize)
        self.app = FastAPI(lifespan=self.streams.lifespan)
        router = self.streams.router(subscriptions=SubscriptionOptions(allow_localhost=True))
        self.app.include_router(router, prefix=PREFIX)
        self.client: Client

        @self.app.api_route("/show/{path:path}", methods=["GET", "HEAD"])
        async def show(path: str, request: Request) -> Any:
            return self.streams.subscribe(path, request, start="start")

        @self.app.get("/run/{path:path}")
        async def run(path: str, request: Request) -> Any:
            work = await self.streams.run(path, words(), on_disconnect="continue")
            return work.response(request)

    async def authorize(self, request: Request, action: str, path: str) -> None:
        self.asked.append((action, path))
        if not path.startswith(f"users/{request.headers.get('user', 'nobody')}/"):
            raise HTTPException(403, "that is not yours")

    async def ask(
        self, method: str, target: str, body: bytes = b"", user: str = "ann", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        self.asked.clear()
        given = {"user": user, **{name.replace("_", "-"): each for name, each in headers.items()}}
        async with self.client.open(method, target, headers=given, body=body) as exchange:
            start = await exchange.response()
            return start.status, dict(start.headers), await exchange.read_all()

    async def api(self, method: str, target: str, told: Any = None, **more: str) -> tuple[int, Any]:
        body = b"" if told is None else json.dumps(told).encode()
        url = f"{PREFIX}/__ds/subscriptions/{target}"
        got = await self.ask(method, url, body, **{"content_type": "application/json", **more})
        return got[0], json.loads(got[2] or b"null")


async def words() -> AsyncIterator[str]:
    yield "word"


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    async with Client(made.app, lifespan=True) as client:
        made.client = client
        await made.streams.create(BEN, content_type="text/plain")
        await made.streams.append(BEN, SECRET)
        yield made


# The protocol ------------------------------------------------------------------------------------

CLOSED = {"stream_closed": "true"}
FORKED = {"stream_forked_from": BEN}


@pytest.mark.parametrize("path", [BEN, "users/ben/nothing", "users%2Fben%2Fletters", "else"])
@pytest.mark.parametrize(
    ("method", "query", "body", "headers"),
    [
        ("GET", "", b"", {}),
        ("GET", "?offset=now", b"", {}),
        ("GET", "?offset=-1&live=sse", b"", {}),
        ("GET", "?offset=-1&live=long-poll", b"", {}),
        ("HEAD", "", b"", {}),
        ("DELETE", "", b"", {}),
        ("PUT", "", b"", {}),
        ("PUT", "", b"x", {}),
        ("PUT", "", b"", CLOSED),
        ("POST", "", b"x", {}),
        ("POST", "", b"", {}),
        ("POST", "", b"", CLOSED),
        ("POST", "", b"x", CLOSED),
    ],
)
async def test_no_verb_passes_it_and_none_tells_whether_there_is_a_stream(
    path: str, method: str, query: str, body: bytes, headers: dict[str, str]
) -> None:
    async with world() as it:
        given = {**headers, "content_type": "text/plain"}
        status, fields, told = await it.ask(method, f"{PREFIX}/{path}{query}", body, **given)
        assert status == 403
        assert fields["content-type"] == "application/problem+json"
        assert not any(name.startswith("stream-") for name in fields)
        if method != "HEAD":
            problem = json.loads(told)
            assert (problem["code"], problem["detail"]) == ("access_refused", "that is not yours")
        assert [path for _, path in it.asked] == [path.replace("%2F", "/")]
        info = await it.streams.head(BEN)
        assert not info.closed
        assert len(await it.streams.list()) == 1


async def test_who_may_does_everything_with_its_own() -> None:
    async with world() as it:
        url = f"{PREFIX}/users/ann/a"
        asked = []
        for method, target, body, headers in (
            ("PUT", url, b"x", {}),
            ("POST", url, b"y", {}),
            ("GET", f"{url}?offset=-1", b"", {}),
            ("HEAD", url, b"", {}),
            ("PUT", f"{url}b", b"", {"stream_forked_from": url}),
            ("POST", url, b"z", CLOSED),
            ("DELETE", url, b"", {}),
        ):
            got = await it.ask(method, target, body, **{"content_type": "text/plain", **headers})
            assert got[0] < 300, (method, got)
            asked.append([action for action, _ in it.asked])
        assert asked == [
            ["create", "append"],
            ["append"],
            ["read"],
            ["read"],
            ["create", "fork-from"],
            ["close", "append"],
            ["delete"],
        ]


@pytest.mark.parametrize(
    "source",
    [
        BEN,
        f"{PREFIX}/{BEN}",
        "users%2Fben%2Fletters",
        f"{PREFIX}/users/%62en/letters",
        f"{PREFIX}/users/ann/../ben/letters",
        f"{PREFIX}/users/ann/%2e%2e/ben/letters",
        "users/ben/not-there",
        f"/{BEN}",
        f"http://testserver{PREFIX}/{BEN}",
    ],
)
async def test_a_fork_is_a_read_of_its_source(source: str) -> None:
    async with world() as it:
        url = f"{PREFIX}/users/ann/copy"
        for body in (b"", b"and more"):
            status, _, _ = await it.ask("PUT", url, body, stream_forked_from=source)
            assert status in (400, 403, 404)
            if status == 403:
                assert it.asked[-1][0] == "fork-from"
                assert it.asked[-1][1].startswith("users/ben/")
            assert (await it.ask("GET", url))[0] == 404


async def test_a_fork_of_a_stream_that_is_not_there_is_refused_as_one_of_a_stream_that_is() -> None:
    async with world() as it:
        answers = []
        for source in (BEN, "users/ben/letterz"):
            got = await it.ask("PUT", f"{PREFIX}/users/ann/c", stream_forked_from=source)
            answers.append((got[0], got[2]))
        assert answers[0] == answers[1]


async def test_a_hook_that_fails_is_a_fault_and_nothing_is_done() -> None:
    def hook(request: Any, action: Any, path: str) -> Any:
        return path == "mine"

    streams = Streams(MemoryStore(), authorize=hook)
    app = FastAPI(lifespan=streams.lifespan)
    app.include_router(streams.router(), prefix=PREFIX)
    async with Client(app, lifespan=True) as client:
        async with client.open("PUT", f"{PREFIX}/mine", headers=TEXT, body=b"x") as exchange:
            assert (await exchange.response()).status == 500
            assert isinstance((await exchange.finished()).error, TypeError)
        assert await streams.list() == []


# Other ways to the same streams ------------------------------------------------------------------


@pytest.mark.parametrize("target", [f"{PREFIX}/{BEN}", f"/show/{BEN}"])
async def test_a_refusal_is_one_whatever_its_header_fields_and_words_are(target: str) -> None:
    async def authorize(request: Request, action: str, path: str) -> None:
        headers: Any = {
            "WWW-Authenticate": 'Basic realm="\u017elu\u0165"',
            "Retry-After": 5,
            "X-Name": "a\r\nset-cookie: b",
            "X Name": "c",
        }
        raise HTTPException(401, "half \ud83d a character", headers)

    world = World(authorize)
    async with Client(world.app, lifespan=True) as world.client:
        status, headers, _ = await world.ask("GET", target)
    assert status == 401
    assert headers["www-authenticate"].encode("latin-1") == 'Basic realm="\u017elu\u0165"'.encode()
    assert headers["retry-after"] == "5"
    assert not {"x-name", "x name", "set-cookie"} & set(headers)


@pytest.mark.parametrize("way", ["show", "run"])
async def test_a_response_of_an_endpoint_asks_too(way: str) -> None:
    async with world() as it:
        await it.streams.run("users/ben/run", words(), on_disconnect="continue")
        name = BEN if way == "show" else "users/ben/run"
        for path in (name, "users/ben/nothing"):
            status, fields, told = await it.ask("GET", f"/{way}/{path}")
            assert (status, json.loads(told)["code"]) == (403, "access_refused")
            assert fields["content-security-policy"] == "sandbox"
            assert it.asked == [("read", path)]
        assert (await it.ask("HEAD", f"/show/{BEN}"))[0] == 403
        status, _, told = await it.ask("GET", "/run/users/ben/run", user="ben")
        assert status == 200
        assert b"word" in told


async def test_a_reader_that_is_refused_is_no_client_of_a_run() -> None:
    async with world() as it:

        @it.app.get("/wait")
        async def wait(request: Request) -> Any:
            run = await it.streams.run("users/ben/wait", forever(), on_disconnect="cancel")
            return run.response(request)

        with anyio.fail_after(10):
            assert (await it.ask("GET", "/wait"))[0] == 403
            run = await it.streams.run("users/ben/wait", words())
            assert run.status == "running"
            await run.stop()


async def forever() -> AsyncIterator[int]:
    yield 1
    await anyio.sleep_forever()


@pytest.mark.parametrize(("method", "end"), [("DELETE", ""), ("POST", "/stop")])
async def test_stopping_a_run_is_asked_for(method: str, end: str) -> None:
    async with world() as it:
        run = await it.streams.run("users/ben/run", forever(), on_disconnect="continue")
        for path in ("users/ben/run", "users/ben/no-run"):
            got = await it.ask(method, f"{PREFIX}/__ds/runs/{path}{end}")
            assert got[0] == 403
            assert it.asked == [("stop", path)]
        assert run.status == "running"
        url = f"{PREFIX}/__ds/runs/users/ben/run{end}"
        assert (await it.ask(method, url, user="ben"))[0] == 204
        await run._work.done.wait()


# Subscriptions -----------------------------------------------------------------------------------

WAKES = {"type": "pull-wake", "wake_stream": "users/ann/wakes"}


@pytest.mark.parametrize(
    "told",
    [
        {**WAKES, "streams": [BEN]},
        {**WAKES, "streams": ["users/ann/a", BEN]},
        {**WAKES, "streams": ["/users/ben/letters/"]},
        {**WAKES, "pattern": "users/ben/**"},
        {**WAKES, "pattern": "users/*/letters"},
        {**WAKES, "pattern": "**"},
        {**WAKES, "pattern": "users/ann/**", "streams": [BEN]},
        {"type": "pull-wake", "wake_stream": BEN, "streams": ["users/ann/a"]},
        {"type": "webhook", "webhook": {"url": "http://localhost:1/"}, "streams": [BEN]},
        {"type": "webhook", "webhook": {"url": "http://localhost:1/"}, "pattern": "**"},
    ],
)
async def test_a_subscription_names_no_stream_that_its_maker_may_not_follow(told: Any) -> None:
    async with world() as it:
        status, refused = await it.api("PUT", "s", told)
        assert (status, refused["error"]["code"]) == (403, "ACCESS_REFUSED")
        assert (await it.api("GET", "s", user="ben"))[0] == 404


@pytest.mark.parametrize(
    "pattern",
    ["users/ann/../ben/*", "users/ann//**", "users/ann/./*", "users/ann/\x00/**", "__ds/**", "/"],
)
async def test_a_pattern_is_spelt_as_the_paths_that_it_meets(pattern: str) -> None:
    async with world() as it:
        status, refused = await it.api("PUT", "s", {**WAKES, "pattern": pattern})
        assert (status, refused["error"]["code"], it.asked) == (400, "INVALID_REQUEST", [])


async def test_a_subscription_to_ones_own_works_and_its_worker_acks_by_its_token() -> None:
    async with world() as it:
        await it.streams.create("users/ann/wakes")
        await it.streams.append("users/ann/a", 1)
        told = {**WAKES, "pattern": "users/ann/*", "streams": ["users/ann/b"]}
        status, _ = await it.api("PUT", "s", told)
        assert status == 201
        assert it.asked == [
            ("subscribe", "users/ann/b"),
            ("list", "users/ann/*"),
            ("subscribe", "users/ann/*"),
            ("append", "users/ann/wakes"),
        ]
        await it.streams.append("users/ann/a", 2)
        status, claimed = await it.api("POST", "s/claim", {"worker": "w"})
        assert status == 200
        wake = {key: claimed[key] for key in ("wake_id", "generation")}
        authorization = f"Bearer {claimed['token']}"
        status, _ = await it.api("POST", "s/ack", wake, authorization=authorization, user="nobody")
        assert status == 200


@pytest.mark.parametrize(
    ("method", "target", "told"),
    [
        ("GET", "s", None),
        ("DELETE", "s", None),
        ("POST", "s/claim", {"worker": "w"}),
        ("POST", "s/streams", {"streams": ["users/ann/a"]}),
        ("DELETE", "s/streams/users/ann/a", None),
        ("PUT", "s", {"type": "pull-wake", "wake_stream": "users/ben/w", "streams": [BEN]}),
    ],
)
async def test_the_subscription_of_somebody_else_is_not_seen_or_changed(
    method: str, target: str, told: Any
) -> None:
    async with world() as it:
        mine = {"type": "pull-wake", "wake_stream": "users/ben/w", "streams": [BEN]}
        assert (await it.api("PUT", "s", mine, user="ben"))[0] == 201
        status, refused = await it.api(method, target, told)
        assert status == 403
        assert BEN not in json.dumps(refused)
        status, still = await it.api("GET", "s", user="ben")
        assert (status, [each["path"] for each in still["streams"]]) == (200, [BEN])


class Overtaken(World):
    """A hook that takes its time once: meanwhile Ben gives the name to a subscription of his."""

    meanwhile: Any = None

    async def authorize(self, request: Request, action: str, path: str) -> None:
        await super().authorize(request, action, path)
        before, self.meanwhile = self.meanwhile, None
        if before is not None:
            await before()


async def test_a_subscription_that_took_the_name_of_another_is_not_deleted_with_it() -> None:
    made = Overtaken()
    async with Client(made.app, lifespan=True) as client:
        made.client = client
        ann = {"type": "pull-wake", "wake_stream": "users/ann/w", "streams": ["users/ann/a"]}
        ben = {"type": "pull-wake", "wake_stream": "users/ben/w", "streams": [BEN]}
        assert (await made.api("PUT", "s", ann))[0] == 201

        async def replace() -> None:
            assert (await made.api("DELETE", "s"))[0] == 204
            assert (await made.api("PUT", "s", ben, user="ben"))[0] == 201

        made.meanwhile = replace
        assert (await made.api("DELETE", "s"))[0] == 204
        assert (await made.api("GET", "s", user="ben"))[0] == 200


@pytest.mark.parametrize(
    ("method", "target", "told", "status"),
    [
        ("POST", "s/streams", {"streams": ["users/ann/b"]}, 404),
        ("DELETE", "s/streams/users/ann/a", None, 204),
    ],
)
async def test_a_subscription_that_took_the_name_of_another_is_not_changed_with_it(
    method: str, target: str, told: Any, status: int
) -> None:
    class Ruled(Overtaken):
        async def authorize(self, request: Request, action: str, path: str) -> None:
            if request.headers["user"] != "ruler":
                await super().authorize(request, action, path)

    made = Ruled()
    async with Client(made.app, lifespan=True) as client:
        made.client = client
        ann = {"type": "pull-wake", "wake_stream": "users/ann/w", "streams": ["users/ann/a"]}
        ruled = {"type": "pull-wake", "wake_stream": "w", "streams": ["users/ann/a"]}
        assert (await made.api("PUT", "s", ann))[0] == 201

        async def replace() -> None:
            assert (await made.api("DELETE", "s"))[0] == 204
            assert (await made.api("PUT", "s", ruled, user="ruler"))[0] == 201

        async def ask_for_the_subscription() -> None:
            made.meanwhile = replace  # not while it is asked for the stream alone

        made.meanwhile = ask_for_the_subscription
        assert (await made.api(method, target, told))[0] == status
        got = (await made.api("GET", "s", user="ruler"))[1]
        assert [each["path"] for each in got["streams"]] == ["users/ann/a"]


async def test_a_claim_that_is_refused_takes_no_lease() -> None:
    made = Overtaken()
    async with Client(made.app, lifespan=True) as client:
        made.client = client
        for user in ("ann", "ben"):
            await made.streams.create(f"users/{user}/w")
            await made.streams.create(f"users/{user}/letters")
        ann = {"type": "pull-wake", "wake_stream": "users/ann/w", "streams": ["users/ann/letters"]}
        ben = {"type": "pull-wake", "wake_stream": "users/ben/w", "streams": [BEN]}
        assert (await made.api("PUT", "s", ann))[0] == 201

        async def replace() -> None:
            assert (await made.api("DELETE", "s"))[0] == 204
            assert (await made.api("PUT", "s", ben, user="ben"))[0] == 201
            await made.streams.append(BEN, 1)

        made.meanwhile = replace
        assert (await made.api("POST", "s/claim", {"worker": "ann's"}))[0] == 403
        assert (await made.api("POST", "s/claim", {"worker": "ben's"}, user="ben"))[0] == 200


async def test_a_subscription_is_not_deleted_whatever_error_of_ours_refuses_it() -> None:
    def authorize(request: Request, action: str, path: str) -> None:
        if "user" not in request.headers:
            raise SubscriptionRefused("NOT_YOURS", 404, "there is none for you")

    made = World(authorize)
    async with Client(made.app, lifespan=True) as client:
        made.client = client
        told = {"type": "pull-wake", "wake_stream": "w", "streams": ["a"]}
        assert (await made.api("PUT", "s", told))[0] == 201
        url = f"{PREFIX}/__ds/subscriptions/s"
        async with client.open("DELETE", url) as exchange:
            assert (await exchange.response()).status == 404
        assert (await made.api("GET", "s"))[0] == 200


async def test_a_stream_is_added_to_ones_own_subscription_only_if_it_may_be_followed() -> None:
    async with world() as it:
        told = {**WAKES, "streams": ["users/ann/a"]}
        assert (await it.api("PUT", "s", told))[0] == 201
        assert (await it.api("POST", "s/streams", {"streams": [BEN]}))[0] == 403
        assert (await it.api("DELETE", f"s/streams/{BEN}"))[0] == 403
        assert (await it.api("POST", "s/streams", {"streams": ["users/ann/b"]}))[0] == 204
        assert (await it.api("DELETE", "s/streams/users/ann/b"))[0] == 204


# Without it --------------------------------------------------------------------------------------


def by_a_dependency(streams: Streams, options: ProtocolOptions | None) -> ASGIApp:
    def only_ann(request: Request) -> None:
        if not request.path_params["path"].startswith("users/ann/"):
            raise HTTPException(403)

    app = FastAPI(lifespan=streams.lifespan)
    app.include_router(streams.router(options), prefix=PREFIX, dependencies=[Depends(only_ann)])
    return app


def mounted(streams: Streams, options: ProtocolOptions | None) -> ASGIApp:
    app = FastAPI(lifespan=streams.lifespan)
    app.mount(PREFIX, streams.asgi(options))
    return app


@pytest.mark.parametrize("way", [by_a_dependency, mounted])
@pytest.mark.parametrize("forks", [None, False, True])
async def test_without_it_nobody_forks_unless_it_is_allowed(way: Any, forks: bool | None) -> None:
    streams = Streams(MemoryStore())
    options = None if forks is None else ProtocolOptions(forks=forks)
    async with Client(way(streams, options), lifespan=True) as client:
        await streams.create(BEN, content_type="text/plain")
        for source, there in ((BEN, 201), (f"{PREFIX}/{BEN}", 201), ("users/ben/none", 404)):
            url = f"{PREFIX}/users/ann/{'copy' if source == BEN else 'other'}{there}"
            headers = {"stream-forked-from": source}
            async with client.open("PUT", url, headers=headers) as exchange:
                assert (await exchange.response()).status == (there if forks else 403)


async def test_patterns_can_be_turned_off() -> None:
    streams = Streams(MemoryStore())
    app = FastAPI(lifespan=streams.lifespan)
    router = streams.router(subscriptions=SubscriptionOptions(patterns=False))
    app.include_router(router, prefix=PREFIX)
    async with Client(app, lifespan=True) as client:
        for told, status in (({"pattern": "**"}, 403), ({"streams": ["a"]}, 201)):
            body = json.dumps({**WAKES, **told}).encode()
            url = f"{PREFIX}/__ds/subscriptions/s"
            async with client.open("PUT", url, headers=AS_JSON, body=body) as exchange:
                assert (await exchange.response()).status == status


# The page ----------------------------------------------------------------------------------------


async def test_the_example_of_the_page_keeps_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "authorization.md").read_text()
    (example,) = examples_in(page, "docs/authorization.md")
    app = load(example, tmp_path, monkeypatch).app
    ann, ben = {"authorization": "Bearer ann-1"}, {"authorization": "Bearer ben-2"}
    async with Client(app, lifespan=True) as client:

        async def ask(method: str, target: str, headers: dict[str, str]) -> int:
            given = {"content-type": "text/plain", **headers}
            async with client.open(method, target, headers=given) as exchange:
                return (await exchange.response()).status

        letters, public = f"{PREFIX}/users/ben/letters", f"{PREFIX}/public/news"
        assert await ask("PUT", letters, ben) == 201
        assert await ask("GET", letters, ben) == 200
        assert await ask("GET", letters, ann) == 403
        assert await ask("GET", letters, {}) == 401
        assert await ask("GET", "/letters/ben", ann) == 403
        assert await ask("PUT", public, ann) == 403
        assert await ask("GET", public, {}) == 404
        forked = {"stream-forked-from": letters}
        assert await ask("PUT", f"{PREFIX}/users/ann/copy", {**ann, **forked}) == 403
        assert await ask("PUT", f"{PREFIX}/users/ben/copy", {**ben, **forked}) == 201
