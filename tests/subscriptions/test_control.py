"""The APIs over HTTP: what is asked, what is refused, and how that is said."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tailrace import limits
from tailrace.store import MemoryStore, NewStream
from tailrace.subscriptions import SubscriptionOptions, Subscriptions
from tailrace.testing import Client, Clock
from tests.subscriptions.world import LOCAL, ROOT, World, world

pytestmark = pytest.mark.anyio

HOOK: dict[str, Any] = {
    "type": "webhook",
    "pattern": "events/*",
    "webhook": {"url": "https://example.com/hook"},
}
PULL: dict[str, Any] = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake"}


async def put(w: World, told: Any, name: str = "s") -> Any:
    return await w.ask("PUT", f"subscriptions/{name}", told)


async def refused(w: World, told: Any, status: int = 400, code: str = "INVALID_REQUEST") -> str:
    answer = await put(w, told)
    assert (answer.status, answer.error["code"]) == (status, code)
    message: str = answer.error["message"]
    return message


async def test_a_subscription_is_told_as_it_was_made() -> None:
    async with world() as w:
        told = {**HOOK, "streams": ["x", "/x/", "a"], "lease_ttl_ms": 5000, "description": "d"}
        made = await put(w, told)
        assert made.status == 201
        assert made.headers["cache-control"] == "no-store"
        assert made.headers["content-type"] == "application/json"
        document = made.json
        assert re.fullmatch(r"2027-\d\d-\d\dT[\d:]{8}\.\d{3}Z", document.pop("created_at"))
        kid = document["webhook"]["signing"].pop("kid")
        assert re.fullmatch(r"ds_[A-Za-z0-9_-]{43}", kid)
        zero = "0000000000000000_0000000000000000"
        assert document == {
            "id": "s",
            "subscription_id": "s",
            "type": "webhook",
            "pattern": "events/*",
            "streams": [
                {"path": path, "link_type": "explicit", "acked_offset": zero} for path in "ax"
            ],
            "webhook": {
                "url": "https://example.com/hook",
                "signing": {
                    "alg": "ed25519",
                    "jwks_url": "http://streams.example:8000/v1/stream/__ds/jwks.json",
                },
            },
            "wake_stream": None,
            "lease_ttl_ms": 5000,
            "status": "active",
            "description": "d",
        }
        assert (await w.get())["webhook"]["signing"]["kid"] == kid


@pytest.mark.parametrize(
    "change",
    [
        {"pattern": "other/*"},
        {"streams": ["a"]},
        {"webhook": {"url": "https://example.com/other"}},
        {"lease_ttl_ms": 1234},
        {"description": "other"},
        PULL,
    ],
)
async def test_the_same_again_is_200_and_anything_else_409(change: dict[str, Any]) -> None:
    async with world() as w:
        told = {**HOOK, "streams": ["b", "a"]}
        assert (await put(w, told)).status == 201
        assert (await put(w, {**told, "streams": ["a", "b", "a"]})).status == 200
        other = await put(w, {**told, **change})
        assert (other.status, other.error["code"]) == (409, "SUBSCRIPTION_ALREADY_EXISTS")


async def test_streams_that_were_added_later_do_not_change_what_it_was_made_with() -> None:
    async with world() as w:
        await put(w, HOOK)
        added = await w.ask("POST", "subscriptions/s/streams", {"streams": ["x/1", "x/2"]})
        assert added.status == 204
        assert (await put(w, HOOK)).status == 200
        gone = await w.ask("DELETE", "subscriptions/s/streams/x%2F1")
        assert gone.status == 204
        assert (await w.ask("DELETE", "subscriptions/s/streams/x/1")).status == 204
        assert [each["path"] for each in (await w.get())["streams"]] == ["x/2"]


async def test_explicit_wins_over_glob_and_leaves_it_behind() -> None:
    async with world() as w:
        tail = await w.append("events/a")
        await put(w, HOOK)
        glob = [{"path": "events/a", "link_type": "glob", "acked_offset": tail}]
        assert (await w.get())["streams"] == glob
        await w.ask("POST", "subscriptions/s/streams", {"streams": ["events/a"]})
        assert (await w.get())["streams"] == [{**glob[0], "link_type": "explicit"}]
        await w.ask("DELETE", "subscriptions/s/streams/events/a")
        assert (await w.get())["streams"] == glob


@pytest.mark.parametrize(
    "change",
    [
        {"type": "email"},
        {"type": None},
        {"pattern": None},
        {"pattern": 5},
        {"pattern": "a*b"},
        {"pattern": None, "streams": []},
        {"pattern": None, "streams": "a"},
        {"streams": [1]},
        {"streams": [""]},
        {"streams": ["__ds/keys"]},
        {"streams": ["a/../b"]},
        {"streams": ["a\x00b"]},
        {"streams": ["\ud800"]},
        {"webhook": None},
        {"webhook": "https://example.com"},
        {"webhook": {"url": 5}},
        {"lease_ttl_ms": "1000"},
        {"lease_ttl_ms": 1000.0},
        {"lease_ttl_ms": True},
        {"description": 5},
        {"description": "\udc00"},
    ],
)
async def test_a_field_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    async with world() as w:
        await refused(w, {**HOOK, **change})


@pytest.mark.parametrize("stream", [None, "", 5, "__ds", "__ds/subscriptions", "a//b"])
async def test_a_wake_stream_must_be_a_stream(stream: Any) -> None:
    async with world() as w:
        await refused(w, {**PULL, "wake_stream": stream})


async def test_a_subscription_cannot_wake_itself() -> None:
    async with world() as w:
        await refused(w, {**PULL, "streams": ["wake"]})
        assert (await put(w, PULL)).status == 201
        added = await w.ask("POST", "subscriptions/s/streams", {"streams": ["wake"]})
        assert added.status == 400


async def test_a_hostile_webhook_is_refused_before_anything_is_resolved() -> None:
    async def resolve(_host: str, _port: int) -> Any:
        raise AssertionError("it was resolved")

    async with world(options=SubscriptionOptions(), resolve=resolve) as w:
        for url in ("http://10.0.0.1/hook", "http://127.0.0.1/", "https://[::1]/"):
            await refused(w, {**HOOK, "webhook": {"url": url}}, 400, "WEBHOOK_URL_REJECTED")


# Limits: at, and one beyond


@pytest.mark.parametrize(
    ("field", "at", "beyond"),
    [
        ("lease_ttl_ms", limits.MIN_LEASE_MS, limits.MIN_LEASE_MS - 1),
        ("lease_ttl_ms", limits.MAX_LEASE_MS, limits.MAX_LEASE_MS + 1),
        (
            "description",
            "ü" * (limits.MAX_DESCRIPTION_BYTES // 2),
            "ü" * (limits.MAX_DESCRIPTION_BYTES // 2) + "x",
        ),
        (
            "pattern",
            "p" * limits.MAX_PATTERN_BYTES,
            "p" * (limits.MAX_PATTERN_BYTES + 1),
        ),
        (
            "streams",
            ["s" * limits.MAX_STREAM_PATH_BYTES],
            ["s" * (limits.MAX_STREAM_PATH_BYTES + 1)],
        ),
        (
            "wake_stream",
            "s" * limits.MAX_STREAM_PATH_BYTES,
            "s" * (limits.MAX_STREAM_PATH_BYTES + 1),
        ),
    ],
)
async def test_a_field_has_a_limit(field: str, at: Any, beyond: Any) -> None:
    async with world() as w:
        assert (await put(w, {**PULL, field: at})).status == 201
        await refused(w, {**PULL, field: beyond})


async def test_a_lease_has_its_length_unless_another_is_asked_for() -> None:
    async with world() as w:
        assert (await put(w, PULL)).json["lease_ttl_ms"] == limits.LEASE_MS


async def test_an_id_has_a_limit() -> None:
    async with world() as w:
        assert (await put(w, PULL, "i" * limits.MAX_SUBSCRIPTION_ID_BYTES)).status == 201
        long = await put(w, PULL, "i" * (limits.MAX_SUBSCRIPTION_ID_BYTES + 1))
        assert (long.status, long.error["code"]) == (400, "INVALID_REQUEST")
        assert (await put(w, PULL, "a%01b")).status == 400


async def test_a_worker_has_a_name_and_that_a_limit() -> None:
    async with world() as w:
        await put(w, PULL)
        await w.append("events/a")
        most = limits.MAX_WORKER_NAME_BYTES
        for name in ("", None, 5, "w" * (most + 1)):
            claimed = await w.ask("POST", "subscriptions/s/claim", {"worker": name})
            assert (claimed.status, claimed.error["code"]) == (400, "INVALID_REQUEST")
        claimed = await w.ask("POST", "subscriptions/s/claim", {"worker": "w" * most})
        assert claimed.status == 200


async def test_there_are_so_many_subscriptions_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SUBSCRIPTIONS", 2)
    async with world() as w:
        assert (await put(w, PULL, "a")).status == 201
        assert (await put(w, PULL, "b")).status == 201
        more = await put(w, PULL, "c")
        assert (more.status, more.error["code"]) == (429, "TOO_MANY_SUBSCRIPTIONS")
        assert (await put(w, PULL, "a")).status == 200
        await w.ask("DELETE", "subscriptions/a")
        assert (await put(w, PULL, "c")).status == 201


async def test_a_subscription_names_so_many_streams_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_SUBSCRIPTION_STREAMS", 3)
    async with world() as w:
        await refused(w, {**PULL, "streams": list("abcd")}, 413, "TOO_MANY_STREAMS")
        assert (await put(w, {**PULL, "streams": list("abc")})).status == 201
        for path in "abc":
            again = await w.ask("POST", "subscriptions/s/streams", {"streams": [path]})
            assert again.status == 204
        more = await w.ask("POST", "subscriptions/s/streams", {"streams": ["d"]})
        assert (more.status, more.error["code"]) == (413, "TOO_MANY_STREAMS")


async def test_a_body_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.dumps(PULL).encode()
    monkeypatch.setattr(limits, "MAX_SUBSCRIPTION_BODY_BYTES", len(told))
    async with world() as w:
        assert (await put(w, told)).status == 201
        assert (await put(w, told + b" ")).status == 413


# HTTP


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b'"text"', b"\xff", b"[" * 50_000, b"1" * 9000, b"{} {}"]
)
async def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    async with world() as w:
        answer = await put(w, body)
        assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_what_a_page_of_another_origin_could_send_is_refused(kind: str) -> None:
    async with world() as w:
        answer = await w.ask("PUT", "subscriptions/s", PULL, content_type=kind)
        assert answer.status == 415


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "jwks.json", "GET"),
        ("POST", "subscriptions/s", "PUT, GET, DELETE"),
        ("GET", "subscriptions/s/streams", "POST"),
        ("PUT", "subscriptions/s/streams/a", "DELETE"),
        ("GET", "subscriptions/s/claim", "POST"),
    ],
)
async def test_another_method_is_told_which_there_are(method: str, path: str, allowed: str) -> None:
    async with world() as w:
        answer = await w.ask(method, path)
        assert answer.status == 405
        assert answer.headers["allow"] == allowed
        assert answer.error["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(
    "path", ["", "keys", "subscriptions", "subscriptions/", "subscriptions/s/other", "jwks.json/x"]
)
async def test_what_is_none_of_the_apis_is_not_found(path: str) -> None:
    async with world() as w:
        assert (await w.ask("GET", path)).status == 404


async def test_every_api_of_a_subscription_that_is_not_there_is_404() -> None:
    async with world() as w:
        claim = await w.ask("POST", "subscriptions/no/claim", {"worker": "w"})
        streams = await w.ask("POST", "subscriptions/no/streams", {"streams": ["a"]})
        removed = await w.ask("DELETE", "subscriptions/no/streams/a")
        got = await w.ask("GET", "subscriptions/no")
        for answer in (claim, streams, removed, got):
            assert (answer.status, answer.error["code"]) == (404, "SUBSCRIPTION_NOT_FOUND")
        assert (await w.ask("DELETE", "subscriptions/no")).status == 204


@pytest.mark.parametrize("action", ["callback", "ack", "release"])
@pytest.mark.parametrize("value", ["", "Basic dTpw", "Bearer", "Bearer a.b.c", "Bearer \xff"])
async def test_without_a_token_of_ours_nothing_is_answered(action: str, value: str) -> None:
    async with world() as w:
        await put(w, PULL)
        more = {"authorization": value} if value else {}
        told = {"wake_id": "w", "generation": 1}
        answer = await w.ask("POST", f"subscriptions/s/{action}", told, **more)
        assert (answer.status, answer.error["code"]) == (401, "TOKEN_INVALID")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "change",
    [
        {"wake_id": 5},
        {"generation": "1"},
        {"generation": True},
        {"acks": {}},
        {"acks": [5]},
        {"acks": [{"stream": "events/a"}]},
        {"done": "yes"},
    ],
)
async def test_an_ack_that_cannot_be_read_is_refused(change: dict[str, Any]) -> None:
    async with world() as w:
        await put(w, PULL)
        await w.append("events/a")
        claimed = (await w.ask("POST", "subscriptions/s/claim", {"worker": "w"})).json
        told = {"wake_id": claimed["wake_id"], "generation": claimed["generation"], **change}
        answer = await w.ask("POST", "subscriptions/s/ack", told, token=claimed["token"])
        assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


async def test_a_token_is_of_one_subscription_and_of_one_day(clock: Clock) -> None:
    async with world(options=SubscriptionOptions(sweep=1e6)) as w:
        await w.store.create("wake", NewStream(content_type="application/json"))
        for name in ("s", "t"):
            await put(w, PULL, name)
        await w.append("events/a")
        claimed = (await w.ask("POST", "subscriptions/s/claim", {"worker": "w"})).json
        told = {"wake_id": claimed["wake_id"], "generation": claimed["generation"]}
        other = await w.ask("POST", "subscriptions/t/ack", told, token=claimed["token"])
        assert (other.status, other.error["code"]) == (401, "TOKEN_INVALID")
        # Not its last character: the last bits of that one stand for nothing.
        signed, _, signature = claimed["token"].rpartition(".")
        forged = f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
        refused = await w.ask("POST", "subscriptions/s/ack", told, token=forged)
        assert (refused.status, refused.error["code"]) == (401, "TOKEN_INVALID")
        await clock.advance(limits.WAKE_TOKEN_LIFETIME - 1)
        late = await w.ask("POST", "subscriptions/s/ack", told, token=claimed["token"])
        assert (late.status, late.error["code"]) == (409, "FENCED")
        await clock.advance(1)
        late = await w.ask("POST", "subscriptions/s/ack", told, token=claimed["token"])
        assert (late.status, late.error["code"]) == (401, "TOKEN_EXPIRED")


# Host


async def test_the_keys_are_said_to_be_where_the_client_itself_asked() -> None:
    async with world() as w:
        await w.ask("PUT", "subscriptions/s", HOOK, host="evil.example")
        assert "streams.example" in (await w.get())["webhook"]["signing"]["jwks_url"]


@pytest.mark.parametrize("host", ["", "a b", "a/b", "u@h", "h:port", "h:1:2", "ü", "h?x", "h#x"])
async def test_a_host_that_cannot_be_is_refused(host: str) -> None:
    async with world() as w:
        answer = await w.ask("PUT", "subscriptions/s", HOOK, host=host)
        assert answer.status == 400


async def test_the_public_url_wins_over_any_host() -> None:
    options = SubscriptionOptions(public_url="https://api.example.org/streams/")
    async with world(options=options) as w:
        answer = await w.ask("PUT", "subscriptions/s", HOOK, host="")
        url = answer.json["webhook"]["signing"]["jwks_url"]
        assert url == "https://api.example.org/streams/__ds/jwks.json"


async def test_a_server_that_delivers_nothing_promises_nothing() -> None:
    subscriptions = Subscriptions(MemoryStore(), LOCAL)
    app = Starlette(routes=[Mount(ROOT, app=subscriptions)])
    async with Client(app) as client:
        w = World(client, MemoryStore(), subscriptions)
        answer = await put(w, PULL)
        assert (answer.status, answer.error["code"]) == (503, "SUBSCRIPTIONS_NOT_RUNNING")
        subscriptions.appended("events/a")
