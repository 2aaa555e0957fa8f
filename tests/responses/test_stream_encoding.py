from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import brotli  # type: ignore[import-untyped]  # the package ships no types
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace import (
    CSVResponse,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    StreamingResponse,
    StreamOptions,
)
from tailrace.app import AccessLog
from tailrace.testing import Client, Clock
from tests.responses.fetched import fetch

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

pytestmark = pytest.mark.anyio

CODINGS = ["zstd", "br", "gzip"]
COMPRESS = StreamOptions(compress=True)


def decoder(coding: str) -> Callable[[bytes], bytes]:
    """What gives out at once all that can be decoded from the bytes so far."""
    if coding == "zstd":
        return ZstdDecompressor().decompress
    if coding == "br":
        step: Callable[[bytes], bytes] = brotli.Decompressor().process
        return step
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress


def text(content: Any, **kwargs: Any) -> StreamingResponse:
    options = kwargs.pop("options", COMPRESS)
    return StreamingResponse(content, media_type="text/plain", options=options, **kwargs)


# What is chosen ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("zstd", "zstd"),
        ("br", "br"),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("*", "zstd"),
        ("zstd;q=0, gzip;q=0, *", "br"),
    ],
)
async def test_the_coding_is_negotiated(accept: str, coding: str) -> None:
    got = await fetch(text(["many words ", "many words"]), accept_encoding=accept)
    assert got.headers["content-encoding"] == coding
    assert decoder(coding)(got.body) == b"many words many words"


@pytest.mark.parametrize("accept", ["", "identity", "deflate", "gzip;q=0", "*;q=0"])
async def test_without_a_coding_in_common_the_bytes_are_plain(accept: str) -> None:
    got = await fetch(text(["words"]), accept_encoding=accept)
    assert "content-encoding" not in got.headers
    assert got.body == b"words"


async def test_without_accept_encoding_the_bytes_are_plain() -> None:
    assert (await fetch(text(["words"]))).body == b"words"


@pytest.mark.parametrize("accept", ["gzip", "identity"])
async def test_caches_are_told_that_it_varies(accept: str) -> None:
    got = await fetch(text(["x"]), accept_encoding=accept)
    assert got.headers["vary"].lower() == "accept-encoding"


async def test_a_vary_that_is_there_is_added_to() -> None:
    got = await fetch(text(["x"], headers={"Vary": "Cookie"}), accept_encoding="gzip")
    assert got.headers.getlist("vary") == ["Cookie, accept-encoding"]


async def test_the_responses_own_headers_are_not_changed_by_a_request() -> None:
    response = text(["words"])
    await fetch(response, accept_encoding="gzip")
    got = await fetch(response)
    assert "content-encoding" not in got.headers
    assert got.body == b"words"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(
    "make", [EventSourceResponse, JSONLinesResponse, JSONArrayResponse, CSVResponse]
)
async def test_every_text_format_is_compressed(make: Any, coding: str) -> None:
    items = [{"number": number} for number in range(3)]
    plain = await fetch(make(items, options=COMPRESS))
    got = await fetch(make(items, options=COMPRESS), accept_encoding=coding)
    assert got.headers["content-encoding"] == coding
    assert decoder(coding)(got.body) == plain.body


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_long_stream_is_made_smaller_and_comes_back_equal(coding: str) -> None:
    lines = [f"Number {number}\n" for number in range(20_000)]
    got = await fetch(text(iter(lines)), accept_encoding=coding)
    whole = "".join(lines).encode()
    assert len(got.body) < len(whole) / 2
    assert decoder(coding)(got.body) == whole


@pytest.mark.parametrize("coding", CODINGS)
async def test_an_empty_stream_is_a_whole_one_of_its_coding(coding: str) -> None:
    got = await fetch(text([]), accept_encoding=coding)
    assert decoder(coding)(got.body) == b""
    assert got.body  # not nothing: that is no stream of any coding


