from __future__ import annotations

import logging
import threading
from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from tailrace import limits
from tailrace.errors import InvalidOption, ProducerGap, RunEnded, StreamExists
from tailrace.framing import Event
from tailrace.store import Created, MemoryStore, NewStream, Retention, Slice, Where
from tailrace.streams import Grace, Message, Progress, Run, Streams
from tailrace.testing import Clock, SourceProbe, no_leaks, settle, wait_until
from tailrace.types import StreamOptions
from tests.streams.worlds import Link, shared_store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    async with Streams(MemoryStore()) as streams:
        yield streams


async def items_of(run: Run) -> list[Any]:
    return [message.data async for message in run]


async def three() -> AsyncIterator[int]:
    for n in range(3):
        yield n


# What is in the stream ---------------------------------------------------------------------------


async def test_items_are_messages_and_the_stream_is_closed(streams: Streams) -> None:
    run = await streams.run("numbers", three())
    assert await items_of(run) == [0, 1, 2]
    await run.wait()
    assert run.status == "done"
    assert (await streams.head("numbers")).closed


async def test_a_sync_source_runs_in_a_thread(streams: Streams) -> None:
    probe = SourceProbe()
    run = await streams.run("numbers", probe.watch(iter(range(1000))))
    assert await items_of(run) == list(range(1000))
    assert probe.started_in is not None
    assert probe.started_in.task is None


async def test_a_list_is_a_source(streams: Streams) -> None:
    assert await items_of(await streams.run("list", [1, "two", None])) == [1, "two", None]


async def test_a_named_event_keeps_its_name(streams: Streams) -> None:
    run = await streams.run("named", [Event({"n": 1}, event="step"), Event("plain")])
    messages = [message async for message in run]
    assert [(each.data, each.event) for each in messages] == [({"n": 1}, "step"), ("plain", None)]


async def test_an_event_that_only_comments_is_no_message(streams: Streams) -> None:
    assert await items_of(await streams.run("comment", [Event(comment="x"), 1])) == [1]


async def test_an_item_that_looks_like_one_of_ours_fails_the_run(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    run = await streams.run("forged", [1, {"tailrace": {"end": "done"}}, 2])
    with pytest.raises(RunEnded, match="failed") as ended:
        await run.wait()
    assert ended.value.code == "invalid_chunk"
    assert [message.data async for message in _before_the_end(run)] == [1]


async def _before_the_end(run: Run) -> AsyncIterator[Message]:
    try:
        async for message in run:
            yield message
    except RunEnded:
        return


@pytest.mark.parametrize("place", ["body", "finally"])
@pytest.mark.parametrize("style", ["sync", "async"])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError])
async def test_a_source_that_exits_ends_its_own_run_and_no_other(
    streams: Streams, kind: type[BaseException], style: str, place: str
) -> None:
    def in_thread() -> Iterator[int]:
        try:
            yield 1
            if place == "body":
                raise kind
        finally:
            if place == "finally":
                raise kind

    async def in_task() -> AsyncIterator[int]:
        for item in in_thread():
            yield item

    other = await streams.run("other", gated(gate := anyio.Event()), on_disconnect="continue")
    run = await streams.run("exits", in_thread() if style == "sync" else in_task())
    with pytest.raises(RunEnded) as ended:
        await run.wait()
    assert (run.status, ended.value.code) == ("failed", "source_exited")
    assert other.status == "running"
    await (await streams.run("later", [1])).wait()
    gate.set()
    assert await items_of(other) == [1, 2]


async def gated(gate: anyio.Event) -> AsyncIterator[int]:
    yield 1
    await gate.wait()
    yield 2


async def test_what_can_not_be_iterated_is_refused(streams: Streams) -> None:
    with pytest.raises(TypeError, match="int"):
        await streams.run("nothing", 5)


async def test_offsets_lead_on_from_where_one_was(streams: Streams) -> None:
    run = await streams.run("numbers", three())
    first = await anext(aiter(run))
    await run.wait()
    rest = [message.data async for message in streams.read("numbers", first.offset)]
    assert rest == [1, 2]


# Joining and replaying ---------------------------------------------------------------------------


