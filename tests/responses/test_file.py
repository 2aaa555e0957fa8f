"""`FileResponse`: what is answered, to whom, with which headers."""
# ruff: noqa: ASYNC240 - a test may wait for the disk

from __future__ import annotations

import gzip
import itertools
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import tailrace
from tailrace import FileResponse, StreamOptions, stats
from tailrace.errors import FileUnavailable, InvalidOption
from tailrace.semantics import MediaTypes, format_date, parse_ranges
from tailrace.testing import Client, no_leaks
from tests.responses.files import LONG_AGO, Reply, get, parts_of, write_old

pytestmark = pytest.mark.anyio

CONTENT = bytes(at % 251 for at in range(200_000))
SIZE = len(CONTENT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_old(tmp_path / "film.mp4", CONTENT)


# The whole file


async def test_a_file_is_sent_whole_with_true_headers(path: Path) -> None:
    async with no_leaks():
        reply = await get(FileResponse(path))
    assert reply.status == 200
    assert reply.body == CONTENT
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.headers["content-length"] == str(SIZE)
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["last-modified"] == format_date(LONG_AGO)
    assert reply.headers["etag"].startswith('"')
    assert "content-disposition" not in reply.headers


async def test_an_empty_file_is_sent(tmp_path: Path) -> None:
    empty = write_old(tmp_path / "empty.txt", b"")
    async with no_leaks():
        reply = await get(FileResponse(empty))
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 131_072, 200_000])
async def test_files_of_any_size_come_whole(tmp_path: Path, size: int) -> None:
    path = write_old(tmp_path / "a.bin", CONTENT[:size])
    reply = await get(FileResponse(path))
    assert reply.body == CONTENT[:size]


async def test_head_sends_the_headers_of_get_and_no_body(path: Path) -> None:
    async with no_leaks():
        head, whole = await get(FileResponse(path), "HEAD"), await get(FileResponse(path))
    assert head.headers == whole.headers
    assert (head.status, head.body) == (200, b"")


async def test_a_response_can_be_sent_again_and_again(path: Path) -> None:
    response = FileResponse(path)
    assert (await get(response, range="bytes=0-9")).body == CONTENT[:10]
    assert (await get(response)).body == CONTENT
    path.write_bytes(b"new")
    assert (await get(response)).body == b"new"


async def test_the_etag_changes_with_size_time_in_nanoseconds_and_inode(path: Path) -> None:
    response = FileResponse(path)
    etags = [(await get(response, "HEAD")).headers["etag"]]
    os.utime(path, ns=(LONG_AGO * 10**9, LONG_AGO * 10**9 + 1))
    etags.append((await get(response, "HEAD")).headers["etag"])
    write_old(path, CONTENT[:-1])
    etags.append((await get(response, "HEAD")).headers["etag"])
    write_old(path.with_name("new"), CONTENT[:-1]).replace(path)
    etags.append((await get(response, "HEAD")).headers["etag"])
    assert len(set(etags)) == 4
    assert all(not etag.startswith("W/") for etag in etags)


@pytest.mark.posix
async def test_a_file_that_is_written_in_place_with_its_old_times_is_another_version(
    path: Path,
) -> None:
    """Kind of fault: versions are told apart by what a copy can set back."""
    etags = set()
    for content in (CONTENT, CONTENT[::-1]):
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, (LONG_AGO, LONG_AGO))
        etags.add((await get(FileResponse(path), "HEAD")).headers["etag"])
    assert len(etags) == 2


async def test_copies_on_several_machines_may_have_one_etag(path: Path) -> None:
    copy = write_old(path.with_name("copy"), path.read_bytes())
    os.utime(path, ns=(LONG_AGO * 10**9, LONG_AGO * 10**9))
    os.utime(copy, ns=(LONG_AGO * 10**9, LONG_AGO * 10**9 + 5))
    first, second = FileResponse(path, etag="portable"), FileResponse(copy, etag="portable")
    etag = (await get(first)).headers["etag"]
    assert (await get(second, if_none_match=etag)).status == 304
    write_old(copy, CONTENT[:-1])
    assert (await get(second, if_none_match=etag)).status == 200


