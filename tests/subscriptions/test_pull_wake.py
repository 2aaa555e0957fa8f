"""Pull-wake: events in a wake stream, claims, acks, releases, leases."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.store import Mark, MemoryStore, NewStream
from tailrace.testing import Clock
from tests.subscriptions.world import World, now_ms, world

pytestmark = pytest.mark.anyio


async def begin(w: World, clock: Clock, **fields: Any) -> None:
    await w.store.create("wake", NewStream(content_type="application/json"))
    given = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake", **fields}
    await w.put(**given)
    await clock.settle()


async def claim(w: World, worker: str = "w1") -> Any:
    answer = await w.ask("POST", "subscriptions/s/claim", {"worker": worker})
    assert answer.status == 200, answer.body
    return answer.json


async def ack(w: World, claimed: Any, offset: str | None = None, **more: Any) -> Any:
    acks = [] if offset is None else [{"stream": "events/a", "offset": offset}]
    told = {"wake_id": claimed["wake_id"], "generation": claimed["generation"], "acks": acks}
    return await w.ask("POST", "subscriptions/s/ack", told | more, token=claimed["token"])


async def test_an_append_writes_one_event_into_the_wake_stream(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        await w.append("events/a")
        await clock.settle()
        assert await w.messages("wake") == [
            {
                "type": "wake",
                "subscription_id": "s",
                "stream": "events/a",
                "generation": 1,
                "ts": now_ms(),
            }
        ]


async def test_more_appends_while_a_wake_waits_write_no_more_events(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        for number in range(5):
            await w.append("events/a", number)
            await w.append("events/b", number)
            await clock.settle()
        await clock.advance(60)
        assert len(await w.messages("wake")) == 1


async def test_a_claim_tells_of_the_pending_streams_and_their_tails(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock, lease_ttl_ms=5000)
        tail = await w.append("events/a")
        await clock.settle()
        claimed = await claim(w)
        assert claimed["lease_ttl_ms"] == 5000
        assert claimed["generation"] == 1
        assert claimed["streams"] == [
            {
                "path": "events/a",
                "link_type": "glob",
                "acked_offset": "0000000000000000_0000000000000000",
                "tail_offset": tail,
                "has_pending": True,
            }
        ]


async def test_a_second_claim_is_told_who_has_it(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        await w.append("events/a")
        await claim(w)
        answer = await w.ask("POST", "subscriptions/s/claim", {"worker": "w2"})
        assert answer.status == 409
        assert answer.error["code"] == "ALREADY_CLAIMED"
        assert answer.error["current_holder"] == "w1"
        assert answer.error["generation"] == 1


async def test_a_claim_without_pending_work_is_refused(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        answer = await w.ask("POST", "subscriptions/s/claim", {"worker": "w2"})
        assert (answer.status, answer.error["code"]) == (409, "NO_PENDING_WORK")


async def test_a_claim_right_after_the_append_needs_no_event(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        await w.append("events/a")
        assert (await claim(w))["generation"] == 1


async def test_done_acks_and_gives_the_lease_back(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        tail = await w.append("events/a")
        claimed = await claim(w)
        done = await ack(w, claimed, tail, done=True)
        assert (done.status, done.json) == (200, {"ok": True, "next_wake": False})
        assert (await w.get())["streams"][0]["acked_offset"] == tail
        again = await ack(w, claimed, tail, done=True)
        assert (again.status, again.error["code"]) == (409, "FENCED")


async def test_what_came_meanwhile_is_the_next_wake(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        first = await w.append("events/a")
        await clock.settle()
        claimed = await claim(w)
        await w.append("events/a")
        done = await ack(w, claimed, first, done=True)
        assert done.json == {"ok": True, "next_wake": True}
        await clock.settle()
        assert [each["generation"] for each in await w.messages("wake")] == [1, 2]
        assert (await claim(w))["generation"] == 2


async def test_an_ack_without_done_is_a_heartbeat(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock, lease_ttl_ms=1000)
        tail = await w.append("events/a")
        claimed = await claim(w)
        for _ in range(5):
            await clock.advance(0.9)
            assert (await ack(w, claimed)).json == {"ok": True, "next_wake": False}
        assert (await ack(w, claimed, tail, done=True)).status == 200


async def test_a_lease_that_is_over_wakes_again_and_fences_the_worker(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock, lease_ttl_ms=1000)
        tail = await w.append("events/a")
        await clock.settle()
        claimed = await claim(w)
        await clock.advance(1.1)
        assert [each["generation"] for each in await w.messages("wake")] == [1, 2]
        late = await ack(w, claimed, tail, done=True)
        assert (late.status, late.error["code"]) == (409, "FENCED")
        assert (await w.get())["streams"][0]["acked_offset"] != tail
        assert (await claim(w, "w2"))["generation"] == 2


async def test_a_release_writes_another_event_and_fences_itself(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        await w.append("events/a")
        await clock.settle()
        claimed = await claim(w)
        told = {"wake_id": claimed["wake_id"], "generation": claimed["generation"]}
        path = "subscriptions/s/release"
        assert (await w.ask("POST", path, told, token=claimed["token"])).status == 204
        await clock.settle()
        assert [each["generation"] for each in await w.messages("wake")] == [1, 2]
        assert (await w.ask("POST", path, told, token=claimed["token"])).status == 409


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        ("-1", "no offset"),
        ("now", "no offset"),
        ("0000000000000000_0000000000000009", "beyond"),
        ("9999999999999999_0000000000000001", "beyond"),
    ],
)
async def test_an_offset_that_cannot_be_is_refused_and_moves_nothing(
    clock: Clock, offset: str, reason: str
) -> None:
    async with world() as w:
        await begin(w, clock)
        tail = await w.append("events/a")
        claimed = await claim(w)
        if offset.startswith("0000000000000000_"):
            offset = tail[:-1] + "9"
        answer = await ack(w, claimed, offset, done=True)
        assert (answer.status, answer.error["code"]) == (409, "INVALID_OFFSET")
        assert reason in answer.error["message"]
        assert (await ack(w, claimed, tail, done=True)).status == 200


async def test_a_cursor_never_goes_back(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        first = await w.append("events/a")
        second = await w.append("events/a")
        claimed = await claim(w)
        assert (await ack(w, claimed, second)).status == 200
        back = await ack(w, claimed, first)
        assert (back.status, back.error["code"]) == (409, "INVALID_OFFSET")
        assert (await w.get())["streams"][0]["acked_offset"] == second


async def test_an_ack_of_a_strange_stream_is_refused(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        tail = await w.append("events/a")
        claimed = await claim(w)
        told: dict[str, Any] = {"acks": [{"stream": "events/zz", "offset": tail}], "done": True}
        answer = await ack(w, claimed, **told)
        assert (answer.status, answer.error["code"]) == (409, "INVALID_OFFSET")


async def test_without_its_wake_stream_a_wake_is_tried_again_and_said_to_fail(
    clock: Clock,
) -> None:
    async with world() as w:
        await w.put(type="pull-wake", pattern="events/*", wake_stream="wake")
        await w.append("events/a")
        await clock.settle()
        told = await w.get()
        assert told["status"] == "failed"
        assert told["next_attempt_at"].endswith("Z")
        await w.store.create("wake", NewStream(content_type="application/json"))
        await clock.advance(1.3)
        assert [each["generation"] for each in await w.messages("wake")] == [1]
        assert (await w.get())["status"] == "active"


async def test_a_wake_stream_that_is_no_json_gets_lines(clock: Clock) -> None:
    async with world() as w:
        await w.store.create("wake", NewStream(content_type="text/plain"))
        await w.put(type="pull-wake", pattern="**", wake_stream="wake")
        await w.append("x")
        await clock.settle()
        data = (await w.store.read("wake", Mark.BEGINNING)).data
        assert data.startswith(b"{")
        assert data.endswith(b"}\n")


async def test_a_pattern_over_everything_is_not_woken_by_its_own_events(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock, pattern="**")
        tail = await w.append("events/a")
        await clock.settle()
        claimed = await claim(w)
        assert [each["path"] for each in claimed["streams"]] == ["events/a"]
        assert (await ack(w, claimed, tail, done=True)).json["next_wake"] is False


async def test_events_wake_those_who_subscribe_to_the_wake_stream(clock: Clock) -> None:
    async with world() as w:
        await begin(w, clock)
        await w.store.create("wake2", NewStream(content_type="application/json"))
        await w.put("meta", type="pull-wake", streams=["wake"], wake_stream="wake2")
        await clock.settle()
        await w.append("events/a")
        await clock.settle()
        assert [each["stream"] for each in await w.messages("wake2")] == ["wake"]


async def test_history_wakes_nobody_and_new_streams_are_read_from_their_start(
    clock: Clock,
) -> None:
    async with world() as w:
        old = await w.append("events/old")
        await begin(w, clock)
        told = await w.get()
        assert told["streams"] == [{"path": "events/old", "link_type": "glob", "acked_offset": old}]
        assert await w.messages("wake") == []
        await w.append("events/new")
        await clock.settle()
        streams = {each["path"]: each for each in (await claim(w))["streams"]}
        assert streams["events/new"]["acked_offset"] == "0000000000000000_0000000000000000"
        assert not streams["events/old"]["has_pending"]


async def test_a_stream_that_was_deleted_and_made_again_is_read_from_its_start(
    clock: Clock,
) -> None:
    async with world() as w:
        await w.append("events/a", "long long long long")
        await begin(w, clock, pattern=None, streams=["events/a"])
        await w.store.delete("events/a")
        await clock.advance(1)
        await w.append("events/a", "x")
        await clock.settle()
        stream = (await claim(w))["streams"][0]
        assert stream["has_pending"]
        assert stream["acked_offset"] == "0000000000000000_0000000000000000"


async def test_a_deleted_stream_that_the_pattern_found_is_left_out(clock: Clock) -> None:
    async with world() as w:
        await w.append("events/a")
        await begin(w, clock)
        await w.store.delete("events/a")
        await w.append("events/b")
        await clock.settle()
        assert [each["path"] for each in (await w.get())["streams"]] == ["events/b"]


async def test_a_thousand_pending_streams_are_a_wake_and_the_rest_are_the_next(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.limits.MAX_WAKE_STREAMS", 3)
    async with world() as w:
        await begin(w, clock)
        for number in range(5):
            await w.append(f"events/{number}")
        await clock.settle()
        seen: list[str] = []
        for _ in range(2):
            claimed = await claim(w)
            streams = [each for each in claimed["streams"] if each["has_pending"]]
            assert len(claimed["streams"]) <= 3
            seen += [each["path"] for each in streams]
            acks = [{"stream": s["path"], "offset": s["tail_offset"]} for s in streams]
            done = await ack(w, claimed, done=True, acks=acks)
        assert sorted(seen) == [f"events/{number}" for number in range(5)]
        assert done.json["next_wake"] is False


async def test_a_store_with_another_clock_is_no_matter(clock: Clock) -> None:
    async with world(MemoryStore()) as w:
        await begin(w, clock)
        await w.append("events/a")
        assert (await claim(w))["generation"] == 1
