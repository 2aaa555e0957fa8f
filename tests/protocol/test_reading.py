"""GET and HEAD without waiting, by ASGI."""

from __future__ import annotations

import pytest

from tailrace.protocol import ProtocolOptions
from tailrace.store import START
from tests.protocol.asking import Answer, Streams, streams

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