def test_a_kind_of_etag_that_is_none_is_refused(path: Path) -> None:
    with pytest.raises(InvalidOption, match='"exact" or "portable"'):
        FileResponse(path, etag="weak")  # type: ignore[arg-type] # the mistake


@pytest.mark.parametrize("name", ["a.mkv", "a.yaml", "a.csv.gz", "a.JS", "a"])
def test_a_type_is_the_one_of_every_file_that_is_served(name: str) -> None:
    """Kind of fault: two tables for one thing, one of them the machine's."""
    assert FileResponse(name).media_type == MediaTypes({}).of(name)


async def test_a_file_from_the_future_is_told_to_be_from_now(path: Path) -> None:
    os.utime(path, (4_000_000_000, 4_000_000_000))
    reply = await get(FileResponse(path))
    told = datetime.strptime(reply.headers["last-modified"], "%a, %d %b %Y %H:%M:%S GMT")
    assert told.replace(tzinfo=UTC) <= datetime.now(UTC)


# Ranges


async def test_one_range_is_206_with_its_content_range(path: Path) -> None:
    async with no_leaks():
        reply = await get(FileResponse(path), range="bytes=100000-199998")
    assert reply.status == 206
    assert reply.body == CONTENT[100_000:199_999]
    assert reply.headers["content-range"] == f"bytes 100000-199998/{SIZE}"
    assert reply.headers["content-length"] == "99999"
    assert reply.headers["content-type"] == "video/mp4"


async def test_several_ranges_are_parts_in_the_order_asked_for(path: Path) -> None:
    async with no_leaks():
        reply = await get(FileResponse(path), range="bytes=-5,0-99999,150000-150009")
    assert reply.status == 206
    assert "content-range" not in reply.headers
    assert reply.headers["content-length"] == str(len(reply.body))
    assert parts_of(reply) == [
        (f"bytes 199995-199999/{SIZE}", CONTENT[-5:]),
        (f"bytes 0-99999/{SIZE}", CONTENT[:100_000]),
        (f"bytes 150000-150009/{SIZE}", CONTENT[150_000:150_010]),
    ]


async def test_a_range_beyond_the_file_is_416_with_its_size(path: Path) -> None:
    reply = await get(FileResponse(path, cache_control="max-age=60"), range=f"bytes={SIZE}-")
    assert reply.status == 416
    assert reply.headers["content-range"] == f"bytes */{SIZE}"
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert "cache-control" not in reply.headers


@pytest.mark.parametrize("header", ["bytes=5-4", "items=0-9", "bytes", "bytes=0-0," * 101])
async def test_a_range_that_is_ignored_gives_the_whole_file(path: Path, header: str) -> None:
    reply = await get(FileResponse(path), range=header)
    assert (reply.status, reply.body) == (200, CONTENT)


async def test_a_range_of_a_response_with_another_status_is_ignored(path: Path) -> None:
    reply = await get(FileResponse(path, status_code=404), range="bytes=0-9", if_match='"x"')
    assert (reply.status, reply.body) == (404, CONTENT)


async def test_starlettes_own_limit_of_ranges_is_kept_in_a_subclass(path: Path) -> None:
    class Few(FileResponse):
        max_ranges = 2

    assert (await get(Few(path), range="bytes=0-0,1000-1000")).status == 206
    assert (await get(Few(path), range="bytes=0-0,1000-1000,2000-2000")).status == 200


SPECS = st.lists(
    st.builds("{}-{}".format, st.integers(0, 400), st.integers(0, 400))
    | st.builds("{}-".format, st.integers(0, 400))
    | st.builds("-{}".format, st.integers(0, 400)),
    min_size=1,
    max_size=6,
)


@given(SPECS, st.integers(0, 300))
def test_any_range_gives_exactly_the_bytes_of_a_slice(specs: list[str], size: int) -> None:
    header = "bytes=" + ",".join(specs)
    with tempfile.TemporaryDirectory() as folder:
        path = write_old(Path(folder) / "a.bin", CONTENT[:size])

        async def ask() -> Reply:
            return await get(FileResponse(path), range=header)

        reply = anyio.run(ask)
    ranges = parse_ranges(header, size)
    if ranges is None:
        assert (reply.status, reply.body) == (200, CONTENT[:size])
    elif not ranges:
        assert reply.status == 416
    elif len(ranges) == 1:
        assert reply.body == CONTENT[ranges[0].start : ranges[0].stop]
    else:
        slices = [CONTENT[one.start : one.stop] for one in ranges]
        assert [body for _, body in parts_of(reply)] == slices
        assert reply.headers["content-length"] == str(len(reply.body))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60))
