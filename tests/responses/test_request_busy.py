"""All threads for sync sources are busy: who comes waits for a while, and is refused."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator

import anyio
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace import (
    EventSourceResponse,
    FileResponse,
    StreamingResponse,
    StreamOptions,
    limits,
    stats,
)
from tailrace.runtime import Loop, Threads
from tailrace.source import Sink, Source, sync
from tailrace.testing import Client, Clock, SourceProbe, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, gate: threading.Event) -> Threads:
    """One thread for sync sources, and it is busy until the gate is opened."""
    pool = Threads("tailrace-test", "tests", 1)
    monkeypatch.setattr(sync, "source_threads", pool)
    begun = threading.Event()

    def job() -> None:
        begun.set()
        gate.wait(10)

    pool.submit(job)
    assert begun.wait(10)
    return pool


@pytest.mark.parametrize("start_grace", [0, limits.START_GRACE])
async def test_its_status_waits_for_the_thread_and_is_the_true_one_then(
    pool: Threads, gate: threading.Event, clock: Clock, start_grace: float
) -> None:
    def source() -> Iterator[str]:
        raise HTTPException(404)
        yield ""

    options = StreamOptions(start_grace=start_grace)
    async with Client(StreamingResponse(source(), options=options)) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(limits.SYNC_SOURCE_WAIT - 0.01)
            assert exchange.sends == []
            gate.set()
            if start_grace:  # without a grace the status may be out before the error
                outcome = await exchange.finished()
                assert isinstance(outcome.error, HTTPException)


async def test_one_that_waits_for_too_long_is_refused_and_closed(
    pool: Threads, clock: Clock
) -> None:
    probe = SourceProbe()
    before = stats()
    async with Client(StreamingResponse(probe.watch(["never"]))) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(limits.SYNC_SOURCE_WAIT)
            head = await exchange.response()
            outcome = await exchange.finished()
    assert (head.status, head.headers["retry-after"]) == (503, "5")
    assert outcome.error is None
    assert probe.closed.is_set()
    assert not probe.started.is_set()
    assert not pool.queue
    assert stats().refused == before.refused + 1


async def test_in_an_application_its_handlers_say_how_the_refusal_looks(
    pool: Threads, clock: Clock
) -> None:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    def events() -> Iterator[int]:
        yield 1

    async with Client(app) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(limits.SYNC_SOURCE_WAIT)
            head = await exchange.response()
            assert (head.status, head.headers["retry-after"]) == (503, "5")
            assert b'{"detail":"the server is busy' in await exchange.read_all()


async def test_what_a_middleware_answers_is_refused_where_no_handlers_are(
    pool: Threads, clock: Clock
) -> None:
    class Answering:
        def __init__(self, app: ASGIApp) -> None:
            pass

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await StreamingResponse(iter(["never"]))(scope, receive, send)

    app = FastAPI()
    app.add_middleware(Answering)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await clock.advance(limits.SYNC_SOURCE_WAIT)
        head = await exchange.response()
        assert (head.status, head.headers["retry-after"]) == (503, "5")


async def test_an_item_that_comes_as_it_is_refused_is_not_sent(clock: Clock) -> None:
    class Late:
        threaded = closed = False

        async def run(self, sink: Sink, loop: Loop) -> None:
            sink.in_line(True)
            try:
                await anyio.sleep_forever()
            finally:
                sink.put("late")

        async def close(self) -> None:
            pass

    class Response(StreamingResponse):
        def _open(self, scope: Scope) -> Source:
            return Late()

    async with Client(Response(())) as client, client.open("GET", "/") as exchange:
        await clock.advance(limits.SYNC_SOURCE_WAIT)
        assert (await exchange.response()).status == 503
        assert (await exchange.finished()).error is None


async def test_an_extent_that_waits_behind_the_status_is_not_refused(
    pool: Threads, gate: threading.Event, clock: Clock
) -> None:
    class Ranges:
        size = 100_000

        def read(self, start: int, stop: int) -> Iterator[bytes]:
            yield bytes(stop - start)

    headers = {"range": "bytes=0-9,90000-90009"}
    async with Client(FileResponse(Ranges())) as client:
        async with client.open("GET", "/", headers=headers) as exchange:
            assert (await exchange.response()).status == 206
            await clock.advance(limits.SYNC_SOURCE_WAIT + 1)
            gate.set()
            assert bytes(10) in await exchange.read_all()
            assert (await exchange.finished()).error is None


async def test_a_client_that_leaves_the_line_takes_its_source_along(
    pool: Threads, clock: Clock
) -> None:
    probe = SourceProbe()
    async with Client(StreamingResponse(probe.watch(["never"]))) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(1)
            await exchange.leave()
            await exchange.finished()
    assert probe.closed.is_set()
    assert not pool.queue


async def test_a_file_is_sent_beside_blocked_sources(pool: Threads) -> None:
    async with Client(
        FileResponse(__file__, options=StreamOptions(max_batch_bytes=1024))
    ) as client:
        async with client.open("GET", "/") as exchange:
            with anyio.fail_after(10):
                assert b"beside_blocked" in await exchange.read_all()


async def test_what_waits_is_seen_in_the_statistics(
    pool: Threads, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tailrace.connection.stats"], "source_threads", pool)
    async with Client(StreamingResponse(iter(["late"]))) as client:
        async with client.open("GET", "/") as exchange:
            await wait_until(lambda: stats().source_line)
            assert (stats().source_threads, stats().source_line) == (1, 1)
            gate.set()
            assert await exchange.read_all() == b"late"


async def test_a_pinned_response_works_with_what_belongs_to_a_thread() -> None:
    seen: set[int] = set()

    def source() -> Iterator[str]:
        lock = threading.RLock()
        with lock:  # released by the thread that took it, or not at all
            for _ in range(3):
                seen.add(threading.get_ident())
                yield "x" * 100_000

    options = StreamOptions(pin_thread=True)
    async with Client(StreamingResponse(source(), options=options)) as client:
        async with client.open("GET", "/") as exchange:
            assert len(await exchange.read_all()) == 300_000
    assert len(seen) == 1


async def test_the_body_iterator_of_a_pinned_response_keeps_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Threads("tailrace-test", "tests", 2)
    monkeypatch.setattr(sync, "source_threads", pool)
    seen: set[int] = set()

    def source() -> Iterator[str]:
        for _ in range(2):
            seen.add(threading.get_ident())
            yield "x"

    response = StreamingResponse(source(), options=StreamOptions(pin_thread=True))
    async for _ in response.body_iterator:
        assert pool.busy == 1  # it is held between two items
    await wait_until(lambda: pool.busy == 0)
    assert len(seen) == 1


async def test_each_extent_of_a_range_source_is_read_in_one_thread_if_it_is_pinned() -> None:
    class Ranges:
        size = 300_000

        def read(self, start: int, stop: int) -> Iterator[bytes]:
            base = sqlite3.connect(":memory:")
            for _ in range(start, stop, 100_000):
                (block,) = base.execute("select zeroblob(100000)").fetchone()
                yield block
            base.close()

    response = FileResponse(Ranges(), options=StreamOptions(pin_thread=True))
    async with Client(response) as client, client.open("GET", "/") as exchange:
        assert len(await exchange.read_all()) == 300_000
