"""Webhooks, delivered to a real receiver over a real socket."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tailrace.subscriptions import SubscriptionOptions
from tailrace.subscriptions.keys import decode_bytes
from tailrace.testing import Clock, wait_until
from tests.subscriptions.world import EPOCH, Receiver, World, receiver, world

pytestmark = pytest.mark.anyio


async def begin(w: World, box: Receiver, clock: Clock, **fields: Any) -> None:
    given = {"type": "webhook", "pattern": "events/*", "webhook": {"url": box.url}, **fields}
    await w.put(**given)
    await clock.settle()


async def until_received(box: Receiver, count: int) -> Any:
    await wait_until(lambda: len(box.received) >= count)
    return box.received[count - 1].json


async def callback(w: World, told: Any, offset: str | None = None, **more: Any) -> Any:
    acks = [] if offset is None else [{"stream": "events/a", "offset": offset}]
    body = {"wake_id": told["wake_id"], "generation": told["generation"], "acks": acks, **more}
    return await w.ask("POST", "subscriptions/s/callback", body, token=told["callback_token"])


async def acked(w: World) -> str:
    offset: str = (await w.get())["streams"][0]["acked_offset"]
    return offset


async def test_an_append_sends_a_webhook(clock: Clock) -> None:
    with receiver() as box:
        async with world() as w:
            await begin(w, box, clock)
            tail = await w.append("events/a")
            told = await until_received(box, 1)
            request = box.received[0]
            assert request.path == "/hook?a=b"
            assert request.headers["Content-Type"] == "application/json"
            assert request.headers["Host"] == f"127.0.0.1:{box.port}"
            assert told.pop("callback_token")
            assert re.fullmatch(r"w_[0-9a-f]{32}", told.pop("wake_id"))
            assert told == {
                "subscription_id": "s",
                "generation": 1,
                "streams": [
                    {
                        "path": "events/a",
                        "link_type": "glob",
                        "acked_offset": "0000000000000000_0000000000000000",
                        "tail_offset": tail,
                        "has_pending": True,
                    }
                ],
                "callback_url": (
                    "http://streams.example:8000/v1/stream/__ds/subscriptions/s/callback"
                ),
            }


async def test_a_webhook_is_signed_with_a_published_key(clock: Clock) -> None:
    with receiver() as box:
        async with world() as w:
            await begin(w, box, clock)
            await w.append("events/a")
            await until_received(box, 1)
            request = box.received[0]
            given = re.fullmatch(
                r"t=(\d+),kid=([^,]+),ed25519=([A-Za-z0-9_-]+)",
                request.headers["Webhook-Signature"],
            )
            assert given is not None
            assert abs(int(given[1]) - EPOCH) < 10**7
            jwks = await w.ask("GET", "jwks.json")
            keys = {each["kid"]: each for each in jwks.json["keys"]}
            key = Ed25519PublicKey.from_public_bytes(decode_bytes(keys[given[2]]["x"]))
            key.verify(decode_bytes(given[3]), given[1].encode() + b"." + request.body)


async def test_done_in_the_answer_acks_what_was_told_of(clock: Clock) -> None:
    with receiver([(200, b'{"done": true}')]) as box:
        async with world() as w:
            await begin(w, box, clock)
            tail = await w.append("events/a")
            await until_received(box, 1)
            await clock.settle()
            assert await acked(w) == tail
            await clock.advance(120)
            assert len(box.received) == 1


async def test_what_came_while_a_webhook_was_answered_is_another_wake(clock: Clock) -> None:
    with receiver([(200, b'{"done": true}')]) as box:
        box.held.clear()
        async with world() as w:
            await begin(w, box, clock)
            await w.append("events/a")
            await until_received(box, 1)
            tail = await w.append("events/a")
            box.held.set()
            second = await until_received(box, 2)
            assert second["generation"] == 2
            assert second["wake_id"] != box.received[0].json["wake_id"]
            assert second["streams"][0]["tail_offset"] == tail
            await clock.settle()
            assert await acked(w) == tail


@pytest.mark.parametrize(
    "answer", [b"{}", b"", b"no", b"[true]", b'{"done": 1}', b'{"done":"true"}']
)
async def test_only_done_true_ends_a_wake(clock: Clock, answer: bytes) -> None:
    with receiver([(200, answer)]) as box:
        async with world() as w:
            await begin(w, box, clock)
            tail = await w.append("events/a")
            told = await until_received(box, 1)
            await clock.settle()
            assert await acked(w) < tail
            done = await callback(w, told, tail, done=True)
            assert (done.status, done.json) == (200, {"ok": True, "next_wake": False})
            stale = await callback(w, told, tail, done=True)
            assert (stale.status, stale.error["code"]) == (409, "FENCED")


@pytest.mark.slow
async def test_a_failed_delivery_is_repeated_with_growing_pauses(clock: Clock) -> None:
    with receiver([(500, b"")]) as box:
        async with world() as w:
            await begin(w, box, clock)
            await w.append("events/a")
            times = []
            for count in range(1, 9):
                await until_received(box, count)
                await clock.settle()
                times.append(clock.time)
                assert (await w.get())["status"] == "failed"
                while len(box.received) == count:
                    await clock.advance(0.1)
                    await clock.settle()
            pauses = [after - before for before, after in pairwise(times)]
            for pause, base in zip(pauses, (1, 2, 4, 8, 16, 32, 60), strict=True):
                assert base * 0.8 - 1e-6 <= pause <= base * 1.2 + 0.3
            wakes = {(each.json["generation"], each.json["wake_id"]) for each in box.received}
            assert len(wakes) == 1


async def test_a_delivery_that_succeeds_at_last_is_active_again(clock: Clock) -> None:
    with receiver([(503, b""), (200, b'{"done":true}')]) as box:
        async with world() as w:
            await begin(w, box, clock)
            tail = await w.append("events/a")
            await until_received(box, 1)
            await clock.settle()
            assert (await w.get())["status"] == "failed"
            await clock.advance(1.3)
            await until_received(box, 2)
            await clock.settle()
            assert (await w.get())["status"] == "active"
            assert await acked(w) == tail


async def test_a_receiver_that_calls_back_in_the_pause_has_the_wake(clock: Clock) -> None:
    with receiver([(500, b"")]) as box:
        async with world() as w:
            await begin(w, box, clock)
            tail = await w.append("events/a")
            told = await until_received(box, 1)
            await clock.settle()
            assert (await callback(w, told)).status == 200
            await clock.advance(20)
            assert len(box.received) == 1
            assert (await callback(w, told, tail, done=True)).status == 200


async def test_a_redirect_is_not_followed(clock: Clock) -> None:
    with receiver([(307, b"")]) as box, receiver() as other:
        box.headers = {"location": other.url}
        async with world() as w:
            await begin(w, box, clock)
            await w.append("events/a")
            await until_received(box, 1)
            await clock.advance(1.5)
            await until_received(box, 2)
            assert other.received == []


async def test_a_lease_that_is_over_sends_another_webhook(clock: Clock) -> None:
    with receiver() as box:
        async with world() as w:
            await begin(w, box, clock, lease_ttl_ms=1000)
            tail = await w.append("events/a")
            first = await until_received(box, 1)
            await clock.advance(1.1)
            second = await until_received(box, 2)
            assert second["generation"] == 2
            late = await callback(w, first, tail, done=True)
            assert (late.status, late.error["code"]) == (409, "FENCED")
            assert (await callback(w, second, tail, done=True)).status == 200


async def test_callbacks_keep_the_lease(clock: Clock) -> None:
    with receiver() as box:
        async with world() as w:
            await begin(w, box, clock, lease_ttl_ms=1000)
            await w.append("events/a")
            told = await until_received(box, 1)
            for _ in range(5):
                await clock.advance(0.9)
                assert (await callback(w, told)).status == 200
            assert len(box.received) == 1


async def test_a_receiver_that_does_not_answer_is_cut_off_and_asked_again(clock: Clock) -> None:
    options = SubscriptionOptions(allow_localhost=True, webhook_timeout=5)
    with receiver([(200, b'{"done":true}')]) as box:
        box.held.clear()
        async with world(options=options) as w:
            await begin(w, box, clock)
            await w.append("events/a")
            await until_received(box, 1)
            await clock.advance(5.1)
            assert (await w.get())["status"] == "failed"
            box.held.set()
            await clock.advance(1.3)
            again = await until_received(box, 2)
            assert again["generation"] == 1


async def test_an_answer_that_is_too_long_is_no_done(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.limits.MAX_WEBHOOK_ANSWER_BYTES", 20)
    answers = [b'{"done": true}'.ljust(20), b'{"done": true}'.ljust(21)]
    with receiver([(200, answer) for answer in answers]) as box:
        async with world() as w:
            await begin(w, box, clock)
            first = await w.append("events/a")
            await until_received(box, 1)
            await clock.settle()
            assert await acked(w) == first
            await w.append("events/a")
            await until_received(box, 2)
            await clock.settle()
            assert await acked(w) == first
            assert (await w.get())["status"] == "active"


async def test_a_deleted_subscription_sends_nothing_more_and_takes_no_callback(
    clock: Clock,
) -> None:
    with receiver() as box:
        async with world() as w:
            await begin(w, box, clock, lease_ttl_ms=1000)
            tail = await w.append("events/a")
            told = await until_received(box, 1)
            assert (await w.ask("DELETE", "subscriptions/s")).status == 204
            gone = await callback(w, told, tail, done=True)
            assert (gone.status, gone.error["code"]) == (404, "SUBSCRIPTION_NOT_FOUND")
            await w.append("events/a")
            await clock.advance(60)
            assert len(box.received) == 1


async def test_a_later_subscription_of_the_same_name_takes_no_callback_of_the_first(
    clock: Clock,
) -> None:
    with receiver() as box:
        async with world() as w:
            await begin(w, box, clock)
            await w.append("events/a")
            first = await until_received(box, 1)
            await w.ask("DELETE", "subscriptions/s")
            await begin(w, box, clock)
            tail = await w.append("events/a")
            second = await until_received(box, 2)
            assert second["generation"] == first["generation"]
            mixed = {**second, "callback_token": first["callback_token"]}
            answer = await callback(w, mixed, tail, done=True)
            assert (answer.status, answer.error["code"]) == (409, "FENCED")
            assert (await callback(w, second, tail, done=True)).status == 200


async def test_the_proxy_of_the_environment_is_not_used(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with receiver() as box:
        async with world() as w:
            await begin(w, box, clock)
            await w.append("events/a")
            await until_received(box, 1)


async def test_a_receiver_that_called_back_and_never_answers_is_cut_off_by_the_next_wake(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.limits.MAX_DELIVERIES", 1)
    with receiver() as box:
        box.held.clear()
        async with world() as w:
            await begin(w, box, clock)
            first = await w.append("events/a")
            told = await until_received(box, 1)
            await w.append("events/a")
            assert (await callback(w, told, first, done=True)).json["next_wake"] is True
            assert (await until_received(box, 2))["generation"] == 2


async def test_a_deletion_cuts_off_the_delivery_and_lets_the_next_one_go(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.limits.MAX_DELIVERIES", 1)
    with receiver() as box:
        box.held.clear()
        async with world() as w:
            await begin(w, box, clock)
            await w.append("events/a")
            await until_received(box, 1)
            await w.put("t", type="webhook", pattern="other/*", webhook={"url": box.url})
            await clock.settle()
            await w.append("other/a")
            await clock.settle()
            assert len(box.received) == 1
            await w.ask("DELETE", "subscriptions/s")
            assert (await until_received(box, 2))["subscription_id"] == "t"
