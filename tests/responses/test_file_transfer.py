"""A file on its way: what others do to it meanwhile, and who sends its bytes."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from tailrace import FileResponse, StreamOptions, drain, stats
from tailrace.errors import FileChanged, FileUnavailable, TailraceError
from tailrace.limits import ZERO_COPY_SPAN_BYTES
from tailrace.testing import Client, Clock, Exchange, Truncated, no_leaks, wait_until
from tests.responses.files import LONG_AGO, Copying, Reply, parts_of, write_old

pytestmark = pytest.mark.anyio

BLOCK = 64 * 1024
CONTENT = bytes(itertools.islice(itertools.cycle(range(251)), 20 * BLOCK + 1000))
SIZE = len(CONTENT)

ZEROCOPYSEND, PATHSEND = "http.response.zerocopysend", "http.response.pathsend"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_old(tmp_path / "film.mp4", CONTENT)


@asynccontextmanager
async def asked(app: ASGIApp, *extensions: str, **headers: str) -> AsyncIterator[Exchange]:
    """A request for `/`, sent to a server that offers some extensions."""
    offered: dict[str, Any] = {name: {} for name in extensions}
    async with Client(app) as client:
        async with client.open("GET", "/", headers=headers, extensions=offered) as exchange:
            yield exchange


async def reply_of(exchange: Exchange) -> Reply:
    start = await exchange.response()
    return Reply(start.status, start.headers, await exchange.read_all())


def kinds(exchange: Exchange) -> list[str]:
    """What was sent, without the start and what has no bytes."""
    return [
        sent.message["type"].removeprefix("http.response.")
        for sent in exchange.sends[1:]
        if sent.message["type"] != "http.response.body" or sent.body
    ]


# What others do to a file


def truncate(path: Path) -> None:
    os.truncate(path, 3 * BLOCK)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(CONTENT[::-1])


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    write_old(path.with_name("new"), CONTENT[::-1]).replace(path)


CHANGES = [
    *(truncate, empty, overwrite),
    *(pytest.param(change, marks=pytest.mark.posix) for change in (delete, replace)),
]
BOTH = pytest.mark.parametrize(
    ("wrap", "extensions"),
    [(lambda app: app, ()), (Copying, (ZEROCOPYSEND,))],
    ids=["read", "copied"],
)


@BOTH
@pytest.mark.parametrize("headers", [{}, {"range": f"bytes=10-{SIZE - 10},-5"}])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_is_changed_on_its_way_cuts_the_connection(
    path: Path,
    wrap: Callable[[ASGIApp], ASGIApp],
    extensions: tuple[str, ...],
    headers: dict[str, str],
    change: Callable[[Path], None],
) -> None:
    async with no_leaks():
        # Spans as short as blocks: the client of these tests reads them into memory.
        app = wrap(FileResponse(path, options=StreamOptions(min_rate=1)))
        async with asked(app, *extensions, **headers) as exchange:
            assert (await exchange.response()).status in (200, 206)
            await wait_until(lambda: exchange.blocked)
            change(path)
            with pytest.raises(Truncated) as cut:
                await exchange.read_all()
    assert isinstance(cut.value.__cause__, FileChanged)
    got = cut.value.partial
    if not headers and change not in (overwrite,):
        assert CONTENT.startswith(got)


@BOTH
async def test_a_file_that_grows_on_its_way_is_sent_as_long_as_it_was(
    path: Path, wrap: Callable[[ASGIApp], ASGIApp], extensions: tuple[str, ...]
) -> None:
    async with no_leaks():
        app = wrap(FileResponse(path, options=StreamOptions(min_rate=1)))
        async with asked(app, *extensions) as exchange:
            await wait_until(lambda: exchange.blocked)
            got = b""
            while chunk := await exchange.read():
                got += chunk
                with path.open("ab") as log:
                    log.write(b"one more line\n")
    assert got == CONTENT


@BOTH
async def test_a_file_that_changes_at_the_very_end_is_not_sent_whole(
    path: Path, wrap: Callable[[ASGIApp], ASGIApp], extensions: tuple[str, ...]
) -> None:
    """The last block is looked at after it was read, so no mix is ever complete."""
    app = wrap(FileResponse(path, options=StreamOptions(min_rate=1)))
    async with asked(app, *extensions) as exchange:
        await exchange.read_exactly(14 * BLOCK)
        await wait_until(lambda: exchange.blocked)
        overwrite(path)
        with pytest.raises(Truncated):
            await exchange.read_all()


async def test_a_file_that_changed_before_anything_was_sent_is_opened_anew(tmp_path: Path) -> None:
    """Small files are read when they are opened: what was written meanwhile is then sent whole."""
    path = write_old(tmp_path / "a.txt", b"old")
    opened: list[int] = []

    def opener(name: str, flags: int) -> int:
        opened.append(os.open(name, flags))
        return opened[-1]

    class Late(FileResponse):
        def _plan(self, state: Any, request: Any) -> Any:
            if len(opened) == 1:
                path.write_bytes(b"new and longer")
            return super()._plan(state, request)

    async with no_leaks(), asked(Late(path, opener=opener)) as exchange:
        reply = await reply_of(exchange)
    assert (reply.body, reply.headers["content-length"]) == (b"new and longer", "14")
    assert len(opened) == 2


async def test_a_small_file_that_grows_with_every_look_is_sent_as_it_was(tmp_path: Path) -> None:
    path = write_old(tmp_path / "a.log", b"first line\n")

    class Busy(FileResponse):
        def _plan(self, state: Any, request: Any) -> Any:
            with path.open("ab") as log:
                log.write(b"one more line\n")
            return super()._plan(state, request)

    # The line comes after the file was opened and before it is read, each time.
    async with no_leaks(), asked(Busy(path)) as exchange:
        reply = await reply_of(exchange)
    assert reply.body == b"first line\n" + b"one more line\n" * 2
    assert reply.headers["content-length"] == str(len(reply.body))


@pytest.mark.posix
async def test_a_small_file_that_never_rests_is_an_error_before_the_response(
    tmp_path: Path,
) -> None:
    path = write_old(tmp_path / "a.txt", b"text")
    contents = itertools.count()

    class Restless(FileResponse):
        def _plan(self, state: Any, request: Any) -> Any:
            write_old(path.with_name("new"), b"%d" % next(contents)).replace(path)
            return super()._plan(state, request)

    async with no_leaks(), asked(Restless(path)) as exchange:
        with pytest.raises(FileChanged, match="deleted or replaced"):
            await exchange.response()


@pytest.mark.parametrize("before_the_start", [True, False])
async def test_a_disk_that_fails_cuts_the_connection(path: Path, before_the_start: bool) -> None:
    descriptors: list[int] = []

    def opener(name: str, flags: int) -> int:
        descriptors.append(os.open(name, os.O_WRONLY if before_the_start else flags))
        return descriptors[-1]

    async with no_leaks(), asked(FileResponse(path, opener=opener)) as exchange:
        if before_the_start:
            with pytest.raises(FileUnavailable, match="cannot be read at byte 0"):
                await exchange.response()
            return
        await wait_until(lambda: exchange.blocked)
        writing = os.open(path, os.O_WRONLY)
        os.dup2(writing, descriptors[0])  # from now on, every read fails
        os.close(writing)
        with pytest.raises(Truncated) as cut:
            await exchange.read_all()
    assert isinstance(cut.value.__cause__, FileUnavailable)
    assert isinstance(cut.value.__cause__.__cause__, OSError)


async def test_a_failure_is_told_once_by_what_is_raised(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failed = stats().failed
    async with asked(FileResponse(path)) as exchange:
        await wait_until(lambda: exchange.blocked)
        truncate(path)
        with pytest.raises(Truncated) as cut:
            await exchange.read_all()
        assert (await exchange.finished()).error is cut.value.__cause__
    assert caplog.records == []  # the server logs what is raised
    assert stats().failed == failed + 1


# What clients do


@BOTH
async def test_a_client_that_leaves_closes_the_file(
    path: Path, wrap: Callable[[ASGIApp], ASGIApp], extensions: tuple[str, ...]
) -> None:
    ran: list[bool] = []
    async with no_leaks():
        response = FileResponse(
            path, background=BackgroundTask(ran.append, True), options=StreamOptions(min_rate=1)
        )
        async with asked(wrap(response), *extensions) as exchange:
            await wait_until(lambda: exchange.blocked)
            await exchange.leave()
            assert (await exchange.finished()).error is None
    assert ran == [True]


@BOTH
async def test_a_client_that_stalls_is_cut_off(
    path: Path,
    wrap: Callable[[ASGIApp], ASGIApp],
    extensions: tuple[str, ...],
    clock: Clock,
) -> None:
    stalled = stats().stalled
    async with no_leaks():
        app = wrap(FileResponse(path, options=StreamOptions(send_timeout=7)))
        async with asked(app, *extensions) as exchange:
            await exchange.read(10)
            await wait_until(lambda: exchange.blocked)
            await clock.advance(7)
            assert (await exchange.finished()).truncated
    assert stats().stalled == stalled + 1


@BOTH
async def test_a_drain_gives_a_download_its_time_and_then_cuts_it(
    path: Path, wrap: Callable[[ASGIApp], ASGIApp], extensions: tuple[str, ...]
) -> None:
    async with no_leaks():
        app = wrap(FileResponse(path, options=StreamOptions(min_rate=1)))
        async with asked(app, *extensions) as exchange:
            await wait_until(lambda: exchange.blocked)
            assert (await drain(0)).cut == 1
            assert (await exchange.finished()).truncated


@BOTH
async def test_a_transfer_that_is_cancelled_closes_the_file(
    path: Path, wrap: Callable[[ASGIApp], ASGIApp], extensions: tuple[str, ...]
) -> None:
    response = wrap(FileResponse(path, options=StreamOptions(min_rate=1)))
    scopes: list[anyio.CancelScope] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope() as cancelled:
            scopes.append(cancelled)
            await response(scope, receive, send)

    async with no_leaks(), asked(app, *extensions) as exchange:
        await wait_until(lambda: exchange.blocked)
        scopes[0].cancel()
        assert (await exchange.finished()).truncated


# Who sends the bytes


async def test_a_server_that_copies_files_is_told_to(path: Path) -> None:
    async with no_leaks():
        async with asked(Copying(FileResponse(path)), ZEROCOPYSEND) as exchange:
            reply = await reply_of(exchange)
    assert reply.body == CONTENT
    # The last block is read, and looked at, before it goes out.
    assert kinds(exchange) == ["zerocopysend", "body"]
    span = exchange.sends[1].message
    assert (span["offset"], span["count"]) == (0, SIZE - BLOCK)
    assert span["file"].fileno() == span["file"]


async def test_a_long_file_is_copied_in_spans(tmp_path: Path) -> None:
    path = tmp_path / "long.bin"
    size = 2 * ZERO_COPY_SPAN_BYTES + 100_000
    with path.open("wb") as file:
        file.truncate(size)
    async with no_leaks():
        async with asked(Copying(FileResponse(path)), ZEROCOPYSEND) as exchange:
            reply = await reply_of(exchange)
    assert len(reply.body) == size
    counts = [sent.message["count"] for sent in exchange.sends if "count" in sent.message]
    # A rest that is shorter than a block is read.
    assert counts == [ZERO_COPY_SPAN_BYTES, ZERO_COPY_SPAN_BYTES]


async def test_long_parts_of_several_are_copied_and_short_ones_read(path: Path) -> None:
    header = "bytes=0-99,1000-500999,600000-1200000"
    async with no_leaks():
        async with asked(Copying(FileResponse(path)), ZEROCOPYSEND, range=header) as exchange:
            reply = await reply_of(exchange)
        async with asked(FileResponse(path), range=header) as plain:
            read = await reply_of(plain)
    assert [body for _, body in parts_of(reply)] == [
        CONTENT[:100],
        CONTENT[1000:501_000],
        CONTENT[600_000:1_200_001],
    ]
    assert parts_of(reply) == parts_of(read)
    counts = [sent.message["count"] for sent in exchange.sends if "count" in sent.message]
    assert counts == [500_000, 600_001 - BLOCK]


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 3 * BLOCK])
@pytest.mark.parametrize("extension", [ZEROCOPYSEND, PATHSEND])
async def test_the_bytes_are_the_same_whoever_sends_them(
    tmp_path: Path, size: int, extension: str
) -> None:
    path = write_old(tmp_path / "a.bin", CONTENT[:size])
    app: ASGIApp = FileResponse(path)
    if extension == ZEROCOPYSEND:
        app = Copying(app)
    async with no_leaks(), asked(app, extension) as exchange:
        reply = await reply_of(exchange)
    assert reply.body == CONTENT[:size]
    assert reply.headers["content-length"] == str(size)


async def test_a_server_that_takes_only_paths_gets_the_path_of_a_whole_file(path: Path) -> None:
    async with no_leaks(), asked(FileResponse(path), PATHSEND) as exchange:
        assert (await reply_of(exchange)).body == CONTENT
    assert [sent.message["type"] for sent in exchange.sends[1:]] == [PATHSEND]
    assert exchange.sends[1].message["path"] == str(path)


async def test_a_relative_path_is_made_absolute_for_the_server(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    async with asked(FileResponse("film.mp4"), PATHSEND) as exchange:
        assert (await reply_of(exchange)).body == CONTENT
    assert exchange.sends[1].message["path"] == str(path)


async def test_a_server_that_fails_because_the_client_left_is_no_error(path: Path) -> None:
    ran: list[bool] = []

    async def send(message: Any) -> None:
        raise ConnectionResetError("gone")

    async def receive() -> Any:
        await anyio.sleep_forever()

    response = FileResponse(path, background=BackgroundTask(ran.append, True))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    # A path is for a server that is known: by the module that its code is from.
    servers = FunctionType(send.__code__, {"__name__": "granian"})
    for extensions, sending in (({}, send), ({PATHSEND: {}}, servers)):
        async with no_leaks():
            await response({**scope, "extensions": extensions}, receive, sending)
    assert ran == [True, True]


async def test_two_dots_after_a_link_lead_where_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "here" / "deep")
    write_old(tmp_path / "here" / "a.txt", b"there")
    async with asked(FileResponse(tmp_path / "link" / ".." / "a.txt")) as exchange:
        assert (await reply_of(exchange)).body == b"there"
    async with asked(FileResponse(tmp_path / "link" / ".." / "a.txt"), PATHSEND) as exchange:
        assert (await reply_of(exchange)).body == b"there"


async def test_a_path_is_not_sent_for_a_part_nor_for_what_an_opener_opened(path: Path) -> None:
    async with asked(FileResponse(path), PATHSEND, range="bytes=1-") as exchange:
        assert (await reply_of(exchange)).body == CONTENT[1:]
    assert PATHSEND not in {sent.message["type"] for sent in exchange.sends}
    async with asked(FileResponse(path, opener=os.open), PATHSEND) as exchange:
        assert (await reply_of(exchange)).body == CONTENT
    assert PATHSEND not in {sent.message["type"] for sent in exchange.sends}


async def test_a_server_that_does_not_say_who_is_in_between_gets_no_descriptor(path: Path) -> None:
    async with asked(FileResponse(path), ZEROCOPYSEND) as exchange:
        assert (await reply_of(exchange)).body == CONTENT
    assert set(kinds(exchange)) == {"body"}


async def passing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


class Looking:
    """A middleware as many are, which looks at the start and hands all on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def look(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, look)


