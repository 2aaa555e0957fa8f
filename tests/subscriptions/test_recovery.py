"""Several processes over one store: each wake is delivered once, and none is lost with its process.

A process is a `Subscriptions` of its own here; what differs from a real one is only that it shares
this one's memory, which it does not look at.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tailrace.errors import StoreFull
from tailrace.store import (
    Append,
    Appended,
    Change,
    MemoryStore,
    NewStream,
)
from tailrace.subscriptions import SubscriptionOptions
from tailrace.testing import Clock, wait_until
from tests.subscriptions.world import Receiver, World, now_ms, receiver, world

pytestmark = pytest.mark.anyio

DONE = b'{"done":true}'


async def begin(w: World, clock: Clock, **fields: Any) -> None:
    await w.store.create("wake", NewStream(content_type="application/json"))
    await w.put(**{"type": "pull-wake", "pattern": "e/*", "wake_stream": "wake", **fields})
    await clock.settle()


def arrived(box: Receiver, count: int) -> bool:
    return len(box.received) >= count


async def generations(w: World) -> list[int]:
    return [each["generation"] for each in await w.messages("wake")]


async def test_four_processes_that_are_told_of_an_append_write_one_event(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(world(store)) for _ in range(4)]
        await begin(worlds[0], clock)
        await worlds[1].append("e/a")
        for each in worlds:
            each.subscriptions.appended("e/a")
        await clock.advance(30)
        assert await generations(worlds[0]) == [1]


async def test_four_processes_send_each_webhook_once(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    with receiver([(200, DONE)]) as box:
        async with AsyncExitStack() as stack:
            worlds = [await stack.enter_async_context(world(store)) for _ in range(4)]
            await worlds[0].put(type="webhook", pattern="e/*", webhook={"url": box.url})
            await clock.settle()
            for number in range(8):
                tail = await worlds[number % 4].append(f"e/{number % 3}")
                await wait_until(partial(arrived, box, number + 1))
                await clock.settle()
            await clock.advance(60)
            assert [each.json["generation"] for each in box.received] == list(range(1, 9))
            streams = (await worlds[2].get())["streams"]
            assert tail in {each["acked_offset"] for each in streams}


async def test_workers_at_different_processes_race_for_one_claim(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(world(store)) for _ in range(4)]
        await begin(worlds[0], clock)
        await worlds[1].append("e/a")
        answers: list[int] = []

        async def race(w: World, name: str) -> None:
            told = await w.ask("POST", "subscriptions/s/claim", {"worker": name})
            answers.append(told.status)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(race, worlds[number % 4], f"w{number}")
        assert sorted(answers) == [200] + [409] * 11


async def test_what_one_process_creates_another_serves_at_once() -> None:
    store = MemoryStore(now_ms)
    async with world(store) as one, world(store) as two:
        await one.put(type="pull-wake", pattern="e/*", wake_stream="wake")
        assert (await two.get())["id"] == "s"
        await two.ask("DELETE", "subscriptions/s")
        assert (await one.ask("GET", "subscriptions/s")).status == 404
        keys = [(await w.ask("GET", "jwks.json")).json for w in (one, two)]
        assert keys[0] == keys[1]


async def test_many_creations_at_once_make_one_subscription() -> None:
    store = MemoryStore(now_ms)
    async with world(store) as one, world(store) as two:
        answers: list[int] = []

        async def create(w: World) -> None:
            told = {"type": "pull-wake", "pattern": "e/*", "wake_stream": "wake"}
            answers.append((await w.ask("PUT", "subscriptions/s", told)).status)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(create, (one, two)[number % 2])
        assert sorted(answers) == [200] * 9 + [201]
        records = await store.list("__ds/subscriptions/")
        assert len(records) == 1


async def test_an_append_that_nobody_was_told_of_is_found_by_the_next_start(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    async with world(store) as w:
        await begin(w, clock)
    await store.create("e/a", NewStream(content_type="application/json", data=b"1,"))
    async with world(store) as w:
        await clock.settle()
        assert await generations(w) == [1]


async def test_an_append_that_nobody_was_told_of_is_found_by_the_sweep(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    async with world(store, SubscriptionOptions(sweep=100)) as w:
        await begin(w, clock)
        await store.create("e/a", NewStream(content_type="application/json", data=b"1,"))
        await clock.advance(99)
        assert await generations(w) == []
        await clock.advance(2)
        assert await generations(w) == [1]


async def test_a_webhook_whose_process_died_is_sent_again_when_its_lease_ends(
    clock: Clock,
) -> None:
    store = MemoryStore(now_ms)
    with receiver([(200, DONE)]) as box:
        box.held.clear()
        async with world(store) as w:
            await w.put(type="webhook", pattern="e/*", webhook={"url": box.url}, lease_ttl_ms=5000)
            await clock.settle()
            tail = await w.append("e/a")
            await wait_until(lambda: box.received)
        box.held.set()
        async with world(store) as w:
            await clock.advance(4)
            assert len(box.received) == 1
            await clock.advance(1.1)
            await wait_until(lambda: len(box.received) == 2)
            assert box.received[1].json["generation"] == 2
            await clock.settle()
            assert (await w.get())["streams"][0]["acked_offset"] == tail


async def test_a_retry_keeps_its_time_over_a_restart(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    with receiver([(500, b""), (200, DONE)]) as box:
        async with world(store) as w:
            await w.put(type="webhook", pattern="e/*", webhook={"url": box.url})
            await clock.settle()
            await w.append("e/a")
            await wait_until(lambda: box.received)
            await clock.settle()
            planned = (await w.get())["next_attempt_at"]
        async with world(store) as w:
            assert (await w.get())["next_attempt_at"] == planned
            await clock.advance(0.7)
            assert len(box.received) == 1
            await clock.advance(0.6)
            await wait_until(lambda: len(box.received) == 2)
            first, second = (each.json for each in box.received)
            assert first["wake_id"] == second["wake_id"]
            await clock.settle()
            assert (await w.get())["status"] == "active"


class Faulty(MemoryStore):
    """A store whose appends fail while `broken` says so, and whose hints may be lost."""

    def __init__(self) -> None:
        super().__init__(now_ms)
        self.broken: Callable[[str], bool] = lambda _path: False
        self.deaf = False
        self.wrote_event = False

    async def append(self, path: str, append: Append) -> Appended:
        if self.broken(path):
            raise StoreFull("memory://", "is full")
        done = await super().append(path, append)
        self.wrote_event |= path == "wake"
        return done

    def watch(self, path: str, on_change: Callable[[Change], None]) -> Callable[[], None]:
        def acknowledged(change: Change) -> None:
            if not self.deaf:
                on_change(change)

        return super().watch(path, acknowledged)


async def test_a_wake_whose_writer_died_before_its_event_is_announced_by_another(
    clock: Clock,
) -> None:
    store = Faulty()
    async with world(store) as two:
        async with world(store) as one:
            await begin(one, clock)
            store.broken = lambda path: path == "wake"
            await one.append("e/a")
            await clock.settle()
        store.broken = lambda _path: False
        assert await generations(two) == []
        await clock.advance(5.1)
        assert await generations(two) == [1]


async def test_while_the_disk_is_full_nothing_is_lost(clock: Clock) -> None:
    store = Faulty()
    async with world(store) as w:
        await begin(w, clock)
        tail = await w.append("e/a")
        store.broken = lambda path: path.startswith("__ds/")
        claim = await w.ask("POST", "subscriptions/s/claim", {"worker": "w"})
        assert (claim.status, claim.error["code"]) == (507, "STORE_FULL")
        assert "memory" not in claim.error["message"]
        await clock.advance(20)
        store.broken = lambda _path: False
        await clock.advance(6)
        assert await generations(w) == [1]
        claim = await w.ask("POST", "subscriptions/s/claim", {"worker": "w"})
        assert claim.json["streams"][0]["tail_offset"] == tail


async def test_lost_hints_are_made_good_by_the_sweep(clock: Clock) -> None:
    store = Faulty()
    async with world(store, SubscriptionOptions(sweep=100)) as two:
        store.deaf = True
        async with world(store) as one:
            await begin(one, clock)
        await two.append("e/a")  # this process has not acknowledged of the subscription
        await clock.settle()
        assert await generations(two) == []
        await clock.advance(101)
        assert await generations(two) == [1]


async def test_an_event_is_written_once_though_its_writer_died_before_it_could_say_so(
    clock: Clock,
) -> None:
    store = Faulty()
    async with world(store) as two:
        async with world(store) as one:
            await begin(one, clock)
            store.broken = lambda path: path.startswith("__ds/") and store.wrote_event
            await one.append("e/a")
            await clock.settle()
            assert store.wrote_event
        store.broken = lambda _path: False
        await clock.advance(30)
        assert await generations(two) == [1]


async def test_an_append_while_another_process_ends_the_wake_is_not_missed(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    async with world(store) as one, world(store) as two:
        await begin(one, clock)
        for number in range(20):
            tail = await one.append("e/a")
            claimed = (await one.ask("POST", "subscriptions/s/claim", {"worker": "w"})).json
            told = {
                "wake_id": claimed["wake_id"],
                "generation": claimed["generation"],
                "acks": [{"stream": "e/a", "offset": tail}],
                "done": True,
            }
            async with anyio.create_task_group() as group:
                ask = partial(two.ask, token=claimed["token"])
                group.start_soon(ask, "POST", "subscriptions/s/ack", told)
                for _ in range(number):
                    await anyio.lowlevel.checkpoint()
                group.start_soon(one.append, "e/a")
            await clock.settle()
            latest = (await one.messages("wake"))[-1]
            assert latest["generation"] > claimed["generation"]
            claimed = (await two.ask("POST", "subscriptions/s/claim", {"worker": "w"})).json
            acks = [
                {"stream": each["path"], "offset": each["tail_offset"]}
                for each in claimed["streams"]
            ]
            told = {
                "wake_id": claimed["wake_id"],
                "generation": claimed["generation"],
                "acks": acks,
                "done": True,
            }
            done = await two.ask("POST", "subscriptions/s/ack", told, token=claimed["token"])
            assert done.json["next_wake"] is False


async def test_leavings_of_a_process_that_died_are_tidied_up(clock: Clock) -> None:
    store = MemoryStore(now_ms)
    await store.create("__ds/subscriptions/s/orphan", NewStream(content_type="application/json"))
    async with world(store):
        assert len(await store.list("__ds/subscriptions/")) == 1
    await clock.advance(3601)
    async with world(store):
        assert await store.list("__ds/subscriptions/") == []


async def test_a_deletion_that_was_cut_off_is_completed(clock: Clock) -> None:
    store = Faulty()
    async with world(store) as w:
        await begin(w, clock)
        store.broken = lambda path: path == "__ds/subscriptions"
        answer = await w.ask("DELETE", "subscriptions/s")
        assert answer.status == 507
    store.broken = lambda _path: False
    async with world(store) as w:
        assert (await w.ask("GET", "subscriptions/s")).status == 404
        await begin(w, clock)
        assert len(await store.list("__ds/subscriptions/")) == 1


async def test_it_runs_once_at_a_time() -> None:
    async with world() as w:
        with pytest.raises(RuntimeError, match="already"):
            await w.subscriptions.run()


async def test_a_store_that_cannot_work_is_said_at_the_start() -> None:
    store = Faulty()
    store.broken = lambda _path: True
    with pytest.raises(StoreFull):
        async with world(store):
            pass
