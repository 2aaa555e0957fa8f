"""GET and HEAD without waiting, by ASGI."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailrace.protocol import ProtocolOptions
from tailrace.store import START
from tailrace.testing import EventParser
from tests.protocol.asking import ROOT, Answer, Streams, streams

pytestmark = pytest.mark.anyio


async def test_head_tells_of_a_stream_and_sends_no_body() -> None:
    async with streams() as site:
        await site.put("s", b"hello", stream_ttl="3600")
        known = await site.ask("HEAD", "s")
        assert (known.status, known.body) == (200, b"")
        assert known.headers["content-type"] == "text/plain"
        assert known.headers["stream-ttl"] == "3600"
        assert known.headers["cache-control"] == "no-store"
        missing = await site.ask("HEAD", "t")
        assert (missing.status, missing.body) == (404, b"")


@pytest.mark.parametrize("query", ["", "?offset=-1", f"?offset={START}", "?foo=bar"])
async def test_a_stream_is_read_from_its_beginning(query: str) -> None:
    async with streams() as site:
        await site.put("s", b"hello")
        whole = await site.get(f"s{query}")
        assert (whole.status, whole.body) == (200, b"hello")
        assert whole.headers["stream-up-to-date"] == "true"


async def test_and_from_where_one_was() -> None:
    async with streams() as site:
        made = await site.put("s", b"hello")
        await site.post("s", b" world")
        assert (await site.get(f"s?offset={made.next_offset}")).body == b" world"


async def test_at_the_tail_there_is_nothing_and_the_same_offset() -> None:
    async with streams() as site:
        made = await site.put("s", b"hello")
        nothing = await site.get(f"s?offset={made.next_offset}")
        assert (nothing.status, nothing.body) == (200, b"")
        assert nothing.next_offset == made.next_offset
        assert nothing.headers["cache-control"] == "private, no-cache"


def moved(offset: str, by: int) -> str:
    """An offset that nobody gave out."""
    generation, position = offset.split("_")
    return f"{generation}_{int(position) + by:016d}"


JSON = "application/json"


@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
async def test_from_within_a_message_the_whole_of_it_is_read(live: str) -> None:
    async with streams() as site:
        await site.put("j", b'{"word":"one"}', content_type=JSON)
        two = await site.post("j", b'[{"word":"two, three"}, [4, 5]]', content_type=JSON)
        await site.put("b", b"one")
        four = await site.post("b", b"four")
        for path, tail in (("j", two), ("b", four)):
            await site.ask("POST", path, stream_closed="true")
            whole = (await site.get(path)).body
            messages = [b"one", b"four"] if path == "b" else json.loads(whole)
            for back in range(1, int(tail.next_offset.split("_")[1])):
                read = await site.get(f"{path}?offset={moved(tail.next_offset, -back)}{live}")
                assert read.status == 200
                assert found_in(path, read, live) in tails_of(messages)


def tails_of(messages: list[Any]) -> list[list[Any]]:
    return [messages[begin:] for begin in range(len(messages))]


def found_in(path: str, read: Answer, live: str) -> list[Any]:
    if live.endswith("sse"):
        events = EventParser().feed(read.body)
        data = [event.data for event in events if event.event != "control"]
        found: list[Any] = []
        for each in data:
            found += json.loads(each) if path == "j" else [each.encode()]
        return found if path == "j" else split_words(b"".join(found))
    return json.loads(read.body) if path == "j" else split_words(read.body)


def split_words(body: bytes) -> list[bytes]:
    return [word for word in (b"one", b"four") if word in body]


@pytest.mark.parametrize("content_type", ["text/plain", JSON])
async def test_no_fork_begins_within_a_message(content_type: str) -> None:
    async with streams() as site:
        tail = (await site.put("s", b"12345", content_type=content_type)).next_offset
        for by in (-4, -1, 1, 2):
            fork = await site.put(
                "f",
                content_type=content_type,
                stream_forked_from=f"{ROOT}/s",
                stream_fork_offset=moved(tail, by),
            )
            assert (fork.status, fork.problem["code"]) == (400, "fork_refused")


async def test_one_byte_beyond_the_tail_is_the_tail() -> None:
    async with streams() as site:
        tail = (await site.put("s", b"hello")).next_offset
        beyond = moved(tail, 1)
        read = await site.get(f"s?offset={beyond}")
        assert (read.status, read.body, read.next_offset) == (200, b"", tail)
        assert read.headers["stream-up-to-date"] == "true"
        assert (await site.get(f"s?offset={moved(tail, 2)}")).status == 400
        await site.post("s", b"world")
        assert (await site.get(f"s?offset={beyond}")).body == b"world"


@pytest.mark.parametrize(
    ("content_type", "empty"), [("text/plain", b""), ("application/json", b"[]")]
)
async def test_now_is_where_the_stream_ends(content_type: str, empty: bytes) -> None:
    async with streams() as site:
        made = await site.put("s", b"1", content_type=content_type)
        now = await site.get("s?offset=now")
        assert (now.status, now.body) == (200, empty)
        assert now.next_offset == made.next_offset
        assert now.headers["cache-control"] == "no-store"
        assert "etag" not in now.headers


async def test_the_end_of_a_closed_stream_is_said() -> None:
    async with streams() as site:
        made = await site.put("s", b"hello", stream_closed="true")
        for query in ("", "?offset=now", f"?offset={made.next_offset}"):
            assert (await site.get(f"s{query}")).headers["stream-closed"] == "true"


@pytest.mark.parametrize("offset", ["", "x", "0,1", "9999999999999999_9999999999999999"])
async def test_an_offset_that_was_never_given_out(offset: str) -> None:
    async with streams() as site:
        await site.put("s", b"hello")
        refused = await site.get(f"s?offset={offset}")
        assert (refused.status, refused.problem["code"]) == (400, "invalid_offset")


async def pages(site: Streams, offset: str) -> list[Answer]:
    got = [await site.get(f"s?offset={offset}")]
    while "stream-up-to-date" not in got[-1].headers:
        got.append(await site.get(f"s?offset={got[-1].next_offset}"))
    return got


async def test_answers_end_at_the_same_places_for_everybody() -> None:
    async with streams(options=ProtocolOptions(read_bytes=100)) as site:
        await site.put("s")
        for _ in range(30):
            await site.post("s", b"x" * 16)
        from_start = await pages(site, "-1")
        middle = (await site.get("s?offset=-1")).next_offset
        assert [len(page.body) for page in from_start] == [112, 96, 96, 96, 80]
        from_middle = await pages(site, middle)
        assert [page.next_offset for page in from_middle] == [
            page.next_offset for page in from_start[1:]
        ]
        for page in from_start[:-1]:
            assert "stream-up-to-date" not in page.headers


async def test_a_closed_stream_is_not_over_before_the_last_page() -> None:
    async with streams(options=ProtocolOptions(read_bytes=10)) as site:
        await site.put("s", b"x" * 10)
        await site.post("s", b"y" * 5, stream_closed="true")
        first, last = await pages(site, "-1")
        assert "stream-closed" not in first.headers
        assert last.headers["stream-closed"] == "true"


async def test_what_a_client_has_is_not_sent_again_until_it_changes() -> None:
    async with streams() as site:
        await site.put("s", b"hello")
        etag = (await site.get("s")).headers["etag"]
        same = await site.get("s", if_none_match=etag)
        assert (same.status, same.body) == (304, b"")
        await site.post("s", b"!")
        assert (await site.get("s", if_none_match=etag)).status == 200
        etag = (await site.get("s")).headers["etag"]
        await site.ask("POST", "s", stream_closed="true")
        closed = await site.get("s", if_none_match=etag)
        assert (closed.status, closed.headers["stream-closed"]) == (200, "true")


async def test_a_stream_that_is_made_anew_has_another_etag() -> None:
    async with streams() as site:
        await site.put("s", b"hello")
        etag = (await site.get("s")).headers["etag"]
        await site.ask("DELETE", "s")
        await site.put("s", b"hallo")
        assert (await site.get("s", if_none_match=etag)).status == 200


async def test_a_read_of_nothing() -> None:
    async with streams() as site:
        for query in ("", "?offset=now", "?offset=-1&live=long-poll", "?offset=-1&live=sse"):
            missing = await site.get(f"s{query}")
            assert (missing.status, missing.problem["code"]) == (404, "stream_not_found")


@pytest.mark.parametrize(
    "query", ["?live=sse", "?live=long-poll", "?live=x&offset=-1", "?offset=-1&offset=-1"]
)
async def test_a_query_that_cannot_be(query: str) -> None:
    async with streams() as site:
        await site.put("s")
        refused = await site.get(f"s{query}")
        assert (refused.status, refused.problem["code"]) == (400, "invalid_request")