def test_no_range_header_makes_an_error(header: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_old(Path(folder) / "a.bin", CONTENT[:100])

        async def ask() -> Reply:
            return await get(FileResponse(path), range=header)

        assert anyio.run(ask).status in (200, 206, 416)


# Conditions


async def test_a_client_that_has_the_file_gets_304(path: Path) -> None:
    response = FileResponse(
        path,
        filename="a.mp4",
        cache_control="max-age=60",
        headers={"x-own": "kept", "content-language": "en", "content-location": "/a"},
    )
    etag = (await get(response)).headers["etag"]
    async with no_leaks():
        reply = await get(response, if_none_match=f'"other", {etag}')
    assert (reply.status, reply.body) == (304, b"")
    assert dict(reply.headers) == {
        "etag": etag,
        "cache-control": "max-age=60",
        "content-location": "/a",
        "x-own": "kept",
    }
    assert (await get(response, "HEAD", if_none_match=etag)).status == 304
    assert (await get(response, if_modified_since=format_date(LONG_AGO))).status == 304
    assert (await get(response, if_modified_since=format_date(LONG_AGO - 1))).status == 200


async def test_a_304_names_the_etag_as_the_client_has_it(path: Path) -> None:
    response = FileResponse(path)
    etag = (await get(response)).headers["etag"]
    named = {f"W/{etag}": f"W/{etag}", f"W/{etag}, {etag}": etag, f'W/"other", {etag}': etag}
    for condition, told in {**named, "*": etag}.items():
        reply = await get(response, if_none_match=condition)
        assert (reply.status, reply.headers["etag"]) == (304, told)


@pytest.mark.parametrize("size", [3_000, 3_000_000])
async def test_what_a_middleware_compresses_has_a_weak_etag(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.txt").write_bytes(b"the same words\n" * (size // 15))
    plain = FileResponse(tmp_path / "a.txt")
    app = GZipMiddleware(plain)
    etag = (await get(plain)).headers["etag"]
    packed = await get(app, accept_encoding="gzip")
    assert gzip.decompress(packed.body) == (tmp_path / "a.txt").read_bytes()
    assert packed.headers["etag"] == f"W/{etag}"
    assert "accept-ranges" not in packed.headers
    # What is sent plain keeps the strong one: parts, and all for a client that takes no coding.
    assert (await get(app, accept_encoding="identity")).headers["etag"] == etag
    part = await get(app, accept_encoding="gzip", range="bytes=10-2009", if_range=etag)
    assert (part.status, part.headers["etag"]) == (206, etag)
    assert part.body == (tmp_path / "a.txt").read_bytes()[10:2010]
    # A part of the plain bytes does not fit behind encoded ones.
    whole = await get(app, accept_encoding="gzip", range="bytes=10-2009", if_range=f"W/{etag}")
    assert whole.status == 200
    fresh = await get(app, accept_encoding="gzip", if_none_match=f"W/{etag}")
    assert (fresh.status, fresh.headers["etag"]) == (304, f"W/{etag}")


async def test_a_response_that_was_compressed_by_a_middleware_is_sent_again_plain(
    path: Path,
) -> None:
    response = FileResponse(path, media_type="text/plain")
    before = await get(response)
    assert (
        "content-encoding" in (await get(GZipMiddleware(response), accept_encoding="gzip")).headers
    )
    assert (await get(response)).headers == before.headers


@pytest.mark.parametrize(
    ("asked", "status", "kept"),
    [
        ({}, 200, {"content-digest", "repr-digest"}),
        ({"range": "bytes=0-9"}, 206, {"repr-digest"}),
        ({"range": "bytes=0-1,900000-900001"}, 206, {"repr-digest"}),
        ({"range": "bytes=9000000-"}, 416, set()),
        ({"if_match": '"another"'}, 412, set()),
    ],
)
async def test_a_digest_is_sent_with_the_bytes_that_it_is_of(
    tmp_path: Path, asked: dict[str, str], status: int, kept: set[str]
) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(1_000_000))
    names = ("content-digest", "repr-digest")
    response = FileResponse(path, headers=dict.fromkeys(names, "sha-256=:AA==:"))
    reply = await get(response, **asked)
    assert (reply.status, {name for name in names if name in reply.headers}) == (status, kept)


async def test_a_condition_that_fails_is_412(path: Path) -> None:
    async with no_leaks():
        reply = await get(FileResponse(path), if_match='"other"', range="bytes=0-9")
    assert reply.status == 412
    assert reply.body == b"Precondition Failed"
    reply = await get(FileResponse(path), if_unmodified_since=format_date(LONG_AGO - 1))
    assert reply.status == 412
    assert (await get(FileResponse(path), "HEAD", if_match='"other"')).body == b""


async def test_a_download_goes_on_only_with_the_same_file(path: Path) -> None:
    response = FileResponse(path)
    etag = (await get(response)).headers["etag"]
    part = await get(response, range="bytes=100000-", if_range=etag)
    assert (part.status, part.body) == (206, CONTENT[100_000:])
    part = await get(response, range="bytes=100000-", if_range=format_date(LONG_AGO))
    assert (part.status, part.body) == (206, CONTENT[100_000:])
    write_old(path, b"something else")
    whole = await get(response, range="bytes=100000-", if_range=etag)
    assert (whole.status, whole.body) == (200, b"something else")


async def test_an_applications_own_validators_take_the_place_of_ours(path: Path) -> None:
    own = {"etag": '"mine"', "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT"}
    response = FileResponse(path, headers=own)
    reply = await get(response)
    assert {name: reply.headers[name] for name in own} == own
    assert (await get(response, if_none_match='"mine"')).status == 304
    assert (await get(response, if_modified_since=own["last-modified"])).status == 304
    assert (await get(response, range="bytes=0-9", if_range='"mine"')).status == 206


async def test_a_weak_etag_of_the_applications_never_continues_a_download(path: Path) -> None:
    response = FileResponse(path, headers={"etag": 'W/"mine"'})
    assert (await get(response, range="bytes=0-9", if_range='W/"mine"')).status == 200


async def test_several_lines_of_one_header_count_as_one_list(path: Path) -> None:
    response = FileResponse(path, headers={"etag": '"mine"'})
    lines = [("if-none-match", '"other"'), ("if-none-match", '"mine"')]
    async with Client(response) as client, client.open("GET", "/", headers=lines) as exchange:
        assert (await exchange.response()).status == 304


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_the_answer_to_another_method_is_the_whole_file(path: Path, method: str) -> None:
    reply = await get(FileResponse(path), method, range="bytes=0-9", if_match='"x"')
    assert (reply.status, reply.body) == (200, CONTENT)


# Headers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.csv.gz", "application/gzip"),
        ("a.tar.xz", "application/x-xz"),
        ("a.unheard-of", "application/octet-stream"),
    ],
)
async def test_the_media_type_is_that_of_the_bytes(
    tmp_path: Path, name: str, expected: str
) -> None:
    path = write_old(tmp_path / name, b"x")
    assert (await get(FileResponse(path))).headers["content-type"] == expected


