"""PUT, POST and DELETE, by ASGI."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import anyio
import pytest

from tailrace import limits
from tailrace.protocol import ProtocolOptions
from tailrace.store import START, MemoryStore
from tailrace.testing import Clock
from tests.protocol.asking import ROOT, streams

pytestmark = pytest.mark.anyio

JSON = "application/json"


def producer(epoch: int, seq: int) -> dict[str, str]:
    return {"producer_id": "p", "producer_epoch": str(epoch), "producer_seq": str(seq)}


# Creation ----------------------------------------------------------------------------------------


async def test_a_new_stream_has_a_url_a_type_and_an_offset() -> None:
    async with streams() as site:
        made = await site.put("rooms/1")
        assert made.status == 201
        assert made.headers["location"] == f"http://testserver{ROOT}/rooms/1"
        assert made.headers["content-type"] == "text/plain"
        assert made.next_offset == str(START)
        assert made.body == b""


async def test_the_same_again_is_no_error_and_appends_nothing() -> None:
    async with streams() as site:
        first = await site.put("s", b"hello")
        again = await site.put("s", b"hello")
        assert (first.status, again.status) == (201, 200)
        assert again.next_offset == first.next_offset
        assert "location" not in again.headers


async def test_another_configuration_is_a_conflict() -> None:
    async with streams() as site:
        await site.put("s")
        other = await site.put("s", content_type=JSON)
        assert other.status == 409
        assert other.problem["code"] == "stream_exists"


async def test_json_is_checked_on_creation_and_an_empty_array_is_nothing() -> None:
    async with streams() as site:
        bad = await site.put("s", b"{", content_type=JSON)
        assert (bad.status, bad.problem["code"]) == (400, "invalid_body")
        assert (await site.ask("HEAD", "s")).status == 404
        made = await site.put("s", b"[]", content_type=JSON)
        assert (made.status, made.next_offset) == (201, str(START))


async def test_a_fork_takes_its_body_as_its_source_would() -> None:
    async with streams() as site:
        await site.put("a", b"[1,2]", content_type=JSON)
        made = await site.ask("PUT", "b", b"[3,4]", stream_forked_from=f"{ROOT}/a")
        assert made.status == 201
        assert made.headers["content-type"] == JSON
        assert (await site.get("b")).body == b"[1,2,3,4]"
        assert (await site.get("a")).body == b"[1,2]"


async def test_a_fork_of_what_is_not_there_is_refused_with_and_without_a_body() -> None:
    async with streams() as site:
        for body in (b"", b"x"):
            made = await site.ask("PUT", "b", body, stream_forked_from=f"{ROOT}/a")
            assert (made.status, made.problem["code"]) == (404, "fork_refused")


async def test_a_source_is_found_where_the_application_is_mounted_and_nowhere_else() -> None:
    async with streams() as site:
        await site.put("a", b"x")
        assert (await site.put("b", stream_forked_from="a")).status == 201
        assert (await site.put("c", stream_forked_from="/elsewhere/a")).status == 404


async def test_retention_is_asked_for_by_header() -> None:
    async with streams() as site:
        made = await site.put("s", stream_retain_records="4")
        assert made.status == 201
        known = await site.ask("HEAD", "s")
        assert known.headers["stream-retain-records"] == "4"
        for number in range(20):
            await site.post("s", b"%d," % number)
        known = await site.ask("HEAD", "s")
        first = known.headers["stream-first-offset"]
        kept = await site.get("s?offset=-1")
        assert kept.headers["stream-first-offset"] == first
        assert kept.body.endswith(b"16,17,18,19,")
        gone = await site.get(f"s?offset={START}")
        assert gone.status == 410
        assert gone.problem["code"] == "offset_gone"
        assert gone.problem["first"] == first
        assert gone.headers["stream-first-offset"] == first


# Appends -----------------------------------------------------------------------------------------


async def test_an_append_answers_with_the_offset_after_it() -> None:
    async with streams() as site:
        await site.put("s")
        done = await site.post("s", b"hello")
        assert (done.status, done.body) == (204, b"")
        assert done.next_offset == (await site.ask("HEAD", "s")).next_offset
        assert (await site.get("s")).body == b"hello"


async def test_a_body_in_parts_is_one_append() -> None:
    async with streams() as site:
        await site.put("s")
        done = await site.ask("POST", "s", [b"he", b"l", b"lo"], content_type="text/plain")
        assert done.status == 204
        assert (await site.get("s")).body == b"hello"


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {"content_type": "text/plain"}, "invalid_body"),
        (b"x", {}, "invalid_request"),
        (b"x", {"content_type": "nonsense"}, "invalid_request"),
        (b"x", {"content_type": "text/plain", "producer_id": "p"}, "invalid_request"),
        (b"x", {"content_type": "text/plain", "stream_seq": ""}, "invalid_request"),
    ],
)
async def test_an_append_that_cannot_be(body: bytes, headers: dict[str, str], code: str) -> None:
    async with streams() as site:
        await site.put("s")
        refused = await site.ask("POST", "s", body, **headers)
        assert (refused.status, refused.problem["code"]) == (400, code)
        assert (await site.get("s")).body == b""


@pytest.mark.parametrize("body", [b"{", b"[]", b"[1,]", b"\xff", b" ", b"NaN"])
async def test_json_that_is_none_is_refused_and_uses_up_no_sequence(body: bytes) -> None:
    async with streams() as site:
        await site.put("s", content_type=JSON)
        refused = await site.post("s", body, content_type=JSON, **producer(0, 0))
        assert (refused.status, refused.problem["code"]) == (400, "invalid_body")
        done = await site.post("s", b"1", content_type=JSON, **producer(0, 0))
        assert done.status == 200


async def test_an_array_is_a_batch_of_messages() -> None:
    async with streams() as site:
        await site.put("s", content_type=JSON)
        await site.post("s", b'[{"a":1}, [2]]', content_type=f"{JSON}; charset=utf-8")
        assert (await site.get("s")).body == b'[{"a":1},[2]]'


async def test_an_append_to_nothing() -> None:
    async with streams() as site:
        refused = await site.post("s")
        assert (refused.status, refused.problem["code"]) == (404, "stream_not_found")


async def test_another_content_type_is_a_conflict() -> None:
    async with streams() as site:
        await site.put("s")
        refused = await site.post("s", b"1", content_type=JSON)
        assert (refused.status, refused.problem["code"]) == (409, "content_type_mismatch")
        assert refused.problem["wanted"] == "text/plain"


async def test_a_producers_appends_count_once() -> None:
    async with streams() as site:
        await site.put("s")
        first = await site.post("s", b"a", **producer(0, 0))
        again = await site.post("s", b"a", **producer(0, 0))
        assert (first.status, again.status) == (200, 204)
        assert first.headers["producer-seq"] == again.headers["producer-seq"] == "0"
        gap = await site.post("s", b"c", **producer(0, 2))
        assert gap.status == 409
        assert gap.headers["producer-expected-seq"] == "1"
        assert gap.headers["producer-received-seq"] == "2"
        assert (await site.post("s", b"b", **producer(1, 0))).status == 200
        fenced = await site.post("s", b"x", **producer(0, 1))
        assert (fenced.status, fenced.headers["producer-epoch"]) == (403, "1")
        assert (await site.get("s")).body == b"ab"


async def test_stream_seq_must_grow() -> None:
    async with streams() as site:
        await site.put("s")
        assert (await site.post("s", stream_seq="2")).status == 204
        refused = await site.post("s", stream_seq="10")
        assert (refused.status, refused.problem["code"]) == (409, "sequence_conflict")


async def test_closing() -> None:
    async with streams() as site:
        await site.put("s", b"a")
        closed = await site.ask("POST", "s", stream_closed="true")
        assert closed.status == 204
        assert closed.headers["stream-closed"] == "true"
        assert (await site.ask("POST", "s", stream_closed="true")).status == 204
        late = await site.post("s", b"b")
        assert late.status == 409
        assert late.headers["stream-closed"] == "true"
        assert late.next_offset == closed.next_offset
        assert late.problem["code"] == "stream_closed"


async def test_a_last_append_closes_in_one() -> None:
    async with streams() as site:
        await site.put("s")
        done = await site.post("s", b"end", stream_closed="True")
        assert (done.status, done.headers["stream-closed"]) == (204, "true")
        whole = await site.get("s")
        assert (whole.body, whole.headers["stream-closed"]) == (b"end", "true")


@pytest.mark.parametrize("extra", [0, 1])
async def test_a_long_array_is_looked_at_aside_and_is_no_different(extra: int) -> None:
    body = b"[" + b"1," * ((limits.JSON_INLINE_BYTES - 3) // 2) + b"22]" + b" " * extra
    body = body.ljust(limits.JSON_INLINE_BYTES + extra)
    async with streams() as site:
        await site.put("s", content_type=JSON)
        assert (await site.post("s", body, content_type=JSON)).status == 204
        assert (await site.get("s")).body == body.strip()
        bad = await site.post("s", body.replace(b"]", b" "), content_type=JSON)
        assert (bad.status, bad.problem["code"]) == (400, "invalid_body")


# Sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_an_append_may_have_so_many_bytes_and_not_one_more(method: str) -> None:
    async with streams(options=ProtocolOptions(max_append_bytes=100)) as site:
        if method == "POST":
            await site.put("s")
        done = await site.ask(method, "s", b"x" * 100, content_type="text/plain")
        assert done.status in (201, 204)
        for body in ([b"x" * 101], [b"x" * 100, b"x"]):
            refused = await site.ask(method, "s", body, content_type="text/plain")
            assert (refused.status, refused.problem["code"]) == (413, "too_large")
            assert refused.problem["most"] == 100
        assert len((await site.get("s")).body) == 100


async def test_the_greatest_append_is_one_that_a_store_takes() -> None:
    async with streams() as site:
        await site.put("s")
        assert (await site.post("s", bytes(limits.MAX_APPEND_BYTES))).status == 204
        assert (await site.post("s", bytes(limits.MAX_APPEND_BYTES + 1))).status == 413


@pytest.mark.parametrize(
    "body", [[b"x" * 60, b"x" * 60, b"x"], [b"x" * (limits.BODY_LINGER_BYTES + 1)]]
)
async def test_a_connection_on_which_much_may_follow_is_closed(body: list[bytes]) -> None:
    async with streams(options=ProtocolOptions(max_append_bytes=100)) as site:
        await site.put("s")
        headers: dict[str, Any] = {"content_type": "text/plain"}
        if len(body) > 1:
            headers["transfer_encoding"] = "chunked"
        refused = await site.ask("POST", "s", body, **headers)
        assert refused.status == 413
        assert refused.headers["connection"] == "close"


@pytest.mark.parametrize("body", [[b"x" * 101], [b"x" * 60, b"x" * 60]])
async def test_one_on_which_little_follows_goes_on(body: list[bytes]) -> None:
    async with streams(options=ProtocolOptions(max_append_bytes=100)) as site:
        await site.put("s")
        refused = await site.ask("POST", "s", body, content_type="text/plain")
        assert refused.status == 413
        assert "connection" not in refused.headers


async def test_whatever_is_refused_before_its_body_is_read(clock: Clock) -> None:
    async with streams() as site:
        for method, path in (("POST", "a//b"), ("PATCH", "s"), ("PUT", "__ds/x")):
            refused = await site.ask(method, path, [b"x", b"x"], transfer_encoding="chunked")
            assert refused.status >= 400
            assert refused.headers["connection"] == "close"
        assert clock.time == 0


# Deletion ----------------------------------------------------------------------------------------


async def test_a_deleted_stream_is_gone() -> None:
    async with streams() as site:
        await site.put("s", b"x")
        assert (await site.ask("DELETE", "s")).status == 204
        again = await site.ask("DELETE", "s")
        assert (again.status, again.problem["code"]) == (404, "stream_not_found")


async def test_one_that_is_forked_says_so() -> None:
    async with streams() as site:
        await site.put("a", b"x")
        await site.put("b", stream_forked_from=f"{ROOT}/a")
        assert (await site.ask("DELETE", "a")).status == 204
        for method in ("GET", "POST", "DELETE"):
            body = b"x" if method == "POST" else b""
            gone = await site.ask(method, "a", body, content_type="text/plain")
            assert (gone.status, gone.problem["code"]) == (410, "stream_gone")
        assert (await site.put("a")).status == 409
        assert (await site.get("b")).body == b"x"


async def test_an_offset_of_a_stream_that_was_here_before_is_refused() -> None:
    async with streams() as site:
        await site.put("s", b"old")
        offset = (await site.ask("HEAD", "s")).next_offset
        await site.ask("DELETE", "s")
        await site.put("s", b"longer than the old one")
        gone = await site.get(f"s?offset={offset}")
        assert (gone.status, gone.problem["code"]) == (410, "offset_gone")


# Told --------------------------------------------------------------------------------------------


async def test_what_was_appended_is_told_once_it_is_there() -> None:
    store = MemoryStore()
    told: list[str] = []

    async with streams(store, on_append=told.append) as site:
        await site.put("a")
        await site.put("a")
        await site.post("a", b"x", **producer(0, 0))
        # Again: who had it first may have died before it could tell.
        await site.post("a", b"x", **producer(0, 0))
        await site.post("a", b"")
        await site.post("b")
        await site.ask("POST", "a", stream_closed="true")
        await site.ask("POST", "a", stream_closed="true")
        await site.ask("DELETE", "a")
    assert told == ["a"] * 5


def functions_of(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


@pytest.mark.slow
async def test_large_json_is_looked_at_in_one_thread_at_a_time() -> None:
    """Threads that compute hold up the event loop, the more the longer."""
    body = b"[" + b",".join([b"1"] * limits.JSON_INLINE_BYTES) + b"]"
    seen = []
    async with streams() as site:
        await site.put("s", content_type=JSON)

        async def append() -> None:
            assert (await site.ask("POST", "s", body, content_type=JSON)).status == 204

        async def look() -> None:
            while True:
                frames = sys._current_frames().values()
                seen.append(sum("wire_of" in functions_of(frame) for frame in frames))
                await anyio.sleep(0.005)

        async with anyio.create_task_group() as looking:
            looking.start_soon(look)
            async with anyio.create_task_group() as appending:
                for _ in range(4):
                    appending.start_soon(append)
            looking.cancel_scope.cancel()
    assert max(seen) == 1
