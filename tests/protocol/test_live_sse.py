"""SSE, by ASGI: the answer as it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tailrace import drain, limits
from tailrace.errors import StoreUnavailable
from tailrace.protocol import ProtocolOptions
from tailrace.store import MemoryStore, OnChange, Slice, Where
from tailrace.testing import Clock, Truncated, no_leaks, settle
from tailrace.types import StreamOptions
from tests.protocol.asking import streams

pytestmark = pytest.mark.anyio

FROM_START = "offset=-1&live=sse"


async def data_of(exchange: Any) -> str:
    event = await exchange.event()
    assert event.event == "data"
    return str(event.data)


async def control_of(exchange: Any) -> dict[str, Any]:
    event = await exchange.event()
    assert event.event == "control"
    parsed: dict[str, Any] = json.loads(event.data)
    assert event.id == parsed["streamNextOffset"]
    return parsed


async def test_what_is_there_and_then_what_comes() -> None:
    async with streams() as site:
        made = await site.put("s", b"one")
        async with site.open("GET", f"s?{FROM_START}") as exchange:
            start = await exchange.response()
            assert start.status == 200
            assert start.headers["content-type"] == "text/event-stream"
            assert start.headers["cache-control"] == "no-cache, no-store"
            assert start.headers["x-content-type-options"] == "nosniff"
            assert start.headers["content-security-policy"] == "sandbox"
            assert start.headers["cross-origin-resource-policy"] == "same-origin"
            assert "content-length" not in start.headers
            assert await data_of(exchange) == "one"
            first = await control_of(exchange)
            assert first["streamNextOffset"] == made.next_offset
            assert first["upToDate"] is True
            assert first["streamCursor"].isdigit()
            done = await site.post("s", b"two")
            assert await data_of(exchange) == "two"
            assert (await control_of(exchange))["streamNextOffset"] == done.next_offset


async def test_data_and_its_control_event_are_one_write() -> None:
    async with streams() as site:
        await site.put("s", b"one")
        async with site.open("GET", f"s?{FROM_START}") as exchange:
            await exchange.read_until(b"upToDate")
            await site.post("s", b"two")
            await exchange.read_until(b"upToDate")
            bodies = [sent.body for sent in exchange.sends if sent.body]
        assert [body.count(b"event: data") for body in bodies] == [1, 1]
        assert [body.count(b"event: control") for body in bodies] == [1, 1]


@pytest.mark.parametrize("offset", ["-1", "now"])
async def test_an_empty_stream_says_where_it_is(offset: str) -> None:
    async with streams() as site:
        made = await site.put("s")
        async with site.open("GET", f"s?offset={offset}&live=sse") as exchange:
            first = await control_of(exchange)
        assert first["streamNextOffset"] == made.next_offset
        assert first["upToDate"] is True


async def test_from_now_on_only_what_comes() -> None:
    async with streams() as site:
        await site.put("s", b"old")
        async with site.open("GET", "s?offset=now&live=sse") as exchange:
            await control_of(exchange)
            await site.post("s", b"new")
            assert await data_of(exchange) == "new"


async def test_a_long_history_comes_in_parts_and_only_the_last_is_up_to_date() -> None:
    async with streams() as site:
        await site.put("s")
        size = limits.CATCH_UP_BYTES // 2
        for number in range(5):
            await site.post("s", b"%d" % number * size)
        got, up_to_date = "", False
        async with site.open("GET", f"s?{FROM_START}") as exchange:
            while not up_to_date:
                got += await data_of(exchange)
                up_to_date = (await control_of(exchange)).get("upToDate", False)
        assert got == "".join(str(number) * size for number in range(5))


async def test_a_binary_stream_says_how_it_is_written() -> None:
    async with streams() as site:
        await site.put("s", b"\0\xff", content_type="image/png")
        async with site.open("GET", f"s?{FROM_START}") as exchange:
            start = await exchange.response()
            assert start.headers["stream-sse-data-encoding"] == "base64"
            assert await data_of(exchange) == "AP8="


# The end -----------------------------------------------------------------------------------------


async def test_a_closed_stream_ends_it() -> None:
    async with streams() as site:
        await site.put("s", b"one", stream_closed="true")
        async with site.open("GET", f"s?{FROM_START}") as exchange:
            assert await data_of(exchange) == "one"
            last = await control_of(exchange)
            assert last["streamClosed"] is True
            assert "streamCursor" not in last
            assert await exchange.event() is None


async def test_at_the_tail_of_a_closed_stream_one_event_says_so() -> None:
    async with streams() as site:
        made = await site.put("s", b"one", stream_closed="true")
        for offset in (made.next_offset, "now"):
            async with site.open("GET", f"s?offset={offset}&live=sse") as exchange:
                assert (await exchange.response()).status == 200
                last = await control_of(exchange)
                assert (last["streamClosed"], last["upToDate"]) == (True, True)
                assert await exchange.event() is None


async def test_a_reader_at_the_tail_gets_what_was_appended_with_the_end() -> None:
    async with streams() as site:
        await site.put("s")
        async with site.open("GET", "s?offset=now&live=sse") as exchange:
            await control_of(exchange)
            await site.post("s", b"end", stream_closed="true")
            assert await data_of(exchange) == "end"
            assert (await control_of(exchange))["streamClosed"] is True
            assert await exchange.event() is None


async def test_a_stream_that_is_deleted_ends_it_in_order() -> None:
    async with streams() as site:
        await site.put("s")
        async with site.open("GET", "s?offset=now&live=sse") as exchange:
            await control_of(exchange)
            await site.ask("DELETE", "s")
            assert await exchange.event() is None
            assert (await exchange.finished()).complete


async def test_it_ends_after_about_a_minute_and_the_client_comes_back(clock: Clock) -> None:
    async with streams() as site:
        await site.put("s")
        lives = []
        for _ in range(8):
            async with site.open("GET", "s?offset=now&live=sse") as exchange:
                await control_of(exchange)
                begun = clock.time
                while exchange.sends[-1].message.get("more_body") is not False:
                    await clock.advance(0.25)
                lives.append(clock.time - begun)
                assert await exchange.event() is None
    low = limits.SSE_LIFETIME * (1 - limits.SSE_LIFETIME_SPREAD)
    assert all(low - 1 <= life <= limits.SSE_LIFETIME + 1 for life in lives)
    assert len({round(life, 1) for life in lives}) > 1, "all would come back at once"


async def test_it_may_last_for_ever(clock: Clock) -> None:
    async with streams(options=ProtocolOptions(sse_lifetime=None)) as site:
        await site.put("s")
        async with site.open("GET", "s?offset=now&live=sse") as exchange:
            await control_of(exchange)
            await clock.advance(600)
            await site.post("s", b"still here")
            assert await data_of(exchange) == "still here"


async def test_silence_is_filled(clock: Clock) -> None:
    options = ProtocolOptions(stream=StreamOptions(heartbeat=5))
    async with streams(options=options) as site:
        await site.put("s")
        async with site.open("GET", "s?offset=now&live=sse") as exchange:
            await control_of(exchange)
            await clock.advance(16)
            await site.post("s", b"x")
            assert await data_of(exchange) == "x"
            assert 2 <= len(exchange.comments) <= 3


async def test_a_server_that_stops_says_when_to_come_back(clock: Clock) -> None:
    async with streams() as site:
        await site.put("s")
        async with site.open("GET", "s?offset=now&live=sse") as exchange:
            await control_of(exchange)
            drained = await drain(5)
            assert (drained.ended, drained.cut) == (1, 0)
            rest = await exchange.read_all()
            assert rest.startswith(b"retry:")
            low, high = limits.FAREWELL_RETRY
            assert low * 1000 <= int(rest[6:-2]) <= high * 1000
            assert (await exchange.finished()).complete


async def test_a_client_that_leaves_frees_everything() -> None:
    async with streams(MemoryStore()) as site:
        await site.put("s")
        async with no_leaks(), site.open("GET", "s?offset=now&live=sse") as exchange:
            await exchange.read_until(b"upToDate")
            await exchange.leave()
            await exchange.finished()
            await settle()


class Failing(MemoryStore):
    """Tells of changes without their bytes, and can no longer be read after a while."""

    broken = False

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        if self.broken:
            raise StoreUnavailable("memory", "broke")
        return await super().read(path, start, max_bytes)

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        return super().watch(path, lambda change: on_change(replace(change, chunks=None)))


async def test_a_store_that_fails_on_the_way_does_not_end_it_in_order() -> None:
    store = Failing()
    async with streams(store) as site:
        await site.put("s")
        async with site.open("GET", "s?offset=now&live=sse") as exchange:
            await control_of(exchange)
            store.broken = True
            await site.post("s", b"lost on the way, not in the store")
            with pytest.raises(Truncated):
                await exchange.event()
        store.broken = False
        assert (await site.get("s")).body == b"lost on the way, not in the store"


# Coming back -------------------------------------------------------------------------------------


async def test_an_event_source_goes_on_where_it_was() -> None:
    async with streams() as site:
        made = await site.put("s", b"one")
        await site.post("s", b"two")
        target = f"s?{FROM_START}"
        async with site.open("GET", target, last_event_id=made.next_offset) as exchange:
            assert await data_of(exchange) == "two"


async def test_one_that_has_all_of_a_closed_stream_is_told_to_stop() -> None:
    async with streams() as site:
        await site.put("s", b"one")
        last = await site.post("s", b"two", stream_closed="true")
        got = await site.get(f"s?{FROM_START}", last_event_id=last.next_offset)
        assert (got.status, got.body) == (204, b"")
        assert got.headers["stream-closed"] == "true"


async def test_one_that_lacks_something_of_it_gets_that_first() -> None:
    async with streams() as site:
        made = await site.put("s", b"one")
        await site.post("s", b"two", stream_closed="true")
        target = f"s?{FROM_START}"
        async with site.open("GET", target, last_event_id=made.next_offset) as exchange:
            assert (await exchange.response()).status == 200
            assert await data_of(exchange) == "two"
            assert (await control_of(exchange))["streamClosed"] is True


async def test_one_that_was_away_for_too_long_is_told_what_is_left() -> None:
    async with streams() as site:
        made = await site.put("s", b"one", stream_retain_records="1")
        for _ in range(9):
            await site.post("s", b"more")
        first = (await site.ask("HEAD", "s")).headers["stream-first-offset"]
        target = "s?offset=now&live=sse"
        async with site.open("GET", target, last_event_id=made.next_offset) as exchange:
            assert (await exchange.response()).status == 200
            assert (await control_of(exchange))["streamFirstOffset"] == first
            assert await data_of(exchange) == "more"


async def test_one_with_the_id_of_another_stream_is_never_refused() -> None:
    async with streams() as site:
        other = await site.put("other", b"a longer text than the other stream has")
        await site.put("s", b"one")
        later = await site.put("later", b"one")
        for last in (other.next_offset, later.next_offset, "9" * 16 + "_" + "9" * 16, "42"):
            async with site.open("GET", f"s?{FROM_START}", last_event_id=last) as exchange:
                assert (await exchange.response()).status == 200
                assert await data_of(exchange) == "one"


async def test_a_stream_that_begins_later_says_so_in_its_first_event() -> None:
    async with streams() as site:
        await site.put("s", b"one", stream_retain_records="1")
        for _ in range(9):
            await site.post("s", b"more")
        first = (await site.ask("HEAD", "s")).headers["stream-first-offset"]
        async with site.open("GET", f"s?{FROM_START}") as exchange:
            assert (await control_of(exchange))["streamFirstOffset"] == first