async def test_the_name_for_the_client_is_sent_safely(path: Path) -> None:
    reply = await get(FileResponse(path, filename='Grüße\r\nx: "y".mp4'))
    assert reply.headers["content-disposition"] == (
        'attachment; filename="Gru_e__x: _y_.mp4"; '
        "filename*=UTF-8''Gr%C3%BC%C3%9Fe__x%3A%20%22y%22.mp4"
    )
    inline = FileResponse(path, filename="a.mp4", content_disposition_type="inline")
    assert (await get(inline)).headers["content-disposition"] == 'inline; filename="a.mp4"'


async def test_cache_control_is_sent(path: Path) -> None:
    reply = await get(FileResponse(path, cache_control="public, max-age=60"))
    assert reply.headers["cache-control"] == "public, max-age=60"


def test_a_cache_control_that_breaks_the_header_is_refused(path: Path) -> None:
    with pytest.raises(InvalidOption, match="cache_control"):
        FileResponse(path, cache_control="no-store\r\nset-cookie: a=b")


def test_a_stat_result_fills_the_headers_at_once(path: Path) -> None:
    response = FileResponse(path, stat_result=path.stat())
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["etag"]


async def test_a_stat_result_that_has_become_stale_is_not_believed(path: Path) -> None:
    response = FileResponse(path, stat_result=path.stat())
    stale = response.headers["etag"]
    path.write_bytes(b"shorter")
    reply = await get(response)
    assert reply.body == b"shorter"
    assert reply.headers["content-length"] == "7"
    assert reply.headers["etag"] != stale


