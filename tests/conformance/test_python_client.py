"""The Python client durable-streams against `tailrace serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import httpx
import pytest
from durable_streams import (
    AsyncDurableStream,
    DurableStream,
    SeqConflictError,
    StreamExistsError,
    StreamNotFoundError,
)

pytestmark = pytest.mark.slow

MANY = 100
JSON = "application/json"

NewUrl = Callable[[], str]
Live = Literal["long-poll", "sse"]
live = pytest.mark.parametrize("mode", ["long-poll", "sse"])


@pytest.fixture
def numbers(new_url: NewUrl) -> Iterator[DurableStream]:
    """A JSON stream of its own."""
    with DurableStream.create(new_url(), content_type=JSON) as stream:
        yield stream


def everything(stream: DurableStream) -> list[Any]:
    with stream.stream(live=False) as read:
        items = read.read_json()
        assert read.up_to_date
        return items


def test_what_is_appended_is_read_in_order(numbers: DurableStream) -> None:
    last = [numbers.append({"n": n}) for n in range(5)][-1]
    assert everything(numbers) == [{"n": n} for n in range(5)]
    head = numbers.head()
    assert (head.offset, head.content_type) == (last.next_offset, JSON)


def test_bytes_arrive_as_they_are(new_url: NewUrl) -> None:
    sent = bytes(range(256)) * 400
    with DurableStream.create(new_url(), content_type="application/octet-stream") as stream:
        for at in range(0, len(sent), 10_000):
            stream.append(sent[at : at + 10_000])
        with stream.stream(live=False) as read:
            assert read.read_bytes() == sent


def test_threads_that_append_at_once_lose_nothing(numbers: DurableStream) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(numbers.append, range(MANY)))
    assert sorted(everything(numbers)) == [*range(MANY)]


@live
def test_a_tail_gets_each_message_once(numbers: DurableStream, mode: Live) -> None:
    with (
        ThreadPoolExecutor(1) as pool,
        DurableStream(numbers.url, content_type=JSON) as writer,
        numbers.stream(offset="-1", live=mode) as read,
    ):
        written = pool.submit(lambda: [writer.append(n) for n in range(MANY)])
        got: list[int] = []
        for event in read.iter_events(mode="json"):
            got += event.data
            if len(got) >= MANY:
                break
        assert got == [*range(MANY)]
        assert event.next_offset == written.result()[-1].next_offset


def test_a_tail_waits_on_after_a_long_poll_that_brought_nothing(new_url: NewUrl) -> None:
    url = new_url()
    empty = 0

    def wake(answer: httpx.Response) -> None:
        nonlocal empty
        if answer.status_code == 204:
            empty += 1
            writer.append("awake")

    with (
        DurableStream.create(url, content_type=JSON) as writer,
        httpx.Client(event_hooks={"response": [wake]}) as client,
        DurableStream(url, content_type=JSON, client=client) as reader,
        reader.stream(offset="now", live="long-poll") as read,
    ):
        assert next(read.iter_json()) == "awake"
        assert empty == 1


@live
def test_a_reader_resumes_from_its_offset(numbers: DurableStream, mode: Live) -> None:
    for n in range(10):
        numbers.append(n)
    with numbers.stream(live=False) as read:
        assert read.read_json() == [*range(10)]
        offset = read.offset
    for n in range(10, 20):
        numbers.append(n)
    got: list[int] = []
    with numbers.stream(offset=offset, live=mode) as read:
        for items in read.iter_json_batches():
            got += items
            if len(got) >= 10:
                break
    assert got == [*range(10, 20)]


def test_text_with_every_line_end_comes_through_sse_whole(new_url: NewUrl) -> None:
    with DurableStream.create(new_url(), content_type="text/plain") as stream:
        stream.append("Grüße\n\nevent: control\ndata: {}\n\nund Schluss")
        httpx.post(stream.url, headers={"stream-closed": "true"}).raise_for_status()
        with stream.stream(offset="-1", live="sse") as read:
            assert "".join(read.iter_text()) == "Grüße\n\nevent: control\ndata: {}\n\nund Schluss"


def test_a_tail_through_sse_ends_when_the_stream_is_closed(numbers: DurableStream) -> None:
    numbers.append("only")
    got = []
    with numbers.stream(offset="-1", live="sse") as read:
        for item in read.iter_json():
            got.append(item)
            # This client cannot close a stream; it sees the end of one.
            httpx.post(numbers.url, headers={"stream-closed": "true"}).raise_for_status()
    assert got == ["only"]


def test_a_writer_out_of_order_is_told(numbers: DurableStream) -> None:
    numbers.append(1, seq="b")
    with pytest.raises(SeqConflictError):
        numbers.append(2, seq="a")
    assert everything(numbers) == [1]


def test_a_stream_of_another_type_is_not_made_anew(numbers: DurableStream) -> None:
    with pytest.raises(StreamExistsError):
        DurableStream.create(numbers.url, content_type="text/plain")


def test_a_stream_that_was_deleted_is_not_found(numbers: DurableStream) -> None:
    numbers.delete()
    with pytest.raises(StreamNotFoundError):
        numbers.head()


def test_a_body_that_is_no_json_is_refused(numbers: DurableStream) -> None:
    with DurableStream(numbers.url, content_type="text/plain") as wrong:
        with pytest.raises(SeqConflictError):  # its name for every 409
            wrong.append("no")
    answer = httpx.post(numbers.url, content=b"{no", headers={"content-type": JSON})
    assert answer.status_code == 400
    assert everything(numbers) == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # it knows no other
@live
async def test_the_asynchronous_client_tails_as_well(new_url: NewUrl, mode: Live) -> None:
    async with await AsyncDurableStream.create(new_url(), content_type=JSON) as stream:
        await stream.append(0)
        got: list[int] = []
        async with stream.stream(offset="-1", live=mode) as read:
            async for item in read.iter_json():
                got.append(item)
                if len(got) == 20:
                    break
                await stream.append(len(got))
        assert got == [*range(20)]
