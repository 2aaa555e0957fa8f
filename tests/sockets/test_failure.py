"""A source that fails, over real sockets: under every server the client can tell."""

from __future__ import annotations

import json

import pytest

from tailrace.testing import EventParser
from tests.apps.live import CHUNK, ITEMS, SECRET
from tests.sockets.live_server import LiveServer, new_key

PROBLEM = {"code": "stream_failed", "message": "the stream failed before its end"}


def test_json_lines_that_fail_end_with_a_line_that_says_so(live: LiveServer, style: str) -> None:
    key = new_key()
    reply = live.request(f"/{style}/fails/jsonl?key={key}")
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert lines == [*({"n": n} for n in range(ITEMS)), {"error": PROBLEM}]
    assert reply.body.endswith(b"\n")
    assert not reply.complete
    assert SECRET.encode() not in reply.body
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_events_that_fail_end_with_an_error_event(live: LiveServer, style: str) -> None:
    key = new_key()
    reply = live.request(f"/{style}/fails/sse?key={key}")
    parser = EventParser()
    *events, last = parser.feed(reply.body)
    assert [json.loads(event.data) for event in events] == [{"n": n} for n in range(ITEMS)]
    assert (last.event, json.loads(last.data)) == ("error", {"error": PROBLEM})
    assert not reply.complete
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


@pytest.mark.parametrize("form", ["jsonl", "sse"])
def test_a_source_that_exits_ends_its_own_response_and_not_the_server(
    live: LiveServer, style: str, form: str
) -> None:
    key = new_key()
    reply = live.request(f"/{style}/exits/{form}?key={key}")
    assert b"source_exited" in reply.body
    assert not reply.complete
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]
    assert live.request("/quick").status == 200


def test_a_raw_body_that_fails_is_whole_up_to_there_and_cut(live: LiveServer, style: str) -> None:
    reply = live.request(f"/{style}/fails/raw?key={new_key()}")
    assert reply.status == 200
    assert reply.body == CHUNK * ITEMS
    assert not reply.complete


def test_a_refusal_before_the_first_item_has_its_own_status(live: LiveServer, style: str) -> None:
    key = new_key()
    reply = live.request(f"/{style}/forbidden?key={key}&items=0")
    assert (reply.status, reply.complete) == (403, True)
    assert json.loads(reply.body) == {"detail": "Forbidden"}
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_a_refusal_after_the_first_item_is_an_error_tail_and_a_cut(
    live: LiveServer, style: str
) -> None:
    reply = live.request(f"/{style}/forbidden?key={new_key()}&items=1")
    assert reply.status == 200
    assert [json.loads(line) for line in reply.body.splitlines()] == [{"n": 0}, {"error": PROBLEM}]
    assert not reply.complete


def test_an_error_is_logged_with_its_traceback(uvicorn: LiveServer, style: str) -> None:
    before = uvicorn.server.log.count(SECRET)
    key = new_key()
    uvicorn.request(f"/{style}/fails/jsonl?key={key}")
    uvicorn.wait_for(key, "returned")
    uvicorn.request("/quick")  # uvicorn logs the error before it serves this
    log = uvicorn.server.log
    assert log.count(SECRET) > before
    assert "make_or_fail" in log