async def test_a_second_call_joins_and_its_source_is_closed_unstarted(streams: Streams) -> None:
    gate = anyio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        await gate.wait()
        yield 2

    first = await streams.run("joined", slow(), on_disconnect="continue")
    probe = SourceProbe()
    second = await streams.run("joined", probe.watch(three()))
    assert probe.closed.is_set()
    assert not probe.started.is_set()
    gate.set()
    assert await items_of(first) == await items_of(second) == [1, 2]


async def test_calls_at_the_same_moment_start_one_source(streams: Streams) -> None:
    probes = [SourceProbe() for _ in range(10)]

    async def call(probe: SourceProbe) -> None:
        run = await streams.run("once", probe.watch(three()), on_disconnect="continue")
        assert await items_of(run) == [0, 1, 2]

    async with anyio.create_task_group() as group:
        for probe in probes:
            group.start_soon(call, probe)
    assert sum(probe.started.is_set() for probe in probes) == 1
    assert all(probe.closed.is_set() for probe in probes)


async def test_a_run_that_has_ended_is_replayed(streams: Streams) -> None:
    await (await streams.run("ended", three())).wait()
    probe = SourceProbe()
    again = await streams.run("ended", probe.watch(three()))
    assert again.status == "done"
    assert await items_of(again) == [0, 1, 2]
    assert not probe.started.is_set()


async def test_restart_begins_anew(streams: Streams) -> None:
    await (await streams.run("again", [1])).wait()
    run = await streams.run("again", [2], restart=True)
    assert await items_of(run) == [2]
    await run.wait()
    assert [message.data async for message in streams.read("again")] == [2]


async def test_restart_joins_a_run_that_goes_on(streams: Streams) -> None:
    gate = anyio.Event()

    async def slow() -> AsyncIterator[int]:
        await gate.wait()
        yield 1

    await streams.run("on", slow(), on_disconnect="continue")
    joined = await streams.run("on", [2], restart=True)
    gate.set()
    assert await items_of(joined) == [1]


@pytest.mark.parametrize("restart", [True, False])
async def test_a_run_of_which_nothing_is_retained_any_more_begins_anew(
    clock: Clock, restart: bool
) -> None:
    async with Streams(shared_store()) as streams:
        await (await streams.run("old", [1], retention=Retention(max_age=10))).wait()
        await clock.advance(20)
        assert await items_of(await streams.run("old", [2], restart=restart)) == [2]


class Vanishing(Link):
    """A store in which somebody deletes a stream just before a certain call for it."""

    def __init__(self, path: str, call: str) -> None:
        super().__init__(MemoryStore())
        self.vanishing: str | None = None
        """The path, until the stream has vanished."""
        self._path, self._call = path, call

    async def _vanish(self, path: str, call: str) -> None:
        if (path, call) == (self.vanishing, self._call):
            self.vanishing = None
            await self.store.delete(path)

    def arm(self) -> None:
        self.vanishing = self._path

    async def read(self, path: str, start: Where, max_bytes: int = 1 << 20) -> Slice:
        await self._vanish(path, "read")
        return await super().read(path, start, max_bytes)

    async def delete(self, path: str) -> None:
        await self._vanish(path, "delete")
        await super().delete(path)


@pytest.mark.parametrize(("call", "restart"), [("read", False), ("read", True), ("delete", True)])
async def test_a_run_whose_stream_is_deleted_at_that_moment_begins_anew(
    call: str, restart: bool
) -> None:
    store = Vanishing("old", call)
    async with Streams(store) as streams:
        await (await streams.run("old", [1])).wait()
        store.arm()
        run = await streams.run("old", [2], restart=restart)
        assert store.vanishing is None
        assert await items_of(run) == [2]


async def test_a_call_that_is_cancelled_leaves_no_stream_that_nobody_writes() -> None:
    class Slow(Link):
        async def create(self, path: str, new: NewStream) -> Created:
            made = await super().create(path, new)
            if path == "slow" and made.is_new:
                created.set()
                await anyio.sleep_forever()
            return made

    created = anyio.Event()
    async with Streams(store := Slow(MemoryStore())) as streams:
        async with anyio.create_task_group() as group:
            group.start_soon(streams.run, "slow", three())
            await created.wait()
            group.cancel_scope.cancel()
        assert await store.list("") == []
        assert await store.list("__ds/runs/") == []


