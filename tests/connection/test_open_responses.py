"""Draining: a farewell to each, and an end within the budget."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask

from tailrace import (
    EventSourceResponse,
    StreamingResponse,
    StreamOptions,
    drain,
    limits,
    shutdown_event,
    stats,
)
from tailrace.testing import Client, Clock, SourceProbe, Truncated, wait_until

pytestmark = pytest.mark.anyio


def ticking(probe: SourceProbe) -> AsyncIterator[str]:
    async def source() -> AsyncIterator[str]:
        with probe.inside():
            yield "hello"
            await anyio.sleep_forever()

    return source()


async def test_each_of_fifty_event_streams_gets_a_farewell_and_a_clean_end() -> None:
    probes = [SourceProbe() for _ in range(50)]
    responses = iter([EventSourceResponse(ticking(probe)) for probe in probes])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await next(responses)(scope, receive, send)

    async with Client(app) as client, AsyncExitStack() as stack:
        exchanges = [await stack.enter_async_context(client.open("GET", "/")) for _ in probes]
        for exchange in exchanges:
            assert (await exchange.event()).data == "hello"  # type: ignore[union-attr] # there is one
        drained = await drain(5)
        assert drained.ended == 50
        assert drained.cut == 0
        assert all(probe.closed.is_set() for probe in probes)
        retries = set()
        for exchange in exchanges:
            rest = await exchange.read_all()
            assert b"event: farewell" in rest
            retries.add(int(rest.split(b"retry: ")[1].split(b"\n")[0]))
            assert (await exchange.finished()).complete
    low, high = limits.FAREWELL_RETRY
    assert all(low * 1000 <= retry <= high * 1000 for retry in retries)
    assert len(retries) > 10, "all clients would come back at once"


async def test_a_raw_stream_may_finish_within_the_budget(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        yield "a"
        await anyio.sleep(3)
        yield "b"

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange, anyio.create_task_group() as group:
            await exchange.read()
            group.start_soon(drain, 5.0)
            await clock.advance(4)
            assert await exchange.read_all() == b"b"


async def test_a_raw_stream_that_does_not_end_is_cut_visibly_when_the_time_is_up(
    clock: Clock,
) -> None:
    probe = SourceProbe()
    async with Client(StreamingResponse(ticking(probe))) as client:
        async with client.open("GET", "/") as exchange, anyio.create_task_group() as group:
            await exchange.read()
            group.start_soon(drain, 5.0)
            await clock.advance(4.9)
            assert not probe.closed.is_set()
            await clock.advance(0.2)
            with pytest.raises(Truncated):
                await exchange.read_all()
            assert (await exchange.finished()).error is None
    assert probe.closed.is_set()


@pytest.mark.parametrize("response_class", [StreamingResponse, EventSourceResponse])
async def test_a_client_that_never_reads_cannot_hold_the_drain(
    clock: Clock, response_class: type[StreamingResponse]
) -> None:
    probe = SourceProbe()

    def source() -> Iterator[str]:
        with probe.inside():
            while True:
                yield "x" * 10_000

    async with Client(response_class(source())) as client:
        async with client.open("GET", "/") as exchange, anyio.create_task_group() as group:
            await wait_until(lambda: exchange.blocked)
            done = anyio.Event()

            async def drain_all() -> None:
                await drain(5)
                done.set()

            group.start_soon(drain_all)
            await wait_until(lambda: probe.closed.is_set() or response_class is StreamingResponse)
            await clock.advance(5.1)
            await done.wait()
            assert (await exchange.finished()).truncated
    assert probe.closed.is_set()


@pytest.mark.parametrize("response_class", [StreamingResponse, EventSourceResponse])
@pytest.mark.parametrize("stalled", [False, True], ids=["reading", "stalled"])
@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
async def test_the_background_task_runs_once_behind_the_source_s_end(
    clock: Clock, response_class: type[StreamingResponse], stalled: bool, ended: bool
) -> None:
    marks: list[str] = []
    begun = anyio.Event()

    async def source() -> AsyncIterator[str]:
        try:
            yield "first"
            if not ended:
                await anyio.sleep_forever()
        finally:
            marks.append("closed")

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        if message.get("body"):
            begun.set()
            if stalled:
                await anyio.sleep_forever()

    response = response_class(source(), background=BackgroundTask(marks.append, "background"))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    before = stats()
    async with anyio.create_task_group() as group:
        group.start_soon(response, scope, receive, send)
        await begun.wait()
        group.start_soon(drain, 5.0)
        await clock.advance(5.1)
    assert marks == ["closed", "background"]
    after = stats()
    assert after.cancelled == before.cancelled
    assert after.shut_down - before.shut_down == int(stalled or (not ended and _is_raw(response)))


def _is_raw(response: StreamingResponse) -> bool:
    return not isinstance(response, EventSourceResponse)


async def test_a_stream_that_begins_while_others_drain_says_farewell_at_once(
    clock: Clock,
) -> None:
    slow, late = SourceProbe(), SourceProbe()
    responses = iter([StreamingResponse(ticking(slow)), EventSourceResponse(late.watch(["never"]))])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await next(responses)(scope, receive, send)

    async with Client(app) as client, client.open("GET", "/") as first:
        await first.read()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, 5.0)
            await clock.settle()
            async with client.open("GET", "/") as second:
                body = await second.read_all()
            assert body.startswith(b"event: farewell") or b"\nevent: farewell" in body
            assert not late.started.is_set()
            assert late.closed.is_set()
            await clock.advance(5)
            assert (await first.finished()).truncated


async def test_drain_with_nothing_open_returns_at_once() -> None:
    drained = await drain(0)
    assert drained.ended == drained.cut == 0


async def test_a_negative_time_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout=-1"):
        await drain(-1)


async def test_heartbeat_options_do_not_matter_to_a_farewell() -> None:
    app = EventSourceResponse(ticking(SourceProbe()), options=StreamOptions(heartbeat=None))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await drain(1)
        assert b"event: farewell" in await exchange.read_all()


async def test_a_source_that_is_told_says_its_own_farewell(clock: Clock) -> None:
    probe = SourceProbe()

    async def source() -> AsyncIterator[str]:
        with probe.inside():
            yield "hello"
            await shutdown_event().wait()
            await anyio.sleep(1)
            yield "bye"

    app = EventSourceResponse(source(), options=StreamOptions(shutdown_grace=2))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.event()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, 5.0)
            await clock.advance(1.5)
            rest = await exchange.read_all()
        assert rest.startswith(b"data: bye\n\nevent: farewell\n")
        assert (await exchange.finished()).complete


async def test_a_source_that_takes_longer_than_its_grace_is_ended(clock: Clock) -> None:
    probe = SourceProbe()
    app = EventSourceResponse(ticking(probe), options=StreamOptions(shutdown_grace=2))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.event()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, 5.0)
            await clock.advance(1.9)
            assert not probe.closed.is_set()
            await clock.advance(0.2)
            assert (await exchange.read_all()).startswith(b"event: farewell\n")
    assert probe.closed.is_set()


async def test_the_farewell_looks_past_what_holds_the_drain(clock: Clock) -> None:
    responses = iter(
        [StreamingResponse(ticking(SourceProbe())), EventSourceResponse(ticking(SourceProbe()))]
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await next(responses)(scope, receive, send)

    async with Client(app) as client, client.open("GET", "/") as holding:
        await holding.read()
        async with client.open("GET", "/") as exchange, anyio.create_task_group() as group:
            await exchange.read()
            group.start_soon(drain, 7.0)
            await clock.settle()
            rest = await exchange.read_all()
            await clock.advance(7.1)
    retry = int(rest.split(b"retry: ")[1].split(b"\n")[0])
    assert retry >= 7000 + limits.FAREWELL_RETRY[0] * 1000


async def test_the_event_of_a_later_stream_is_not_set() -> None:
    before = shutdown_event()
    await drain(0)
    assert before.is_set()
    assert not shutdown_event().is_set()