@pytest.mark.parametrize("coding", ["gzip", "br"])
@pytest.mark.parametrize(
    "response", [text(["many ", "words"]), EventSourceResponse(["words"], options=COMPRESS)]
)
async def test_httpx_decodes_it(response: Any, coding: str) -> None:
    transport = httpx2.ASGITransport(response)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        plain = await client.get("/", headers={"accept-encoding": "identity"})
        got = await client.get("/", headers={"accept-encoding": coding})
    assert got.headers["content-encoding"] == coding
    assert got.text == plain.text != ""


# Nothing waits in the compressor -----------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("make", [text, EventSourceResponse])
async def test_an_item_can_be_decoded_before_the_next_one_comes(
    clock: Clock, make: Any, coding: str
) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(3):
            yield f"item {number}"
            await anyio.sleep(1)

    decode = decoder(coding)
    async with (
        Client(make(source(), options=COMPRESS)) as client,
        client.open("GET", "/", headers={"accept-encoding": coding}) as exchange,
    ):
        for number in range(3):
            await clock.settle()
            assert clock.time == number
            assert f"item {number}" in decode(await exchange.read()).decode()
            await clock.advance(1)
        decode(await exchange.read_all())


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_heartbeat_can_be_decoded_when_it_comes(clock: Clock, coding: str) -> None:
    async def source() -> AsyncIterator[str]:
        yield "first"
        await anyio.sleep(1000)

    decode = decoder(coding)
    async with (
        Client(
            EventSourceResponse(source(), options=StreamOptions(heartbeat=2, compress=True))
        ) as client,
        client.open("GET", "/", headers={"accept-encoding": coding}) as exchange,
    ):
        assert decode(await exchange.read()) == b"data: first\n\n"
        await clock.advance(2)
        assert decode(await exchange.read()) == b": keep-alive\n\n"


@pytest.mark.parametrize("coding", CODINGS)
async def test_what_came_before_an_error_and_its_tail_can_be_decoded(coding: str) -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("no more")

    decode = decoder(coding)
    body = b""
    async with (
        Client(JSONLinesResponse(source(), options=COMPRESS), raise_app_exceptions=False) as client,
        client.open("GET", "/", headers={"accept-encoding": coding}) as exchange,
    ):
        await exchange.finished()
        for sent in exchange.sends:
            body += decode(sent.body) if sent.body else b""
    assert body.splitlines()[0] == b"1"
    assert b'"code":"stream_failed"' in body.splitlines()[1]


# What is left alone ------------------------------------------------------------------------------


def failing_to_start() -> Iterator[str]:
    raise AssertionError("HEAD does not start the source")
    yield ""


@pytest.mark.parametrize(
    ("media_type", "headers", "status"),
    [
        ("image/png", {}, 200),
        ("video/mp4", {}, 200),
        ("application/zip", {}, 200),
        ("application/octet-stream", {}, 200),
        (None, {}, 200),
        ("text/plain", {"content-length": "5"}, 200),
        ("text/plain", {"content-encoding": "identity"}, 200),
        ("text/plain", {"cache-control": "private, No-Transform"}, 200),
        ("text/plain", {"content-range": "bytes 0-4/10"}, 200),
        ("text/plain", {"Content-Digest": "sha-256=:AA==:"}, 200),
        ("text/plain", {"repr-digest": "sha-256=:AA==:"}, 200),
        ("text/plain", {"digest": "sha-256=AA=="}, 200),
        ("text/plain", {"content-md5": "AA=="}, 200),
        ("text/plain", {}, 206),
    ],
)
async def test_what_is_compressed_forbidden_or_counted_is_left_alone(
    media_type: str | None, headers: dict[str, str], status: int
) -> None:
    response = StreamingResponse(["words"], status, headers, media_type, options=COMPRESS)
    got = await fetch(response, accept_encoding="gzip, br, zstd")
    assert got.headers.get("content-encoding") == headers.get("content-encoding")
    assert "vary" not in got.headers
    assert got.body == b"words"


async def test_a_content_type_in_the_headers_counts() -> None:
    response = StreamingResponse(
        ["words"], headers={"Content-Type": "text/plain"}, options=COMPRESS
    )
    got = await fetch(response, accept_encoding="gzip")
    assert got.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("options", [None, StreamOptions(), StreamOptions(compress=False)])