async def test_calls_that_restart_at_the_same_moment_restart_once(streams: Streams) -> None:
    await (await streams.run("race", [0])).wait()
    seen: list[list[Any]] = []

    async def call(n: int) -> None:
        run = await streams.run("race", [n], restart=True, on_disconnect="continue")
        seen.append(await items_of(run))

    async with anyio.create_task_group() as group:
        for n in range(1, 4):
            group.start_soon(call, n)
    assert len(seen) == 3
    assert [0] not in seen


async def test_a_stream_that_no_run_has_written_is_left_alone(streams: Streams) -> None:
    await streams.append("open", 1)
    await streams.append("closed", 1)
    await streams.close("closed")
    for path in ("open", "closed"):
        probe = SourceProbe()
        with pytest.raises(StreamExists):
            await streams.run(path, probe.watch(three()), restart=True)
        assert probe.closed.is_set()
        assert [message.data async for message in streams.read(path)] == [1]


async def test_nothing_is_left_of_a_claim_when_a_run_has_ended(streams: Streams) -> None:
    await (await streams.run("over", three())).wait()
    assert await (await streams.store()).list("__ds/runs/") == []


# How it ends -------------------------------------------------------------------------------------


async def test_a_source_that_fails_ends_the_run_as_failed_after_its_items(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("secret")

    run = await streams.run("failing", failing())
    assert [message.data async for message in _before_the_end(run)] == [1]
    with pytest.raises(RunEnded) as ended:
        await run.wait()
    assert ended.value.run_status == run.status == "failed"
    assert ended.value.code == "stream_failed"
    assert "secret" not in str(ended.value)
    records = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(records) == 1
    assert records[0].exc_info is not None


async def test_a_source_that_fails_at_once_ends_the_run_as_failed(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    def failing() -> Iterator[int]:
        raise ValueError
        yield 1

    run = await streams.run("failing", failing())
    with pytest.raises(RunEnded, match="failed"):
        await run.wait()
    again = await streams.run("failing", failing())
    assert again.status == "failed"


async def test_errors_are_told_in_full_where_that_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("the reason")

    async with Streams("memory://", options=StreamOptions(expose_errors=True)) as streams:
        run = await streams.run("failing", failing())
        with pytest.raises(RunEnded, match="ValueError: the reason"):
            await run.wait()


async def test_a_very_long_reason_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("\x00" * 1_000_000)

    async with Streams("memory://", options=StreamOptions(expose_errors=True)) as streams:
        run = await streams.run("failing", failing())
        with pytest.raises(RunEnded):
            await run.wait()
        assert (await streams.run("failing", [1])).status == "failed"
        assert (await streams.head("failing")).tail.position < 10_000


async def test_stop_ends_it_as_cancelled_and_closes_the_source(streams: Streams) -> None:
    probe = SourceProbe()

    async def endless() -> AsyncIterator[int]:
        with probe.inside():
            yield 1
            await anyio.sleep_forever()

    run = await streams.run("endless", endless(), on_disconnect="continue")
    await wait_until(lambda: probe.started.is_set())
    await run.stop()
    assert run.status == "cancelled"
    assert probe.closed.is_set()
    assert probe.same_task
    with pytest.raises(RunEnded, match="it was stopped"):
        await items_of(run)
    assert not await streams.stop("endless")


async def test_a_source_awaits_in_its_cleanup_when_it_is_stopped(streams: Streams) -> None:
    cleaned = anyio.Event()

    async def careful() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
                cleaned.set()

    run = await streams.run("careful", careful(), on_disconnect="continue")
    await anext(aiter(run))
    await run.stop()
    assert cleaned.is_set()


async def test_what_was_yielded_before_a_stop_is_kept(streams: Streams) -> None:
    async def some() -> AsyncIterator[int]:
        for n in range(100):
            yield n
        await anyio.sleep_forever()

    run = await streams.run("some", some(), on_disconnect="continue")
    await settle()
    await run.stop()
    seen = [message.data async for message in _before_the_end(run)]
    assert seen == list(range(100))


async def test_a_stop_before_the_source_began_closes_it(streams: Streams) -> None:
    probe = SourceProbe()
    run = await streams.run("unbegun", probe.watch(three()), on_disconnect="continue")
    await run.stop()
    assert run.status in ("cancelled", "done")
    assert probe.closed.is_set()


async def test_a_run_whose_stream_was_deleted_is_not_joined(streams: Streams) -> None:
    async def endless() -> AsyncIterator[str]:
        yield "old"
        await anyio.sleep_forever()

    old = await streams.run("a", endless(), on_disconnect="continue")
    await streams.delete("a")
    new = await streams.run("a", ["new"], on_disconnect="continue")
    await new.wait()
    assert [message.data async for message in streams.read("a")] == ["new"]
    assert old.status == "cancelled"


async def test_a_stream_that_is_deleted_stops_its_run(streams: Streams) -> None:
    probe = SourceProbe()

    async def endless() -> AsyncIterator[int]:
        with probe.inside():
            yield 1
            await anyio.sleep_forever()

    run = await streams.run("deleted", endless(), on_disconnect="continue")
    await anext(aiter(run))
    await streams.delete("deleted")
    with pytest.raises(RunEnded, match="deleted"):
        await run.wait()
    assert probe.closed.is_set()
    assert await items_of(await streams.run("deleted", [5])) == [5]


async def test_a_stream_that_somebody_closes_stops_its_run(streams: Streams) -> None:
    run = await streams.run("shut", endless_ones(), on_disconnect="continue")
    await anext(aiter(run))
    await streams.close("shut")
    with pytest.raises(RunEnded, match="closed by somebody else"):
        await run.wait()


async def endless_ones(seconds: float = 0.01) -> AsyncIterator[int]:
    while True:
        yield 1
        await anyio.sleep(seconds)


async def test_runs_end_with_the_lifespan() -> None:
    store = MemoryStore()
    probe = SourceProbe()

    async def endless() -> AsyncIterator[int]:
        with probe.inside():
            yield 1
            await anyio.sleep_forever()

    async with no_leaks():
        async with Streams(store) as streams:
            run = await streams.run("endless", endless(), on_disconnect="continue")
            await anext(aiter(run))
        assert probe.closed.is_set()
        assert run.status == "cancelled"
        with pytest.raises(RunEnded, match="the worker that ran it was stopped"):
            async for _ in Streams(store).read("endless"):
                pass
        assert await store.list("__ds/") == []


async def test_a_run_needs_a_lifespan() -> None:
    probe = SourceProbe()
    with pytest.raises(RuntimeError, match=r"lifespan=streams\.lifespan"):
        await Streams("memory://").run("x", probe.watch(three()))
    assert probe.closed.is_set()


# Clients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["stop", None, 3])
async def test_a_policy_that_is_none_is_refused(streams: Streams, policy: Any) -> None:
    with pytest.raises(InvalidOption, match="on_disconnect"):
        await streams.run("x", three(), on_disconnect=policy)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), True])
