"""`RangeSource`: bytes that are no file, with all that a file response does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

from tailrace import FileResponse, RangeSource
from tailrace.errors import InvalidChunk, InvalidOption, WrongLength
from tailrace.semantics import format_date
from tailrace.testing import Client, SourceProbe, Truncated, no_leaks, wait_until
from tests.responses.files import LONG_AGO, get, parts_of

pytestmark = pytest.mark.anyio

CONTENT = bytes(at % 251 for at in range(300_000))


class Remote:
    """Bytes by sync iterables, in chunks of 10,000."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.probes: list[SourceProbe] = []

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, start: int, stop: int) -> Iterable[bytes]:
        self.asked.append((start, stop))
        return self.chunks(start, stop)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        self.probes.append(SourceProbe())
        with self.probes[-1].inside():
            for at in range(start, stop, 10_000):
                yield self.content[at : min(at + 10_000, stop)]


class AsyncRemote(Remote):
    """The same by async iterables."""

    def read(self, start: int, stop: int) -> Any:
        self.asked.append((start, stop))
        return self.async_chunks(start, stop)

    async def async_chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        self.probes.append(SourceProbe())
        with self.probes[-1].inside():
            for at in range(start, stop, 10_000):
                yield self.content[at : min(at + 10_000, stop)]


KINDS = pytest.mark.parametrize("kind", [Remote, AsyncRemote])


class Dated(Remote):
    """With what tells one state from another."""

    etag = "v1"
    last_modified = float(LONG_AGO)


def test_what_has_a_size_and_can_be_read_is_a_range_source() -> None:
    assert isinstance(Remote(), RangeSource)
    assert not isinstance(b"bytes", RangeSource)


@KINDS
async def test_a_range_source_is_sent_whole(kind: type[Remote]) -> None:
    remote = kind()
    async with no_leaks():
        reply = await get(FileResponse(remote, media_type="video/mp4", filename="a.mp4"))
    assert (reply.status, reply.body) == (200, CONTENT)
    assert reply.headers["content-length"] == str(len(CONTENT))
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.headers["accept-ranges"] == "bytes"
    assert "etag" not in reply.headers
    assert "last-modified" not in reply.headers
    assert remote.asked == [(0, len(CONTENT))]


@KINDS
async def test_only_what_is_sent_is_read(kind: type[Remote]) -> None:
    remote = kind()
    async with no_leaks():
        reply = await get(FileResponse(remote), range="bytes=250000-250999,5-100004")
    assert reply.status == 206
    assert [body for _, body in parts_of(reply)] == [CONTENT[250_000:251_000], CONTENT[5:100_005]]
    assert remote.asked == [(250_000, 251_000), (5, 100_005)]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("GET", {"range": "bytes=300000-"}),
        ("GET", {"if_none_match": '"v1"'}),
        ("GET", {"if_match": '"v2"'}),
    ],
)
async def test_what_has_no_body_reads_nothing(method: str, headers: dict[str, str]) -> None:
    remote = Dated()
    async with no_leaks():
        await get(FileResponse(remote), method, **headers)
    assert remote.asked == []


async def test_its_validators_are_sent_and_judged() -> None:
    response = FileResponse(Dated())
    reply = await get(response)
    assert reply.headers["etag"] == '"v1"'
    assert reply.headers["last-modified"] == format_date(LONG_AGO)
    assert (await get(response, if_none_match='"v1"')).status == 304
    assert (await get(response, if_modified_since=format_date(LONG_AGO))).status == 304
    assert (await get(response, range="bytes=0-9", if_range='"v1"')).status == 206
    assert (await get(response, range="bytes=0-9", if_range='"v0"')).status == 200


async def test_an_etag_with_quotes_stays_as_it_is() -> None:
    remote = Dated()
    remote.etag = 'W/"v1"'
    assert (await get(FileResponse(remote))).headers["etag"] == 'W/"v1"'


@pytest.mark.parametrize("etag", ["a b", 'a"b', "a\r\nx: y"])
async def test_an_etag_that_would_break_the_header_is_refused(etag: str) -> None:
    remote = Dated()
    remote.etag = etag
    async with Client(FileResponse(remote)) as client, client.open("GET", "/") as exchange:
        with pytest.raises(InvalidOption, match="etag"):
            await exchange.response()


@pytest.mark.parametrize("size", [-1, 1.5, "5", None])
async def test_a_size_that_is_none_is_refused(size: Any) -> None:
    class Odd(Remote):
        pass

    setattr(Odd, "size", size)  # noqa: B010 - which mypy knows as a property
    async with Client(FileResponse(Odd())) as client, client.open("GET", "/") as exchange:
        with pytest.raises(InvalidOption, match="size"):
            await exchange.response()


@pytest.mark.parametrize("given", [b"", b"12345", b"1234567890and more"])
async def test_a_source_that_gives_another_number_of_bytes_cuts_the_connection(
    given: bytes,
) -> None:
    class Wrong(Remote):
        size = 10

        def read(self, start: int, stop: int) -> Any:
            return [given] if given else []

    async with no_leaks():
        async with Client(FileResponse(Wrong())) as client, client.open("GET", "/") as exchange:
            with pytest.raises((Truncated, WrongLength)) as cut:
                await exchange.read_all()
    error = cut.value if isinstance(cut.value, WrongLength) else cut.value.__cause__
    assert isinstance(error, WrongLength)
    assert error.given == len(given)


async def test_a_source_that_gives_no_bytes_at_all_is_an_error_of_its_type() -> None:
    class Text(Remote):
        size = 3

        def read(self, start: int, stop: int) -> Any:
            return ["abc"]

    async with Client(FileResponse(Text())) as client, client.open("GET", "/") as exchange:
        with pytest.raises((Truncated, InvalidChunk)):
            await exchange.read_all()


@KINDS
async def test_a_source_is_closed_when_the_client_leaves(kind: type[Remote]) -> None:
    remote = kind(CONTENT * 10)
    async with no_leaks():
        async with Client(FileResponse(remote)) as client:
            async with client.open("GET", "/") as exchange:
                await wait_until(lambda: exchange.blocked)
                await exchange.leave()
                assert (await exchange.finished()).error is None
    assert [probe.closed.is_set() for probe in remote.probes] == [True]


@KINDS
async def test_a_source_that_fails_cuts_the_connection(kind: type[Remote]) -> None:
    class Failing(kind):  # type: ignore[valid-type, misc] # of both kinds
        @property
        def size(self) -> int:
            size: int = super().size
            return size + 10

        def chunks(self, start: int, stop: int) -> Iterator[bytes]:
            yield from super().chunks(start, stop - 10)
            raise ConnectionError("the store is gone")

        async def async_chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
            async for chunk in super().async_chunks(start, stop - 10):
                yield chunk
            raise ConnectionError("the store is gone")

    async with no_leaks():
        async with Client(FileResponse(Failing())) as client:
            async with client.open("GET", "/") as exchange:
                with pytest.raises(Truncated) as cut:
                    await exchange.read_all()
    assert isinstance(cut.value.__cause__, ConnectionError)
