"""Several workers on one store: joining, stopping, and dying."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from tailrace import limits
from tailrace.errors import RunEnded
from tailrace.store import Append, Producer, Slice, Store, StreamInfo, Where
from tailrace.streams import Grace, Run, Streams
from tailrace.streams.claims import Claims
from tailrace.testing import Clock, SourceProbe, settle
from tests.streams.worlds import Link, shared_store

pytestmark = pytest.mark.anyio


async def ticking(probe: SourceProbe | None = None) -> AsyncIterator[int]:
    with (probe or SourceProbe()).inside():
        n = 0
        while True:
            yield n
            n += 1
            await anyio.sleep(1)


@asynccontextmanager
async def mortal(store: Store, clock: Clock) -> AsyncIterator[tuple[Streams, Link]]:
    """A worker whose store can be cut off; at the end it is given the time to give up."""
    link = Link(store)
    streams = Streams(link)
    ready, stop = anyio.Event(), anyio.Event()

    async def live() -> None:
        async with streams:
            ready.set()
            await stop.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(live)
        await ready.wait()
        try:
            yield streams, link
        finally:
            stop.set()
            with anyio.CancelScope(shield=True):
                await clock.advance(40)


async def ended(run: Run) -> RunEnded:
    with pytest.raises(RunEnded) as error:
        await run.wait()
    return error.value


# Joining -----------------------------------------------------------------------------------------


async def test_a_run_is_joined_from_another_worker(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one, Streams(store) as two:
        gate = anyio.Event()

        async def slow() -> AsyncIterator[int]:
            yield 1
            await gate.wait()
            yield 2

        first = await one.run("run", slow(), on_disconnect="continue")
        probe = SourceProbe()
        second = await two.run("run", probe.watch(ticking()), on_disconnect="continue")
        assert not probe.started.is_set()
        assert probe.closed.is_set()
        gate.set()
        assert [message.data async for message in second] == [1, 2]
        await second.wait()
        assert second.status == first.status == "done"


async def test_two_workers_that_call_at_once_start_one_source(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one, Streams(store) as two:
        probes = [SourceProbe(), SourceProbe()]
        runs: list[Run] = []

        async def call(streams: Streams, probe: SourceProbe) -> None:
            runs.append(await streams.run("run", ticking(probe), on_disconnect="continue"))

        async with anyio.create_task_group() as group:
            group.start_soon(call, one, probes[0])
            group.start_soon(call, two, probes[1])
        await settle()
        assert sum(probe.started.is_set() for probe in probes) == 1


async def test_a_restart_elsewhere_waits_for_the_claim_of_the_old_run(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one, Streams(store) as two:
        await (await one.run("run", [1], on_disconnect="continue")).wait()
        run = await two.run("run", [2], on_disconnect="continue", restart=True)
        assert [message.data async for message in run] == [2]
        await run.wait()
        again = await one.run("run", [3], on_disconnect="continue")
        assert [message.data async for message in again] == [2]


# Stopping ----------------------------------------------------------------------------------------


async def test_a_run_is_stopped_from_another_worker(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one, Streams(store) as two:
        probe = SourceProbe()
        first = await one.run("run", ticking(probe), on_disconnect="continue")
        await settle()
        second = await two.run("run", ticking(), on_disconnect="continue")
        await second.stop()
        assert second.status == "cancelled"
        assert probe.closed.is_set()
        assert (await ended(first)).message == "it was stopped"


async def test_a_run_is_stopped_by_its_path_alone_without_a_lifespan(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one:
        run = await one.run("run", ticking(), on_disconnect="continue")
        script = Streams(store)
        assert await script.stop("run")
        assert (await ended(run)).run_status == "cancelled"
        assert not await script.stop("run")
        assert not await script.stop("another")


async def test_asking_a_thousand_times_to_stop_says_it_once(clock: Clock) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, link):
        await one.run("run", ticking(), on_disconnect="continue")
        link.cut = True  # it does not hear
        script = Streams(store)
        for _ in range(1000):
            assert await script.stop("run")
        claim = await store.read("__ds/runs/run", (await store.head("__ds/runs/run")).first)
        assert len(claim.chunks) == 2


# Clients elsewhere -------------------------------------------------------------------------------


async def test_a_client_elsewhere_keeps_a_run_alive(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one, Streams(store) as two:
        first = await one.run("run", ticking(), on_disconnect="cancel")
        second = await two.run("run", ticking(), on_disconnect="cancel")
        here, there = aiter(first), aiter(second)
        await anext(here)
        await anext(there)
        await settle()
        await here.aclose()
        await clock.advance(30)
        assert first.status == "running"
        await there.aclose()
        await settle()
        assert first.status == "cancelled"  # type: ignore[comparison-overlap] # it has changed


async def test_clients_of_a_worker_that_died_count_no_more(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one, mortal(store, clock) as (two, link):
        first = await one.run("run", ticking(), on_disconnect=Grace(1))
        second = await two.run("run", ticking(), on_disconnect=Grace(1))
        there = aiter(second)
        await anext(there)
        await clock.advance(5)
        assert first.status == "running"
        link.cut = True
        await clock.advance(4)
        assert first.status == "running"
        await clock.advance(10)
        assert first.status == "cancelled"  # type: ignore[comparison-overlap] # it has changed


async def test_a_client_elsewhere_is_told_of_once_the_store_works_again(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = shared_store()
    async with Streams(store) as one, mortal(store, clock) as (two, link):
        first = await one.run("run", ticking(), on_disconnect="cancel")
        second = await two.run("run", ticking(), on_disconnect="cancel")
        here = aiter(first)
        await anext(here)
        link.failing = True
        with second._attend():
            await settle()
            link.failing = False
            await clock.advance(3)
            await here.aclose()
            await settle()
            assert first.status == "running"
        await settle()
        assert first.status == "cancelled"  # type: ignore[comparison-overlap] # it has changed


async def test_a_stop_that_could_not_be_read_is_heard_by_the_next_sweep(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, link):
        run = await one.run("run", ticking(), on_disconnect="continue")
        await settle()
        link.failing = True
        assert await Streams(store).stop("run")
        await settle()
        link.failing = False
        await clock.advance(7)
        assert run.status == "cancelled"


# Dying -------------------------------------------------------------------------------------------


async def test_the_run_of_a_worker_that_died_is_lost_within_two_leases(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as two, mortal(store, clock) as (one, link):
        await one.run("run", ticking(), on_disconnect="continue")
        run = await two.run("run", ticking(), on_disconnect="continue")
        link.cut = True
        await clock.advance(12)
        assert run.status == "lost"
        error = await ended(run)
        assert error.code == "worker_lost"
        assert await store.list("__ds/runs/") == []


class BrokenList(Link):
    """A link through which nothing can be listed, for a reason that nobody has thought of."""

    async def list(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[StreamInfo]:
        raise ValueError("a mistake of ours")


async def test_a_sweep_that_breaks_ends_no_run(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with Streams(BrokenList(shared_store())) as streams:
        run = await streams.run("run", ticking(), on_disconnect="continue")
        await clock.advance(20)
        assert run.status == "running"
    assert "a mistake of ours" in caplog.text


async def test_a_run_of_a_worker_that_lives_is_never_lost(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as one, Streams(store) as two:
        run = await one.run("run", ticking(), on_disconnect="continue")
        joined = await two.run("run", ticking(), on_disconnect="continue")
        await clock.advance(300)
        assert run.status == joined.status == "running"


async def test_whoever_only_reads_without_a_lifespan_ends_a_lost_run(clock: Clock) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, link):
        await one.run("run", ticking(), on_disconnect="continue")
        await clock.advance(1)
        seen: list[int] = []
        errors: list[RunEnded] = []

        async def read() -> None:
            try:
                async for message in Streams(store).read("run", follow=True):
                    seen.append(message.data)
            except RunEnded as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await settle()
            link.cut = True
            await clock.advance(12)
            assert [error.run_status for error in errors] == ["lost"]
        assert seen == [0, 1]


class Counted(Link):
    """A link that counts how often a claim is read."""

    reads = 0

    async def read(self, path: str, start: Where, max_bytes: int = 1 << 20) -> Slice:
        self.reads += path.startswith("__ds/runs/")
        return await super().read(path, start, max_bytes)


@pytest.mark.parametrize("count", [8, 32])
async def test_a_sweep_reads_so_many_claims_however_many_runs_there_are(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(limits, "SWEEP_RUNS", 4)
    store = Counted(shared_store())
    async with Streams(store) as streams:
        for number in range(count):
            await streams.run(f"r/{number}", ticking(), on_disconnect="continue")
        await clock.advance(limits.LEASE)  # a sweep that has seen this worker's lease
        store.reads = 0
        await clock.advance(5 * limits.LEASE)
        assert 0 < store.reads <= 5 * 4


async def test_all_runs_of_a_worker_that_was_seen_are_lost_with_it_at_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SWEEP_RUNS", 1)
    store = shared_store()
    async with Streams(store), mortal(store, clock) as (one, link):
        for number in range(20):
            await one.run(f"r/{number}", ticking(), on_disconnect="continue")
        await clock.advance(limits.LEASE)
        link.cut = True
        await clock.advance(2 * limits.LEASE)
        assert await store.list("__ds/runs/") == []


async def test_the_runs_of_a_worker_that_nobody_has_seen_alive_are_found_in_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SWEEP_RUNS", 4)
    store = shared_store()
    async with Streams(store):
        await clock.advance(1)
        for number in range(20):
            await Claims(store, "unseen").make(f"r/{number}", counts_clients=False)
        await clock.advance(6 * limits.LEASE)
        assert await store.list("__ds/runs/") == []


async def test_a_new_worker_finds_what_was_lost_before_it_began(clock: Clock) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, link):
        await one.run("run", ticking(), on_disconnect="continue")
        link.cut = True
        await clock.advance(60)
        assert not (await store.head("run")).closed
        async with Streams(store):
            await settle()
            assert (await store.head("run")).closed


async def test_a_lost_run_begins_anew_where_that_is_asked_for(clock: Clock) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, link):
        await one.run("run", ticking(), on_disconnect="continue")
        link.cut = True
        await clock.advance(7)
        two = Streams(store)
        async with two:
            again = await two.run("run", [5], on_disconnect="continue", restart=True)
            assert [message.data async for message in again] == [5]


async def test_several_workers_that_find_it_lost_end_it_once(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as two, Streams(store) as three, Streams(store):
        async with mortal(store, clock) as (one, link):
            await one.run("run", ticking(), on_disconnect="continue")
            await two.run("run", ticking(), on_disconnect="continue")
            run = await three.run("run", ticking(), on_disconnect="continue")
            link.cut = True
            await clock.advance(13)
            assert (await ended(run)).run_status == "lost"
            whole = await store.read("run", (await store.head("run")).first)
            assert whole.data.count(b'"end":"lost"') == 1


async def test_a_worker_that_seemed_dead_is_fenced_and_stops(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = shared_store()
    async with Streams(store), mortal(store, clock) as (one, link):
        probe = SourceProbe()
        run = await one.run("run", ticking(probe), on_disconnect="continue")
        await clock.advance(1.5)
        link.failing = True  # no disk: neither its lease nor its items get through
        await clock.advance(15)
        assert (await store.head("run")).closed
        link.failing = False
        await clock.advance(5)
        assert probe.closed.is_set()
        assert run.status == "lost"
        whole = await store.read("run", (await store.head("run")).first)
        assert whole.data.endswith(b'"}},')
        assert whole.data.count(b'"end":') == 1


async def test_a_run_is_lost_though_whoever_took_it_over_dies_before_its_end(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as streams:
        run = await streams.run("run", ticking(), on_disconnect="continue")
        claim = await Claims(store, "another").find("run")
        assert claim is not None
        taken = {"worker": "dead", "turn": 1, "generation": claim.generation}
        await store.append("__ds/runs/run", Append(data=json.dumps(taken).encode() + b","))
        await clock.advance(2 * limits.LEASE)
        assert run.status == "lost"
        assert (await store.head("run")).closed


async def test_a_run_is_lost_whose_producer_a_client_has_fenced(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = shared_store()
    async with Streams(store) as streams:
        run = await streams.run("run", ticking(), on_disconnect="continue")
        await settle()
        await store.append("run", Append(data=b"1,", producer=Producer("run", 2**53 - 1, 0)))
        await clock.advance(3 * limits.LEASE)
        assert run.status == "lost"
        assert (await store.head("run")).closed
        assert not await store.list("__ds/runs/")


async def test_a_worker_whose_lease_expired_has_it_again(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, link):
        run = await one.run("run", ticking(), on_disconnect="continue")
        link.failing = True
        await clock.advance(10)
        link.failing = False
        await clock.advance(5)
        assert len(await store.list("__ds/workers/")) == 1
        assert run.status == "running"  # nobody has looked meanwhile
        await clock.advance(30)
        assert run.status == "running"


async def test_one_that_died_while_it_began_leaves_nothing_in_the_way(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as two, mortal(store, clock) as (one, link):
        async with anyio.create_task_group() as group:

            async def begin() -> None:
                await one.run("run", ticking(), on_disconnect="continue")

            original = store.create

            async def dies(path: str, new: object) -> object:
                created = await original(path, new)  # type: ignore[arg-type] # passed on
                if path == "__ds/runs/run":
                    link.cut = True
                return created

            link.store = _Replaced(store, dies)  # type: ignore[assignment] # as the store
            group.start_soon(begin)
            await settle()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await clock.advance(6)  # it tries to take its claim back
        results: list[Run] = []

        async def call() -> None:
            results.append(await two.run("run", [1], on_disconnect="continue"))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await clock.advance(15)
        assert [message.data async for message in results[0]] == [1]


class _Replaced:
    """A store with another way to create."""

    def __init__(self, store: Store, create: object) -> None:
        self._store = store
        self.create = create

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_a_claim_that_was_made_since_is_not_taken_over(clock: Clock) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, _link):
        await one.run("run", ticking(), on_disconnect="continue")
        assert one._core.handle.now is not None
        assert one._core.handle.now.runs is not None
        claims = one._core.handle.now.runs.claims
        old = await claims.find("run")
        assert old is not None
        await claims.end_as_lost(old)
        async with Streams(store) as two:
            again = await two.run("run", ticking(), on_disconnect="continue", restart=True)
            await settle()
            assert not await claims.end_as_lost(old)
            await clock.advance(20)
            assert again.status == "running"
            # What the late one has said is no obstacle for a take-over that is right.
            now = await claims.find("run")
            assert now is not None
            assert now.turn == 0
            assert await claims.end_as_lost(now)


async def test_a_lease_lasts_as_long_as_it_says_and_no_longer(clock: Clock) -> None:
    store = shared_store()
    async with mortal(store, clock) as (one, link):
        await one.run("run", ticking(), on_disconnect="continue")
        link.cut = True
        await clock.advance(5.9)
        assert len(await store.list("__ds/workers/")) == 1
        await clock.advance(0.2)
        assert await store.list("__ds/workers/") == []


async def test_a_worker_without_runs_has_no_lease(clock: Clock) -> None:
    store = shared_store()
    async with Streams(store) as streams:
        await streams.append("s", 1)
        await clock.advance(20)
        assert await store.list("__ds/") == []