def test_a_grace_is_more_than_nothing(seconds: Any) -> None:
    with pytest.raises(InvalidOption):
        Grace(seconds)


async def test_cancel_ends_the_run_when_its_last_client_leaves(streams: Streams) -> None:
    run = await streams.run("left", endless_ones(), on_disconnect="cancel")
    first, second = aiter(run), aiter(run)
    await anext(first)
    await anext(second)
    await first.aclose()
    await settle()
    assert run.status == "running"
    await second.aclose()
    with pytest.raises(RunEnded, match="its last client has left"):
        await run.wait()


async def test_an_iterator_that_is_dropped_counts_as_left(streams: Streams) -> None:
    run = await streams.run("dropped", endless_ones(), on_disconnect="cancel")
    async for _ in run:
        break
    with pytest.raises(RunEnded, match="its last client has left"):
        await run.wait()


async def test_cancel_ends_a_run_to_which_no_client_ever_comes(clock: Clock) -> None:
    async with Streams(shared_store()) as streams:
        run = await streams.run("alone", endless_ones(1), on_disconnect="cancel")
        await clock.advance(9.9)
        assert run.status == "running"
        await clock.advance(0.2)
        assert run.status == "cancelled"  # type: ignore[comparison-overlap] # it has changed


async def test_continue_goes_on_without_clients(clock: Clock) -> None:
    async def slow() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep(100)
        yield 2

    async with Streams(shared_store()) as streams:
        run = await streams.run("on", slow(), on_disconnect="continue")
        reader = aiter(run)
        await anext(reader)
        await reader.aclose()
        await clock.advance(101)
        assert run.status == "done"
        assert await items_of(run) == [1, 2]