# Around it


async def test_a_file_that_is_not_there_is_an_error_before_the_response(tmp_path: Path) -> None:
    async with Client(FileResponse(tmp_path / "missing")) as client:
        async with client.open("GET", "/") as exchange:
            with pytest.raises(RuntimeError, match="does not exist") as error:
                await exchange.response()
    assert isinstance(error.value, FileUnavailable)


async def test_a_directory_is_an_error_before_the_response(tmp_path: Path) -> None:
    async with Client(FileResponse(tmp_path)) as client, client.open("GET", "/") as exchange:
        with pytest.raises(RuntimeError, match="is not a file"):
            await exchange.response()


@pytest.mark.parametrize(
    "headers", [{}, {"if_match": '"x"'}, {"if_none_match": "*"}, {"range": "bytes=9999999-"}]
)
async def test_the_background_task_runs_whatever_was_answered(
    path: Path, headers: dict[str, str]
) -> None:
    ran: list[bool] = []
    await get(FileResponse(path, background=BackgroundTask(ran.append, True)), **headers)
    assert ran == [True]


async def test_a_file_that_the_background_task_deletes_is_sent_first(path: Path) -> None:
    reply = await get(FileResponse(path, background=BackgroundTask(path.unlink)))
    assert reply.body == CONTENT
    assert not path.exists()


async def test_the_file_is_closed_when_the_client_leaves(path: Path) -> None:
    path.write_bytes(CONTENT * 10)
    async with no_leaks():
        async with Client(FileResponse(path)) as client:
            async with client.open("GET", "/", leave_at=100_000) as exchange:
                assert await exchange.read_all() == CONTENT[:100_000]
                assert (await exchange.finished()).error is None


async def test_a_transfer_is_counted_with_the_streams(path: Path) -> None:
    before = stats()
    await get(FileResponse(path))
    assert stats().complete == before.complete + 1
    assert stats().bytes_sent == before.bytes_sent + SIZE


async def test_the_applications_options_count(path: Path) -> None:
    app = Starlette(routes=[Route("/", lambda request: FileResponse(path))])
    app.state.stream_options = StreamOptions(max_batch_bytes=1024)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read_all()
        assert max(len(sent.body) for sent in exchange.sends) <= 1024


async def test_fastapi_sends_it_from_an_endpoint(path: Path) -> None:
    app = FastAPI()

    @app.get("/")
    def film() -> Any:
        return tailrace.FileResponse(path)

    @app.get("/class", response_class=tailrace.FileResponse)
    def film_by_class() -> Any:
        return str(path)

    assert (await get(app, range="bytes=0-9")).body == CONTENT[:10]
    async with Client(app) as client, client.open("GET", "/class") as exchange:
        assert await exchange.read_all() == CONTENT


async def test_starlettes_static_files_are_not_changed_by_ours(path: Path) -> None:
    app = Starlette(routes=[Mount("/", StaticFiles(directory=path.parent))])
    async with Client(app) as client, client.open("GET", "/film.mp4") as exchange:
        assert await exchange.read_all() == CONTENT


async def test_a_denied_websocket_gets_the_file_as_its_answer(path: Path) -> None:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is asked of a WebSocket that is denied")

    await FileResponse(path, status_code=403)({"type": "websocket", "headers": []}, receive, send)
    assert messages[0]["type"] == "websocket.http.response.start"
    assert messages[0]["status"] == 403
    assert b"".join(message.get("body", b"") for message in messages[1:]) == CONTENT


