"""Long-poll, by ASGI: what it waits for, and what ends it."""

from __future__ import annotations

import time

import anyio
import pytest

from tailrace import drain
from tailrace.live import Hub
from tailrace.protocol import ProtocolOptions
from tailrace.protocol.live import interval_of
from tailrace.store import Append, MemoryStore, NewStream
from tailrace.testing import Clock, no_leaks, settle
from tests.protocol.asking import ROOT, Answer, Streams, streams

pytestmark = pytest.mark.anyio

LIVE = "live=long-poll"


class Poll:
    """A long-poll that runs beside the test."""

    def __init__(self, site: Streams, target: str) -> None:
        self.answer: Answer | None = None
        self._site = site
        self._target = target

    async def run(self) -> None:
        self.answer = await self._site.get(self._target)


async def test_what_is_there_is_answered_at_once() -> None:
    async with streams() as site:
        made = await site.put("s", b"hello")
        got = await site.get(f"s?offset=-1&{LIVE}")
        assert (got.status, got.body) == (200, b"hello")
        assert got.headers["stream-up-to-date"] == "true"
        assert abs(int(got.headers["stream-cursor"]) - interval_of(time.time())) <= 1
        assert got.headers["cache-control"] == "private, no-cache"
        await site.post("s", b" world")
        more = await site.get(f"s?offset={made.next_offset}&{LIVE}")
        assert more.headers["cache-control"].startswith("private, max-age")


async def test_a_cursor_that_is_given_back_is_moved_on() -> None:
    async with streams() as site:
        await site.put("s", b"hello")
        cursor = (await site.get(f"s?offset=-1&{LIVE}")).headers["stream-cursor"]
        again = await site.get(f"s?offset=-1&{LIVE}&cursor={cursor}")
        assert int(again.headers["stream-cursor"]) > int(cursor)


async def test_at_the_tail_it_waits_for_what_comes(clock: Clock) -> None:
    async with streams() as site, anyio.create_task_group() as group:
        made = await site.put("s", b"hello")
        poll = Poll(site, f"s?offset={made.next_offset}&{LIVE}")
        group.start_soon(poll.run)
        await clock.advance(5)
        assert poll.answer is None
        await site.post("s", b" world")
        await settle()
        assert poll.answer is not None
        assert (poll.answer.status, poll.answer.body) == (200, b" world")


async def test_now_begins_to_wait_at_once_and_is_not_stored(clock: Clock) -> None:
    async with streams() as site, anyio.create_task_group() as group:
        await site.put("s", b"old")
        poll = Poll(site, f"s?offset=now&{LIVE}")
        group.start_soon(poll.run)
        await clock.advance(5)
        await site.post("s", b"new")
        await settle()
        assert poll.answer is not None
        assert poll.answer.body == b"new"
        assert poll.answer.headers["cache-control"] == "no-store"
        assert "etag" not in poll.answer.headers
        assert poll.answer.headers["stream-cursor"]


@pytest.mark.parametrize("timeout", [0.5, 20.0])
async def test_after_its_time_it_says_that_there_is_nothing(timeout: float, clock: Clock) -> None:
    options = ProtocolOptions(long_poll_timeout=timeout)
    async with streams(options=options) as site, anyio.create_task_group() as group:
        made = await site.put("s", b"hello")
        poll = Poll(site, f"s?offset=now&{LIVE}")
        group.start_soon(poll.run)
        await clock.advance(timeout - 0.01)
        assert poll.answer is None
        await clock.advance(0.02)
        assert poll.answer is not None
        assert (poll.answer.status, poll.answer.body) == (204, b"")
        assert poll.answer.next_offset == made.next_offset
        assert poll.answer.headers["stream-up-to-date"] == "true"
        assert poll.answer.headers["stream-cursor"].isdigit()
        assert poll.answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("offset", ["now", "tail"])
async def test_at_the_end_of_a_closed_stream_it_does_not_wait(offset: str, clock: Clock) -> None:
    async with streams() as site:
        made = await site.put("s", b"hello", stream_closed="true")
        token = made.next_offset if offset == "tail" else "now"
        got = await site.get(f"s?offset={token}&{LIVE}")
        assert got.status == 204
        assert got.headers["stream-closed"] == got.headers["stream-up-to-date"] == "true"
        assert got.next_offset == made.next_offset
        assert clock.time == 0