async def test_grace_waits_for_a_client_to_come_back(clock: Clock) -> None:
    async with Streams(shared_store()) as streams:
        run = await streams.run("grace", endless_ones(5), on_disconnect=Grace(30))
        for _ in range(2):
            reader = aiter(run)
            await anext(reader)
            await clock.advance(100)
            await reader.aclose()
            await clock.advance(29.9)
            assert run.status == "running"
        await clock.advance(0.2)
        assert run.status == "cancelled"


async def test_a_run_that_has_ended_waits_for_nobody(clock: Clock) -> None:
    async with Streams(shared_store()) as streams:
        run = await streams.run("done", three(), on_disconnect=Grace(30))
        assert await items_of(run) == [0, 1, 2]
        await clock.advance(31)
        assert run.status == "done"


# Batches and backpressure ------------------------------------------------------------------------


async def test_items_that_are_ready_together_are_one_append() -> None:
    link = Link(MemoryStore())
    async with Streams(link) as streams:
        await (await streams.run("batch", range(1000), on_disconnect="continue")).wait()
    sizes = [len(data) for data in link.appends["batch"]]
    assert len(sizes) < 20
    assert b"".join(link.appends["batch"]).startswith(b"0,1,2,3,")


async def test_an_item_goes_out_the_moment_the_source_waits() -> None:
    link = Link(MemoryStore())
    gate = anyio.Event()

    async def stuttering() -> AsyncIterator[int]:
        yield 1
        yield 2
        await gate.wait()
        yield 3

    async with Streams(link) as streams:
        run = await streams.run("stutter", stuttering(), on_disconnect="continue")
        await settle()
        assert b"".join(link.appends["stutter"]) == b"1,2,"
        gate.set()
        await run.wait()


@pytest.mark.parametrize("style", ["sync", "async"])
async def test_a_source_is_held_back_while_the_store_is_slow(style: str) -> None:
    link = Link(MemoryStore())
    taken = 0

    def numbers() -> Iterator[str]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield "x" * 10_000

    async def as_async() -> AsyncIterator[str]:
        for number in numbers():
            yield number

    async with Streams(link) as streams:
        link.gate = anyio.Event()
        source = numbers() if style == "sync" else as_async()
        run = await streams.run("held", source, on_disconnect="continue")
        await settle()
        await settle()
        assert taken * 10_000 < 3 * 256 * 1024
        link.gate.set()
        await run.wait()
        assert taken == 1000
    assert len(b"".join(link.appends["held"]).split(b",")) == 1002


async def test_a_batch_is_bounded_and_no_message_is_cut() -> None:
    link = Link(MemoryStore())
    async with Streams(link) as streams:
        source = ["x" * 200_000 for _ in range(10)] + ["y" * 1_000_000]
        run = await streams.run("large", source, on_disconnect="continue")
        await run.wait()
        assert [len(each) for each in await items_of(run)] == [200_000] * 10 + [1_000_000]
    sizes = [len(data) for data in link.appends["large"]]
    assert max(sizes[:-2]) <= 256 * 1024


