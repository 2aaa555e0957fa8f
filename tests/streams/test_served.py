"""The design's first example on real servers, two of them on one file."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tailrace.streams import SyncStreams
from tests.servers import RunningServer, ServerName, serve

pytestmark = pytest.mark.slow

EVENTS = {"accept": "text/event-stream"}
PATIENCE = 20.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/streams.db"


@contextmanager
def served(url: str, server: ServerName = "uvicorn-tailrace") -> Iterator[RunningServer]:
    with serve("tests.apps.reports:app", server, env={"STREAMS_URL": url}) as running:
        yield running


def events_of(
    url: str, method: str = "POST", most: int = 10_000, last_event_id: str = ""
) -> list[tuple[str, str, str]]:
    """Event, data and id of each event, up to so many; then the client leaves."""
    events = []
    fields: dict[str, str] = {}
    headers = {**EVENTS, **({"last-event-id": last_event_id} if last_event_id else {})}
    with httpx2.stream(method, url, headers=headers, timeout=PATIENCE) as response:
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                events.append((fields.get("event", "message"), fields["data"], fields["id"]))
                if len(events) == most:
                    break
                fields = {}
    return events


def rows(events: list[tuple[str, str, str]]) -> list[int]:
    return [json.loads(data)["row"] for event, data, _ in events if event == "message"]


def wait_until_closed(streams: SyncStreams, path: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not streams.head(path).closed:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("server", ["uvicorn-tailrace", "uvicorn", "hypercorn-trio"])
def test_a_report_is_run_once_resumed_and_replayed(url: str, server: ServerName) -> None:
    with served(url, server) as running:
        report = f"{running.url}/reports/a"
        first = events_of(report, most=5)
        rest = events_of(report, last_event_id=first[-1][2])
        assert rows(first + rest) == list(range(20))
        assert rest[-1][0] == "end"
        assert [event for event, data, _ in rest if '"state":"done"' in data] == ["progress"]
        whole = events_of(report)
        assert rows(whole) == list(range(20))
        array = httpx2.get(f"{running.url}/v1/stream/reports/a?offset=-1").json()
        assert array[0] == {"row": 0}
        assert array[-1] == {"tailrace": {"end": "done"}}


@pytest.mark.parametrize("policy", ["cancel", "grace"])
def test_a_report_ends_when_its_client_has_left(url: str, policy: str) -> None:
    with served(url) as running, SyncStreams(url) as streams:
        report = f"{running.url}/reports/a?policy={policy}&rows=100000"
        events_of(report, most=3)
        wait_until_closed(streams, "reports/a")
        last = events_of(report)[-1]
        assert last[0] == "error"
        assert json.loads(last[1])["error"]["code"] == "cancelled"


def test_a_reader_on_another_server_is_told_when_the_first_one_is_killed(url: str) -> None:
    with served(url) as one, served(url) as two:
        events_of(f"{one.url}/reports/a?rows=100000", most=2)
        os.kill(one.pid, signal.SIGKILL)
        began = time.monotonic()
        events = events_of(f"{two.url}/reports/a")
        assert time.monotonic() - began < 5
        assert events[-1][0] == "error"
        assert json.loads(events[-1][1])["error"]["code"] == "worker_lost"
        assert rows(events) == list(range(len(rows(events))))


def test_a_report_is_stopped_on_another_server(url: str) -> None:
    with served(url) as one, served(url) as two:
        events_of(f"{one.url}/reports/a?rows=100000", most=2)
        stop = f"{two.url}/v1/stream/__ds/runs/reports/a/stop"
        assert httpx2.post(stop).status_code == 204
        events = events_of(f"{two.url}/reports/a")
        assert json.loads(events[-1][1])["error"]["message"] == "it was stopped"


def test_a_client_on_another_server_keeps_a_report_alive(url: str) -> None:
    with served(url) as one, served(url) as two:
        target = "reports/a?policy=cancel&rows=150"
        with httpx2.stream(
            "POST", f"{one.url}/{target}", headers=EVENTS, timeout=PATIENCE
        ) as first:
            lines_of_first = first.iter_lines()  # forgetting it would close the connection
            next(lines_of_first)
            with httpx2.stream(
                "POST", f"{two.url}/{target}", headers=EVENTS, timeout=PATIENCE
            ) as second:
                lines = second.iter_lines()
                for line in lines:
                    if '"row":20' in line:
                        break
                first.close()
                rest = list(lines)
        assert "event: end" in rest


def test_a_ticker_that_nobody_has_written_yet_is_waited_for(url: str) -> None:
    with served(url) as one, served(url) as two:
        with httpx2.stream(
            "GET", f"{one.url}/ticker", headers=EVENTS, timeout=PATIENCE
        ) as response:
            lines = response.iter_lines()
            assert next(lines) == "retry: 1000"
            httpx2.post(f"{two.url}/ticker?price=3")
            assert next(line for line in lines if line.startswith("data")) == 'data: {"price":3}'