async def test_what_is_neither_a_path_nor_a_range_source_is_refused() -> None:
    with pytest.raises(TypeError, match="RangeSource"):
        FileResponse(42)  # type: ignore[arg-type] # the point of it


# Files that were compressed beforehand


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = write_old(tmp_path / "page.html", b"plain")
    for suffix in (".zst", ".br", ".gz"):
        write_old(tmp_path / f"page.html{suffix}", b"made by " + suffix.encode())
    return page


@pytest.mark.parametrize(
    ("accept_encoding", "encoding", "body"),
    [
        ("gzip, deflate, br, zstd", "zstd", b"made by .zst"),
        ("gzip, br", "br", b"made by .br"),
        ("gzip", "gzip", b"made by .gz"),
        ("br;q=0.5, gzip", "gzip", b"made by .gz"),
        ("identity", None, b"plain"),
        ("br;q=0", None, b"plain"),
        ("deflate", None, b"plain"),
    ],
)
async def test_the_compressed_file_that_the_client_likes_best_is_sent(
    page: Path, accept_encoding: str, encoding: str | None, body: bytes
) -> None:
    async with no_leaks():
        reply = await get(FileResponse(page, precompressed=True), accept_encoding=accept_encoding)
    assert reply.body == body
    assert reply.headers.get("content-encoding") == encoding
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-length"] == str(len(body))
    assert reply.headers["vary"] == "accept-encoding"


async def test_each_coding_has_an_etag_of_its_own_and_conditions_go_by_it(page: Path) -> None:
    response = FileResponse(page, precompressed=True)
    etags = {}
    for name in ("zstd", "br", "gzip", "identity"):
        etags[name] = (await get(response, accept_encoding=name)).headers["etag"]
    assert len(set(etags.values())) == 4
    for (asked, _), (_, etag) in itertools.product(etags.items(), repeat=2):
        reply = await get(response, accept_encoding=asked, if_none_match=etag)
        assert reply.status == (304 if etag == etags[asked] else 200)
        assert reply.headers["vary"] == "accept-encoding"


async def test_a_range_of_a_compressed_file_is_of_its_own_bytes(page: Path) -> None:
    response = FileResponse(page, precompressed=True)
    reply = await get(response, accept_encoding="br", range="bytes=5-6")
    assert (reply.status, reply.body) == (206, b"by")
    assert reply.headers["content-encoding"] == "br"


async def test_a_compressed_file_that_is_older_than_the_plain_one_is_passed_over(
    page: Path,
) -> None:
    os.utime(page, (LONG_AGO + 5, LONG_AGO + 5))
    reply = await get(FileResponse(page, precompressed=True), accept_encoding="br, gzip")
    assert (reply.body, reply.headers.get("content-encoding")) == (b"plain", None)
    assert reply.headers["vary"] == "accept-encoding"


async def test_a_compressed_file_that_is_missing_or_no_file_is_passed_over(page: Path) -> None:
    page.with_name("page.html.zst").unlink()
    page.with_name("page.html.br").unlink()
    page.with_name("page.html.br").mkdir()
    reply = await get(FileResponse(page, precompressed=True), accept_encoding="zstd, br, gzip")
    assert reply.headers["content-encoding"] == "gzip"


async def test_compressed_files_are_not_looked_for_unless_asked_for(page: Path) -> None:
    reply = await get(FileResponse(page), accept_encoding="br")
    assert reply.body == b"plain"
    assert "vary" not in reply.headers


async def test_a_compressed_file_without_the_plain_one_is_not_found(page: Path) -> None:
    page.unlink()
    async with Client(FileResponse(page, precompressed=True)) as client:
        async with client.open("GET", "/", headers={"accept-encoding": "br"}) as exchange:
            with pytest.raises(FileUnavailable):
                await exchange.response()


async def test_an_opener_opens_the_compressed_files_too(page: Path) -> None:
    folder = os.open(page.parent, os.O_RDONLY)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=folder)

    response = FileResponse("page.html", precompressed=True, opener=opener)
    assert (await get(response, accept_encoding="br")).body == b"made by .br"
    os.close(folder)