@pytest.mark.parametrize(
    ("middleware", "copied"),
    [
        ([], True),
        ([Middleware(CORSMiddleware, allow_origins=["*"])], True),
        ([Middleware(GZipMiddleware)], False),
        ([Middleware(BaseHTTPMiddleware, dispatch=passing)], False),
        ([Middleware(Looking)], False),
    ],
    ids=["none", "cors", "gzip", "base", "unknown"],
)
@pytest.mark.parametrize("range_", [None, "bytes=5-999999"])
async def test_a_middleware_in_between_sees_a_body_that_it_understands(
    path: Path, middleware: list[Middleware], copied: bool, range_: str | None
) -> None:
    routes = [Route("/", lambda request: FileResponse(path, media_type="text/plain"))]
    app = Copying(Starlette(routes=routes, middleware=middleware))
    headers = {"accept-encoding": "gzip", "origin": "http://a.example"}
    if range_ is not None:
        headers["range"] = range_
    async with no_leaks(), asked(app, ZEROCOPYSEND, PATHSEND, **headers) as exchange:
        reply = await reply_of(exchange)
    compressed = reply.headers.get("content-encoding") == "gzip"
    body = gzip.decompress(reply.body) if compressed else reply.body
    assert body == (CONTENT if range_ is None else CONTENT[5:1_000_000])
    assert ("zerocopysend" in kinds(exchange)) is copied


