"""The tour's endpoints, called in this process on a clock that stands still until it is moved."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tailrace.app import create_tour
from tailrace.app.tour import STATIC
from tailrace.testing import Client, Clock

pytestmark = pytest.mark.anyio

ENDPOINTS = [
    *("/stream", "/numbers", "/file", "/progress", "/ticker", "/camera", "/rows"),
    *("/report", "/chat"),
]
VISITOR = "5e0c7a52-6f0f-4f5e-9d0e-0f6c1d9a7b11"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def sizes(folder: Path) -> list[int]:
    return [file.stat().st_size for file in folder.rglob("*") if file.is_file()]


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


@asynccontextmanager
async def visiting() -> AsyncIterator[tuple[Client, Clock]]:
    with Clock() as clock:
        async with Client(create_tour(), lifespan=True) as client:
            yield client, clock


async def get(path: str, *, seconds: float = 0, **headers: str) -> tuple[int, bytes]:
    """The status and the whole body of what ends within so many seconds."""
    async with visiting() as (client, clock):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.open("GET", path, headers=named) as exchange:
            await clock.advance(seconds)
            status = (await exchange.response()).status
            return status, await exchange.read_all()


async def test_stream_says_each_word_at_its_time() -> None:
    async with visiting() as (client, clock), client.open("GET", "/stream") as exchange:
        heard = []
        for _ in range(3):
            heard.append((clock.time, await exchange.read()))
            await clock.advance(0.6)
        assert heard == [(0.0, b"Hello "), (0.6, b"from "), (1.2, b"FastAPI!")]
        assert await exchange.read() == b""


async def test_numbers_are_five_lines() -> None:
    assert await get("/numbers") == (200, b"Number 1\nNumber 2\nNumber 3\nNumber 4\nNumber 5\n")


async def test_numbers_are_as_many_as_asked_for() -> None:
    _, body = await get("/numbers?count=20000")
    assert body == b"".join(b"Number %d\n" % number for number in range(1, 20_001))


@pytest.mark.parametrize("count", ["0", "-1", "1000001", "many", ""])
async def test_a_count_out_of_its_range_is_refused(count: str) -> None:
    status, body = await get(f"/numbers?count={count}")
    assert status == 422
    assert b'"count"' in body


async def test_the_file_arrives_whole() -> None:
    status, body = await get("/file")
    lines = body.splitlines()
    assert status == 200
    assert len(lines) == 20_000
    assert lines[-1] == b"This is line 20000 of 20000 in a file."


async def test_the_file_is_removed_at_the_end(temporary_folder: Path) -> None:
    async with visiting():
        assert sizes(temporary_folder) == [780_000]
    assert names(temporary_folder) == []


async def test_progress_takes_ten_seconds_and_ends_with_done() -> None:
    async with visiting() as (client, clock), client.open("GET", "/progress") as exchange:
        first = await exchange.event()
        assert first is not None
        assert first.json() == {
            "percent": 0,
            "message": "Gathering the figures",
            "seconds_left": 10.0,
        }
        await clock.advance(9.95)
        events = [await exchange.event() for _ in range(99)]
        assert [event and event.json()["percent"] for event in events] == list(range(1, 100))
        await clock.advance(0.1)
        last = await exchange.event()
        assert last is not None
        assert (last.event, last.json()["percent"]) == ("done", 100)
        assert await exchange.event() is None


async def test_the_ticker_counts_its_prices() -> None:
    async with visiting() as (client, clock), client.open("GET", "/ticker") as exchange:
        await clock.advance(1.0)
        events = [event async for event in exchange.events(leave_after=3)]
        assert [event.id for event in events] == ["1", "2", "3"]
        assert all(50 < event.json()["price"] < 200 for event in events)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/ticker", {"last-event-id": "41"}),
        ("/ticker?after=41", {}),
        ("/ticker?after=20", {"last-event-id": "41"}),
    ],
)
async def test_the_ticker_goes_on_after_the_last_event_that_a_client_saw(
    path: str, headers: dict[str, str]
) -> None:
    async with visiting() as (client, _):
        async with client.open("GET", path, headers=headers) as exchange:
            event = await exchange.event()
            assert event is not None
            assert event.id == "42"


async def test_the_ticker_ends_when_its_client_leaves() -> None:
    async with visiting() as (client, _), client.open("GET", "/ticker") as exchange:
        await exchange.event()
        await exchange.leave()
        assert (await exchange.finished()).error is None


@pytest.mark.parametrize("last", ["-1", "x", "1.5"])
async def test_an_event_id_that_is_none_of_the_tickers_begins_anew(last: str) -> None:
    headers = {"last-event-id": last}
    async with (
        visiting() as (client, _),
        client.open("GET", "/ticker", headers=headers) as exchange,
    ):
        event = await exchange.event()
        assert event is not None
        assert event.id == "1"


async def test_the_camera_sends_a_jpeg_ten_times_a_second() -> None:
    async with visiting() as (client, clock), client.open("GET", "/camera") as exchange:
        kind = (await exchange.response()).headers["content-type"]
        await clock.advance(0.95)
        body = await exchange.read()
        pictures = re.findall(rb"\r\n\r\n\xff\xd8.*?\xff\xd9\r\n--", body, re.DOTALL)
        assert kind.startswith("multipart/x-mixed-replace; boundary=")
        assert b"Content-Type: image/jpeg\r\n" in body
        assert len(pictures) == 10


@pytest.mark.parametrize(
    ("accept", "begins"),
    [
        ("application/jsonl", b'{"number":1,"square":1,"cube":1}\n{"number":2,'),
        ("text/event-stream", b'data: {"number":1,"square":1,"cube":1}\n\ndata: {"number":2,'),
        ("text/csv", b"number,square,cube\r\n1,1,1\r\n2,4,8\r\n"),
    ],
)
async def test_rows_come_in_the_format_that_accept_names(accept: str, begins: bytes) -> None:
    status, body = await get("/rows", seconds=2, accept=accept)
    assert status == 200
    assert body.startswith(begins)


async def test_rows_as_json_are_one_array() -> None:
    _, body = await get("/rows", seconds=2, accept="application/json")
    assert json.loads(body) == [
        {"number": number, "square": number**2, "cube": number**3} for number in range(1, 9)
    ]


async def test_rows_in_a_format_that_there_is_not_are_refused() -> None:
    status, body = await get("/rows", accept="image/png")
    assert status == 406
    assert b"text/csv" in body


async def test_a_report_goes_on_while_nobody_reads_it() -> None:
    path = f"/report/{VISITOR}"
    events = {"accept": "text/event-stream"}
    async with visiting() as (client, clock):
        async with client.open("GET", path, headers=events) as exchange:
            await clock.advance(0.15)
            first = await exchange.event()
            assert first is not None
            assert (first.event, first.json()["message"]) == ("progress", "Page 1 is written")
        await clock.advance(30)
        headers = {**events, "last-event-id": str(first.id)}
        async with client.open("GET", path, headers=headers) as exchange:
            rest = [event async for event in exchange.events()]
    numbers = [event.json()["done"] for event in rest if event.event == "progress"]
    assert numbers[0] > 1  # some are thinned: time runs faster here than on its clock
    assert numbers == sorted(numbers)
    assert numbers[-1] == 240
    assert rest[-1].event == "end"


async def test_a_chat_keeps_its_questions_and_answers() -> None:
    async with visiting() as (client, clock):
        path = f"/chat/{VISITOR}"
        body = b'{"question":"What becomes of a slow reader?"}'
        headers = {"content-type": "application/json"}
        async with client.open("POST", path, headers=headers, body=body) as exchange:
            assert (await exchange.response()).status == 202
        await clock.advance(60)
        async with client.open("GET", path) as exchange:
            (turn,) = json.loads(await exchange.read_all())
        assert turn["question"] == "What becomes of a slow reader?"
        events = {"accept": "text/event-stream"}
        async with client.open("GET", f"/answers/{turn['answer']}", headers=events) as exchange:
            told = [event async for event in exchange.events()]
    text = "".join(event.data for event in told if event.event == "message")
    assert text.startswith("A slow reader costs nothing but its socket.")
    assert told[-1].event == "end"


async def test_a_chat_that_has_not_begun_is_empty() -> None:
    assert await get(f"/chat/{VISITOR}") == (200, b"[]")


@pytest.mark.parametrize("question", ["", "x" * 201])
async def test_a_question_without_or_with_too_many_words_is_refused(question: str) -> None:
    async with visiting() as (client, _):
        body = json.dumps({"question": question}).encode()
        headers = {"content-type": "application/json"}
        path = f"/chat/{VISITOR}"
        async with client.open("POST", path, headers=headers, body=body) as exchange:
            assert (await exchange.response()).status == 422


async def test_the_page_shows_every_endpoint() -> None:
    status, page = await get("/")
    assert status == 200
    assert re.findall(r'data-path="([^"]+)"', page.decode()) == ENDPOINTS


async def test_the_page_may_load_only_what_this_server_has() -> None:
    async with visiting() as (client, _), client.open("GET", "/") as exchange:
        policy = (await exchange.response()).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert set(re.findall(r"-src (\S+?)(?:;|$)", policy)) == {"'none'", "'self'"}


def named_by_the_page() -> list[str]:
    page = (STATIC / "index.html").read_text()
    return re.findall(r'(?:src|href)="([^"]+)"', page)


@pytest.mark.parametrize("path", named_by_the_page())
async def test_what_the_page_names_is_served(path: str) -> None:
    status, body = await get(path)
    assert status == 200
    assert body


async def test_the_code_that_is_shown_is_the_code_that_runs() -> None:
    status, code = await get("/tour.py")
    assert status == 200
    for path in ENDPOINTS:
        assert f'@router.get("{path}'.encode() in code


async def test_openapi_tells_what_the_events_carry() -> None:
    _, body = await get("/openapi.json")
    described = json.loads(body)
    ticker = described["paths"]["/ticker"]["get"]["responses"]["200"]["content"]
    assert "#/components/schemas/Price" in json.dumps(ticker["text/event-stream"])