async def test_an_item_that_no_append_can_hold_fails_the_run(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    run = await streams.run("huge", [1, "x" * (16 * 1024 * 1024 + 1)], on_disconnect="continue")
    with pytest.raises(RunEnded) as ended:
        await run.wait()
    assert ended.value.code == "too_large"


async def test_the_largest_item_that_an_append_can_hold_goes_through(streams: Streams) -> None:
    text = "x" * (16 * 1024 * 1024 - 3)  # two quotes and a comma
    run = await streams.run("huge", [text], on_disconnect="continue")
    await run.wait()


LARGEST = "x" * (limits.MAX_APPEND_BYTES - 3)  # two quotes and a comma


async def test_the_largest_item_fits_before_the_end_of_a_run_that_was_stopped() -> None:
    async def source() -> AsyncIterator[Any]:
        yield 1
        await anyio.lowlevel.checkpoint()
        yield LARGEST
        await anyio.sleep_forever()

    link = Link(MemoryStore())
    async with Streams(link) as streams:
        link.gate = anyio.Event()
        run = await streams.run("huge", source(), on_disconnect="continue")
        await settle()
        await streams.stop("huge")
        await settle()
        link.gate.set()
        with pytest.raises(RunEnded, match="cancelled"):
            await run.wait()
        assert [message.data async for message in _before_the_end(run)] == [1, LARGEST]


async def test_the_largest_item_fits_beside_progress_that_was_kept_back(clock: Clock) -> None:
    link = Link(shared_store())

    async def source() -> AsyncIterator[Any]:
        progress = Progress(clock=anyio.current_time)
        yield progress.step()
        yield progress.step()  # kept back, until an interval has passed
        await anyio.sleep(limits.PROGRESS_INTERVAL / 2)
        link.gate = anyio.Event()
        yield "x"
        await anyio.sleep(limits.PROGRESS_INTERVAL)
        yield LARGEST

    async with Streams(link) as streams:
        run = await streams.run("huge", source(), on_disconnect="continue")
        await clock.advance(1)
        assert link.gate is not None
        link.gate.set()
        await run.wait()
        items = [each.data for each in [message async for message in run] if each.event is None]
        assert items == ["x", LARGEST]


# A store that fails ------------------------------------------------------------------------------


async def test_a_run_whose_append_is_refused_fails_and_its_readers_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = Link(MemoryStore())
    link.refusals = [ProducerGap(0, 1)]
    async with Streams(link) as streams:
        probe = SourceProbe()
        run = await streams.run("odd", probe.watch(endless_ones()), on_disconnect="continue")
        reader = streams.read("odd", follow=True)
        with pytest.raises(RunEnded) as ended:
            await anext(reader)  # no item follows one that was refused
        assert (ended.value.run_status, ended.value.code) == ("failed", "producer_gap")
        with pytest.raises(RunEnded):
            await run.wait()
        assert probe.closed.is_set()
        assert (await streams.run("odd", three())).status == "failed"
        assert await items_of(await streams.run("odd", three(), restart=True)) == [0, 1, 2]


async def test_a_run_whose_end_is_refused_too_is_found_lost(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(shared_store())
    link.refusals = [ProducerGap(0, 1), ProducerGap(0, 1)]
    async with Streams(link) as streams:
        run = await streams.run("odd", endless_ones(), on_disconnect="continue")
        await clock.advance(2 * limits.LEASE)
        with pytest.raises(RunEnded):
            await run.wait()
        with pytest.raises(RunEnded) as ended:
            await anext(streams.read("odd", follow=True))
        assert ended.value.run_status == "lost"


async def test_a_run_that_is_done_while_its_store_fails_is_done_when_it_comes_back(
    clock: Clock,
) -> None:
    link = Link(shared_store())
    async with Streams(link) as streams:
        run = await streams.run("late", slowly(1), on_disconnect="continue")
        await clock.advance(0.5)
        link.failing = True
        await clock.advance(2 * limits.STORE_PATIENCE)
        link.failing = False
        await clock.advance(5)
        assert await items_of(run) == [0]
        assert run.status == "done"


async def test_a_run_waits_for_a_store_that_comes_back(clock: Clock) -> None:
    link = Link(shared_store())
    async with Streams(link) as streams:
        run = await streams.run("waits", slowly(3), on_disconnect="continue")
        await clock.advance(0.5)
        link.failing = True
        await clock.advance(limits.STORE_PATIENCE)  # half a second less since it noticed
        link.failing = False
        await clock.advance(5)
        assert run.status == "done"
        assert await items_of(run) == [0, 1, 2]


async def slowly(count: int) -> AsyncIterator[int]:
    for n in range(count):
        yield n
        await anyio.sleep(1)


async def test_a_run_fails_when_its_store_does_not_come_back_and_says_so_later(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(shared_store())
    probe = SourceProbe()
    async with Streams(link) as streams:
        run = await streams.run("fails", probe.watch(slowly(100)), on_disconnect="continue")
        await clock.advance(0.5)
        link.failing = True
        await clock.advance(0.5 + limits.STORE_PATIENCE + limits.STORE_RETRY[1])
        assert probe.closed.is_set()
        assert run.status == "running"  # readers have not been told yet
        link.failing = False
        await clock.advance(3)
        assert run.status == "failed"  # type: ignore[comparison-overlap] # it has changed
        with pytest.raises(RunEnded) as ended:
            await items_of(run)
        assert ended.value.code == "store_unavailable"


# Sources of every temper -------------------------------------------------------------------------


async def test_a_source_that_does_not_let_go_keeps_no_reader_from_the_end(clock: Clock) -> None:
    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1000)

    async with Streams(shared_store()) as streams:
        run = await streams.run("stubborn", stubborn(), on_disconnect="continue")
        await settle()
        assert await streams.stop("stubborn")
        await clock.advance(4)
        assert run.status == "running"
        await clock.advance(7)
        assert run.status == "cancelled"  # type: ignore[comparison-overlap] # it has changed
        assert (await streams.head("stubborn")).closed
        await clock.advance(1000)
        await run.stop()


async def test_a_source_is_given_its_time_for_cleaning_up_and_no_more(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1000)

    async with Streams(shared_store()) as streams:
        run = await streams.run("slow", slow(), on_disconnect="continue")
        await settle()
        assert await streams.stop("slow")
        await clock.advance(6)
        assert run.status == "cancelled"
        await run.stop()


async def test_a_sync_source_that_blocks_holds_a_stop_no_longer_than_it_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()

    def blocked() -> Iterator[int]:
        yield 1
        gate.wait(20)

    options = StreamOptions(cleanup_timeout=0.05)
    async with Streams(MemoryStore(), options=options) as streams:
        run = await streams.run("blocked", blocked(), on_disconnect="continue")
        await anext(aiter(run))
        await run.stop()
        assert run.status == "cancelled"
        gate.set()
    assert "was not closed within cleanup_timeout" in caplog.text


async def test_a_source_that_swallows_the_end_of_its_time_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep(1000)
        finally:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()

    options = StreamOptions(cleanup_timeout=0.05)
    async with Streams(MemoryStore(), options=options) as streams:
        run = await streams.run("swallows", source(), on_disconnect="continue")
        await anext(aiter(run))
        await run.stop()
    late = anyio_backend_name == "asyncio"  # trio ends cleanup that is not shielded at once
    assert caplog.text.count("was not closed within cleanup_timeout") == late


async def test_a_source_that_fails_in_its_cleanup_is_logged(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    async def careless() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    run = await streams.run("careless", careless(), on_disconnect="continue")
    await anext(aiter(run))
    await run.stop()
    assert run.status == "cancelled"
    assert "in cleanup" in caplog.text


async def test_a_source_sees_the_context_of_its_caller(streams: Streams) -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("caller")

    async def reader() -> AsyncIterator[str]:
        yield name.get()

    def sync_reader() -> Iterator[str]:
        yield name.get()

    assert await items_of(await streams.run("async", reader())) == ["caller"]
    assert await items_of(await streams.run("sync", sync_reader())) == ["caller"]


async def test_a_run_that_breaks_leaves_the_others_alone(streams: Streams) -> None:
    other = await streams.run("other", endless_ones(), on_disconnect="continue")

    def exits() -> Iterator[int]:
        yield 1
        raise RuntimeError("the generator's own")

    broken = await streams.run("broken", exits(), on_disconnect="continue")
    with pytest.raises(RunEnded):
        await broken.wait()
    assert other.status == "running"


async def test_nothing_is_left_of_runs_of_any_end() -> None:
    async with no_leaks():
        async with Streams(MemoryStore()) as streams:
            await (await streams.run("done", three())).wait()
            await (await streams.run("sync", iter([1, 2]))).wait()
            stopped = await streams.run("stopped", endless_ones(), on_disconnect="continue")
            await anext(aiter(stopped))
            await stopped.stop()
            await streams.run("running", endless_ones(), on_disconnect="continue")
