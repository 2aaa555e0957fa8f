"""Live responses over real sockets, under every server."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from tests import rawhttp
from tests.live.formats import seen_in
from tests.servers import RunningServer, ServerName, serve

pytestmark = pytest.mark.posix  # the servers are ended by signals

APP = "tests.live.app:app"
_names = (f"s{number}" for number in count())


class Served:
    """One stream of a running server."""

    def __init__(self, server: RunningServer, content_type: str = "text/plain") -> None:
        self.server = server
        self.path = f"/{next(_names)}"
        self.ask("PUT", self.path, headers={"content-type": content_type})

    def ask(self, method: str, path: str, body: bytes = b"", **options: Any) -> rawhttp.Reply:
        with self.connect() as connection:
            connection.send(path, method=method, body=body, **options)
            return connection.read_reply()

    def append(self, data: bytes, query: str = "") -> None:
        assert self.ask("POST", self.path + query, data).status == 200

    def connect(self, **options: Any) -> rawhttp.Connection:
        return rawhttp.Connection(self.server.host, self.server.port, **options)

    def read(self, query: str = "", **options: Any) -> rawhttp.Connection:
        connection = self.connect(**options)
        connection.send(self.path + query)
        return connection

    def state(self) -> dict[str, int]:
        state: dict[str, int] = json.loads(self.ask("GET", "/-state").body)
        return state

    def until(self, condition: Callable[[dict[str, int]], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition(self.state()):
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.02)


@pytest.fixture
def served(shared_server: Callable[..., RunningServer], server_name: ServerName) -> Served:
    """A stream under each server in turn."""
    return Served(shared_server(APP, server_name))


@pytest.fixture(params=["uvicorn", "uvicorn-tailrace"])
def passed(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A stream behind a BaseHTTPMiddleware."""
    with serve("tests.live.app:passed", request.param) as server:
        yield Served(server)


def await_data(connection: rawhttp.Connection, wanted: bytes) -> None:
    got = b""
    while wanted not in got:
        some = connection.read_some()
        assert some, got
        got += some


@pytest.mark.parametrize("format_", ["traced", "silent"])
def test_every_byte_comes_and_then_the_end(served: Served, format_: str) -> None:
    served.append(b"abc")
    connections = [served.read(f"?format={format_}") for _ in range(5)]
    for number in range(50):
        served.append(b"%02d" % number)
    served.append(b"end", "?close=1")
    for connection in connections:
        reply = connection.read_reply()
        connection.close()
        seen = seen_in(reply.body)
        assert seen.data == b"abc" + b"".join(b"%02d" % n for n in range(50)) + b"end"
        assert (seen.end, reply.complete) == ("closed", True)


def test_a_client_that_leaves_is_noticed(served: Served) -> None:
    with served.read() as connection:
        connection.read_head()
        served.until(lambda state: state["watched"] == 1)
    served.until(lambda state: state["watched"] == 0)


def test_a_client_that_leaves_while_there_is_much_to_send_is_noticed(served: Served) -> None:
    for _ in range(40):
        served.append(b"x" * 1_000_000)
    with served.read(receive_buffer=4096) as connection:
        connection.read_head()
        served.until(lambda state: state["watched"] == 1)
        connection.reset()
    served.until(lambda state: state["watched"] == 0)


def test_one_that_stalls_holds_nobody_up_and_misses_nothing(served: Served) -> None:
    with served.read(receive_buffer=4096) as slow, served.read() as quick:
        slow.read_head()
        for _ in range(60):
            served.append(b"x" * 1000, "?times=100")
        served.append(b"end", "?close=1")
        assert len(seen_in(quick.read_reply().body).data) == 6_000_003
        slow._methods.append("GET")  # its head was read before
        body, complete = slow._read_chunks()
        assert len(seen_in(body).data) == 6_000_003
        assert complete


def test_head_has_no_body(served: Served) -> None:
    reply = served.ask("HEAD", served.path)
    assert (reply.status, reply.body) == (200, b"")


def test_behind_a_middleware_that_wraps_everything_it_works_as_well(passed: Served) -> None:
    with passed.read() as connection:
        for number in range(20):
            passed.append(b"%02d" % number)
        passed.until(lambda state: state["watched"] == 1)
        passed.append(b"end", "?close=1")
        reply = connection.read_reply()
    assert seen_in(reply.body).data == b"".join(b"%02d" % n for n in range(20)) + b"end"
    assert reply.complete
    with passed.read() as connection:
        connection.read_head()
    passed.until(lambda state: state["watched"] == 0 and state["open"] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvicorn", "uvicorn-tailrace", "uvloop-tailrace"])
def test_one_that_stalls_for_good_is_cut_off_and_logged_once(name: ServerName) -> None:
    with serve(APP, name, log_level="info") as server:
        served = Served(server)
        with served.read("?send_timeout=0.5", receive_buffer=4096) as connection:
            connection.read_head()
            for _ in range(80):
                served.append(b"x" * 1000, "?times=100")
            served.until(lambda state: state["stalled"] == 1)
            served.until(lambda state: state["watched"] == 0)
        log = server.log
    assert log.count("client cut off: stalled") == 1
    assert "Traceback" not in log
    assert "without completing" not in log


FAILED = b'"a",{"tailrace":{"end":"failed","code":"boom","message":"it broke"}},'


@pytest.mark.parametrize("format_", ["lines", "raw"])
def test_the_reader_of_a_run_that_failed_can_tell(served: Served, format_: str) -> None:
    run = Served(served.server, "application/json")
    with run.read(f"?format={format_}") as connection:
        connection.read_head()
        run.append(FAILED, "?close=1")
        connection._methods.append("GET")
        body, complete = connection._read_chunks()
    assert not complete
    assert body.startswith(b'"a"' if format_ == "lines" else b"a")
    assert (b'"code":"boom"' in body) == (format_ == "lines")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvicorn-tailrace", "uvloop-tailrace"])
def test_when_the_server_stops_events_end_with_a_farewell(name: ServerName) -> None:
    with serve(APP, name, log_level="info") as server:
        served = Served(server, "application/json")
        connections = [served.read("?format=events") for _ in range(20)]
        for connection in connections:
            connection.read_head()
        served.until(lambda state: state["open"] == 20)
        os.kill(server.worker.pid, signal.SIGTERM)
        for connection in connections:
            connection._methods.append("GET")
            body, complete = connection._read_chunks()
            connection.close()
            assert complete
            assert b"event: farewell\nretry: " in body