@pytest.mark.parametrize("last", [b"", b"end"])
async def test_a_stream_that_is_closed_meanwhile_ends_the_wait(last: bytes, clock: Clock) -> None:
    async with streams() as site, anyio.create_task_group() as group:
        await site.put("s")
        poll = Poll(site, f"s?offset=now&{LIVE}")
        group.start_soon(poll.run)
        await clock.advance(1)
        await site.post("s", last, stream_closed="true")
        await settle()
        assert poll.answer is not None
        assert (poll.answer.status, poll.answer.body) == (200 if last else 204, last)
        assert poll.answer.headers["stream-closed"] == "true"


@pytest.mark.parametrize("status", [404, 410])
async def test_so_does_one_that_is_deleted(status: int, clock: Clock) -> None:
    async with streams() as site, anyio.create_task_group() as group:
        await site.put("s")
        if status == 410:
            await site.put("fork", stream_forked_from=f"{ROOT}/s")
        poll = Poll(site, f"s?offset=now&{LIVE}")
        group.start_soon(poll.run)
        await clock.advance(1)
        await site.ask("DELETE", "s")
        await settle()
        assert poll.answer is not None
        assert poll.answer.status == status


async def test_a_fork_is_not_woken_by_its_source(clock: Clock) -> None:
    async with streams() as site, anyio.create_task_group() as group:
        await site.put("a", b"x")
        await site.put("b", stream_forked_from=f"{ROOT}/a")
        poll = Poll(site, f"b?offset=now&{LIVE}")
        group.start_soon(poll.run)
        await clock.advance(1)
        await site.post("a", b"of the source")
        await clock.advance(1)
        assert poll.answer is None
        await site.post("b", b"of the fork")
        await settle()
        assert poll.answer is not None
        assert poll.answer.body == b"of the fork"


async def test_a_client_that_leaves_frees_everything_at_once(clock: Clock) -> None:
    hub = Hub(MemoryStore())
    async with streams(hub.store) as site:
        await site.put("s")
        async with no_leaks(), site.open("GET", f"s?offset=now&{LIVE}") as exchange:
            await settle()
            await exchange.leave()
            assert (await exchange.finished()).error is None
            assert exchange.sends == []
        assert clock.time == 0


async def test_a_server_that_stops_answers_at_once(clock: Clock) -> None:
    async with streams() as site, anyio.create_task_group() as group:
        made = await site.put("s")
        poll = Poll(site, f"s?offset=now&{LIVE}")
        group.start_soon(poll.run)
        await clock.advance(1)
        drained = await drain(5)
        await settle()
        assert (drained.ended, drained.cut) == (1, 0)
        assert poll.answer is not None
        assert (poll.answer.status, poll.answer.next_offset) == (204, made.next_offset)
        assert clock.time == 1


async def test_what_a_client_has_from_a_poll_is_not_sent_again() -> None:
    async with streams() as site:
        await site.put("s", b"hello")
        etag = (await site.get(f"s?offset=-1&{LIVE}")).headers["etag"]
        again = await site.get(f"s?offset=-1&{LIVE}", if_none_match=etag)
        assert (again.status, again.body) == (304, b"")


async def test_a_poll_gets_no_more_at_a_time_than_any_reader() -> None:
    async with streams(options=ProtocolOptions(read_bytes=10)) as site:
        await site.put("s", b"x" * 10)
        await site.post("s", b"y" * 10)
        got = await site.get(f"s?offset=-1&{LIVE}")
        assert got.body == b"x" * 10
        assert "stream-up-to-date" not in got.headers


async def test_a_stream_that_is_polled_does_not_expire() -> None:
    now = 1_000_000
    store = MemoryStore(clock=lambda: now)
    await store.create("s", NewStream(content_type="text/plain", ttl=5))
    async with streams(store) as site, anyio.create_task_group() as group:
        poll = Poll(site, f"s?offset=now&{LIVE}")
        group.start_soon(poll.run)
        await settle()
        now += 60_000
        await store.append("s", Append(data=b"still here"))
        await settle()
        assert poll.answer is not None
        assert poll.answer.body == b"still here"
