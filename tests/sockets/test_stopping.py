"""SIGTERM to each server while streams are open; the application has no code of its own for it."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.rawhttp import Connection
from tests.servers import HOST, RunningServer, ServerName, serve

APP = "tests.apps.farewells:app"
WATCHED: tuple[ServerName, ...] = (
    *("uvicorn", "uvicorn-h11", "uvloop", "uvicorn-zttp", "uvicorn-tailrace", "granian"),
    *("hypercorn", "hypercorn-trio", "gunicorn-uvicorn", "gunicorn-asgi"),
)
"""Not daphne: it cancels open responses, as docs/production.md says."""

LIMIT = 2.0
"""Seconds in which a server that has only event streams must have ended."""

pytestmark = pytest.mark.slow


def options(name: ServerName) -> dict[str, Any]:
    # Without a supervisor process, hypercorn's trio worker does not handle SIGTERM at all.
    return {"workers": 1} if name.startswith("hypercorn") else {}


def opened(stack: contextlib.ExitStack, server: RunningServer, path: str) -> Connection:
    connection = stack.enter_context(Connection(server.host, server.port))
    connection.send(path, headers={"accept": "text/event-stream"})
    assert connection.read_head().status == 200
    assert connection.read_chunk()
    return connection


def rest(connection: Connection) -> bytes:
    """The rest of the body, which must be complete."""
    body, until = b"", time.monotonic() + 10
    while (chunk := connection.read_chunk()) and time.monotonic() < until:
        body += chunk
    assert chunk == b"", "cut"
    return body


def wait_for_end(pid: int) -> float:
    began = time.monotonic()
    process = psutil.Process(pid)
    while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < began + 20:
        time.sleep(0.02)
    return time.monotonic()


@pytest.mark.parametrize("name", WATCHED)
def test_twenty_event_streams_say_farewell_and_the_server_ends(name: ServerName) -> None:
    with serve(APP, name, **options(name)) as server, contextlib.ExitStack() as stack:
        paths = ["/waiting"] * 2 + ["/events"] * 10 + ["/run", "/subscription"] * 3
        streams = [opened(stack, server, path) for path in paths]
        own = [opened(stack, server, path) for path in ("/own-words", "/blocked")]
        psutil.Process(server.pid).send_signal(signal.SIGTERM)
        asked = time.monotonic()
        for connection in streams:
            assert b"event: farewell\n" in rest(connection)
        for connection in own:
            body = rest(connection)
            assert b"data: the source's own farewell\n\nevent: farewell\n" in body
        stack.close()  # the clients leave, as the farewell has told them
        assert wait_for_end(server.pid) - asked < LIMIT
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn-tailrace", "hypercorn", "gunicorn-asgi"])
def test_a_download_goes_on_and_the_farewell_looks_past_it(name: ServerName) -> None:
    with serve(APP, name, **options(name)) as server, contextlib.ExitStack() as stack:
        events = opened(stack, server, "/events")
        download = opened(stack, server, "/download")
        psutil.Process(server.pid).send_signal(signal.SIGTERM)
        told = re.search(rb"\nretry: (\d+)\n", rest(events))
        assert told is not None
        assert int(told[1]) >= 3000, "the server's own grace: hypercorn has the least"
        assert rest(download).endswith(b"19\n")
        stack.close()
        wait_for_end(server.pid)
        assert "ERROR" not in server.log


def test_a_saved_change_is_served_with_an_event_stream_open(tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("from tests.apps.farewells import app\napp.title = 'before'\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    directory = {"reload": True, "reload_dir": str(tmp_path)}
    with serve("changing:app", "uvicorn", env=environment, **directory) as server:  # type: ignore[arg-type] # of several types
        with contextlib.ExitStack() as stack:
            events = opened(stack, server, "/events")
            module.write_text("from tests.apps.farewells import app\napp.title = 'after it'\n")
            told = re.search(rb"\nretry: (\d+)\n", rest(events))
            assert told is not None
            assert int(told[1]) <= 1000, "the socket stays open: who comes back waits in line"
            again = stack.enter_context(Connection(HOST, server.port))
            again.send("/openapi.json")
            assert b"after it" in again.read_reply().body


def test_workers_end_with_their_event_streams() -> None:
    with serve(APP, "uvicorn", workers=2) as server, contextlib.ExitStack() as stack:
        events = [opened(stack, server, "/events") for _ in range(8)]
        psutil.Process(server.pid).send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert all(b"event: farewell\n" in rest(each) for each in events)
        assert wait_for_end(server.pid) - asked < LIMIT
