"""The npm client @durable-streams/client against `tailrace serve`: stories of npm_client.mjs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.node import NODE, require

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("npm_client.mjs")
DEADLINE = 30.0
MANY = 200

NewUrl = Callable[[], str]
live = pytest.mark.parametrize("mode", ["long-poll", "sse"])


def told(story: str, url: str, *arguments: str) -> Any:
    """What came of a story."""
    require()
    command: list[str | Path] = [NODE, SCRIPT, story, url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_appended_is_read_in_order(new_url: NewUrl) -> None:
    found = told("appendAndRead", new_url())
    assert found["items"] == [{"n": n} for n in range(21)]
    assert found["offset"] == found["tail"]
    assert found["type"] == "application/json"


def test_bytes_arrive_as_they_are_also_through_sse(new_url: NewUrl) -> None:
    assert told("bytes", new_url()) == {"caughtUp": True, "live": True}


def test_one_long_post_is_one_append(new_url: NewUrl) -> None:
    assert told("oneLongPost", new_url())["text"].split() == [str(n) for n in range(MANY)]


@live
def test_a_tail_gets_each_message_once_and_sees_the_end(new_url: NewUrl, mode: str) -> None:
    found = told("tail", new_url(), mode)
    assert found["items"] == [*range(MANY), "end"]
    assert found["closed"]


@live
def test_a_reader_resumes_from_its_offset(new_url: NewUrl, mode: str) -> None:
    found = told("resume", new_url(), mode)
    assert found == {"before": [*range(10)], "after": [*range(10, 20)], "closed": True}


@live
def test_now_skips_what_is_there(new_url: NewUrl, mode: str) -> None:
    found = told("fromNow", new_url(), mode)
    assert (found["items"], found["closed"]) == (["new"], True)


def test_a_closed_stream_takes_nothing_more(new_url: NewUrl) -> None:
    found = told("close", new_url())
    assert found["items"] == [1, 2]
    assert (found["upToDate"], found["closed"], found["head"]) == (True, True, True)
    assert found["again"] == found["finalOffset"]
    assert found["closeWithBody"]["status"] == found["append"]["status"] == 409


def test_errors_are_those_the_client_knows(new_url: NewUrl) -> None:
    found = told("errors", new_url())
    assert found.pop("there") is False
    statuses = {name: error["status"] for name, error in found.items()}
    assert statuses == {"missing": 404, "exists": 409, "order": 409, "again": 404}


def test_a_producer_with_requests_in_flight_keeps_the_order(new_url: NewUrl) -> None:
    found = told("producer", new_url())
    assert found["items"] == [*range(MANY), "end"]
    assert found["closed"]
    assert found["requests"] > 10


def test_what_a_producer_sends_again_is_stored_once(new_url: NewUrl) -> None:
    found = told("producerThatRetries", new_url())
    assert found["items"] == [*range(MANY), "end"]
    assert found["closed"]
    assert found["lost"] >= 5


def test_a_producer_that_starts_again_fences_the_old_one(new_url: NewUrl) -> None:
    found = told("producerThatRestarts", new_url())
    assert found["items"] == ["old", "new"]
    assert found["epoch"] == 2
    assert found["told"] == {"name": "StaleEpochError", "currentEpoch": 2}