async def test_fastapi_itself_is_not_in_between(path: Path) -> None:
    app = FastAPI()

    @app.get("/")
    def film() -> Any:
        return FileResponse(path)

    async with asked(Copying(app), ZEROCOPYSEND) as exchange:
        assert (await reply_of(exchange)).body == CONTENT
    assert "zerocopysend" in kinds(exchange)


@pytest.mark.parametrize(
    "middleware",
    [[Middleware(GZipMiddleware)], [Middleware(BaseHTTPMiddleware, dispatch=passing)]],
    ids=["gzip", "base"],
)
async def test_a_middleware_in_between_gets_bytes_though_the_server_takes_paths(
    path: Path, middleware: list[Middleware]
) -> None:
    routes = [Route("/", lambda request: FileResponse(path))]
    app = Starlette(routes=routes, middleware=middleware)
    async with asked(app, PATHSEND) as exchange:
        assert (await reply_of(exchange)).body == CONTENT
    assert set(kinds(exchange)) == {"body"}


async def test_a_span_that_the_server_fails_to_send_fails_the_response(path: Path) -> None:
    class Failing(Copying):
        async def send(self, message: Any) -> None:
            if message["type"] == ZEROCOPYSEND:
                raise TailraceError("the disk is gone")
            await super().send(message)

    async with no_leaks(), asked(Failing(FileResponse(path)), ZEROCOPYSEND) as exchange:
        with pytest.raises(Truncated) as cut:
            await exchange.read_all()
    assert str(cut.value.__cause__) == "the disk is gone"


def test_the_content_is_not_what_it_is_overwritten_with(path: Path) -> None:
    assert CONTENT[::-1] != CONTENT
    assert path.stat().st_mtime == LONG_AGO