@pytest.mark.parametrize(
    "make",
    [StreamingResponse, EventSourceResponse, JSONLinesResponse, JSONArrayResponse, CSVResponse],
)
async def test_it_is_off_unless_it_is_asked_for(make: Any, options: StreamOptions | None) -> None:
    items = [{"n": 1}] if make is not StreamingResponse else ["words"]
    response = make(items, headers={"etag": '"v1"'}, options=options)
    if make is StreamingResponse:
        response.headers["content-type"] = "text/plain"
    got = await fetch(response, accept_encoding="gzip, br, zstd")
    assert "content-encoding" not in got.headers
    assert "vary" not in got.headers
    assert got.headers["etag"] == '"v1"'


# The headers are true of what is sent ------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("etag", "sent"), [('"v1"', 'W/"v1"'), ('W/"v1"', 'W/"v1"')])
async def test_a_strong_etag_of_the_plain_bytes_is_weak_on_others(
    method: str, etag: str, sent: str
) -> None:
    response = text(["words"], headers={"ETag": etag})
    got = await fetch(response, method=method, accept_encoding="gzip")
    assert (got.headers["content-encoding"], got.headers["etag"]) == ("gzip", sent)
    assert (await fetch(response, method=method)).headers["etag"] == etag


async def test_no_ranges_are_offered_of_what_is_compressed() -> None:
    response = text(["words"], headers={"accept-ranges": "bytes"})
    assert "accept-ranges" not in (await fetch(response, accept_encoding="gzip")).headers
    assert (await fetch(response)).headers["accept-ranges"] == "bytes"


# It steps aside for what looks at bodies ---------------------------------------------------------


class Audit:
    """A middleware of plain ASGI that keeps what it sees of a body."""

    def __init__(self, app: Any, seen: list[bytes]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def look(message: Any) -> None:
            self.seen.append(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, look)


async def reading(request: Any, call_next: Any) -> Any:
    response = await call_next(request)
    body = b"".join([part async for part in response.body_iterator])
    return Response(body.decode(), response.status_code, dict(response.headers))


def behind(*middleware: Middleware) -> Any:
    async def endpoint(request: Request) -> Response:
        return text(["many words ", "many words"], headers={"etag": '"v1"'})

    return Starlette(routes=[Route("/", endpoint)], middleware=middleware)


async def test_a_middleware_that_keeps_bodies_keeps_the_text() -> None:
    seen: list[bytes] = []
    got = await fetch(behind(Middleware(Audit, seen=seen)), accept_encoding="gzip, br, zstd")
    assert b"".join(seen) == got.body == b"many words many words"
    assert (got.headers["etag"], "content-encoding" in got.headers) == ('"v1"', False)


async def test_a_middleware_that_reads_bodies_as_text_reads_it() -> None:
    app = behind(Middleware(BaseHTTPMiddleware, dispatch=reading))
    got = await fetch(app, accept_encoding="gzip")
    assert (got.status, got.body) == (200, b"many words many words")


@pytest.mark.parametrize(
    "middleware",
    [
        [Middleware(CORSMiddleware, allow_origins=["*"])],
        [Middleware(AccessLog)],
        [Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(AccessLog)],
    ],
)
async def test_one_that_is_known_to_leave_bodies_alone_is_no_hindrance(
    middleware: list[Middleware],
) -> None:
    app = behind(*middleware)
    got = await fetch(app, accept_encoding="gzip", origin="http://a.example")
    assert decoder("gzip")(got.body) == b"many words many words"


async def test_starlettes_gzip_compresses_in_its_place_with_an_etag_that_is_true() -> None:
    got = await fetch(behind(Middleware(GZipMiddleware, minimum_size=0)), accept_encoding="gzip")
    assert decoder("gzip")(got.body) == b"many words many words"
    assert got.headers["etag"] == 'W/"v1"'


async def test_head_names_the_coding_that_get_would_have() -> None:
    got = await fetch(text(failing_to_start()), method="HEAD", accept_encoding="br")
    assert got.headers["content-encoding"] == "br"
