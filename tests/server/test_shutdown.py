"""SIGTERM: each open response is told, and no client holds the exit beyond the budget."""

from __future__ import annotations

import contextlib
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from tailrace.server.internals import OLDEST
from tests.rawhttp import Connection
from tests.server.conftest import APP, LOWEST, OURS, Site, target, with_uvicorn
from tests.server.test_clients import until
from tests.servers import ServerName, serve


def ended(pid: int, seconds: float) -> float:
    """Seconds until a process has ended; the parent has not asked for its code yet."""
    began = time.monotonic()
    process = psutil.Process(pid)
    while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < began + seconds:
        time.sleep(0.02)
    return time.monotonic() - began


def open_events(site: Site, stack: contextlib.ExitStack, **options: Any) -> Connection:
    connection = stack.enter_context(site.connect(**options))
    connection.send("/events")
    connection.read_head()
    assert connection.read_chunk() == b"data: hello\n\n"
    return connection


def never_reading(site: Site, stack: contextlib.ExitStack) -> Connection:
    connection = stack.enter_context(site.connect(receive_buffer=4096))
    name = str(connection.sock.getsockname()[1])
    connection.send(f"/events?size=50000&name={name}")
    connection.read_head()
    seen = until(partial(site.ask, "/connection", name=name), lambda seen: seen["stalled"])
    assert seen["stalled"]
    return connection


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OURS, LOWEST])
def test_each_stream_says_farewell_and_a_download_finishes(
    name: str, tmp_path: Path, file: Path, content: bytes
) -> None:
    mark = tmp_path / "mark"
    environment = {"TAILRACE_DRAIN_TIMEOUT": "3", "MARK_AT_SHUTDOWN": str(mark)}
    if name == LOWEST:
        name, environment = OURS[0], environment | with_uvicorn(OLDEST)
    large = tmp_path / "large"
    large.write_bytes(content * 10)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            serve(APP, cast(ServerName, name), env=environment, log_level="info")
        )
        site = Site(server)
        streams = [open_events(site, stack) for _ in range(50)]
        stalled = [never_reading(site, stack) for _ in range(5)]
        download = stack.enter_context(site.connect(receive_buffer=4096))
        download.send(target("/path", file=large, length=30_000_000))
        download.read_head()
        idle = stack.enter_context(site.connect())
        idle.send("/hello")
        idle.read_reply()

        psutil.Process(server.pid).send_signal(signal.SIGTERM)
        asked = time.monotonic()
        for stream in streams:
            rest = b"".join(iter(stream.read_chunk, b""))  # type: ignore[arg-type] # not cut
            assert rest.startswith(b"event: farewell\n")
            assert b"retry: " in rest
        assert idle.read_some() == b""
        assert time.monotonic() - asked < 1.5
        reply = download._take_exactly(30_000_000)
        assert reply == content * 10
        assert time.monotonic() - asked < 2.5

        took = ended(server.pid, 8)
        assert 1 < time.monotonic() - asked < 4.5, took
        assert mark.read_text() == "the lifespan's shutdown has run"
        for connection in stalled:
            while connection.read_some():
                pass
            assert connection.ended == "reset"
        assert "Finished server process" in server.log
        assert "ERROR" not in server.log


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_a_download_that_takes_too_long_is_cut_when_the_budget_is_spent(
    name: ServerName, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(200_000_000)
    with serve(APP, name, env={"TAILRACE_DRAIN_TIMEOUT": "0.5"}, log_level="info") as server:
        with Site(server).connect(receive_buffer=4096) as connection:
            connection.send(target("/path", file=large, length=200_000_000))
            connection.read_head()
            psutil.Process(server.pid).send_signal(signal.SIGTERM)
            assert 0.3 < ended(server.pid, 5) < 2.5
            while connection.read_some():
                pass
            assert connection.ended == "reset"


@pytest.mark.slow
def test_a_client_that_does_not_read_its_last_bytes_is_cut_too(tmp_path: Path) -> None:
    """The response is over; what is left of it is in the server's buffer."""
    with serve(APP, OURS[0], env={"TAILRACE_DRAIN_TIMEOUT": "0.5"}, log_level="info") as server:
        with Site(server).connect(receive_buffer=4096) as connection:
            connection.send("/large?size=30000000")
            connection.read_head()
            psutil.Process(server.pid).send_signal(signal.SIGTERM)
            assert 0.3 < ended(server.pid, 5) < 2.5


@pytest.mark.slow
def test_nothing_open_ends_at_once() -> None:
    with serve(APP, OURS[0], log_level="info") as server:
        psutil.Process(server.pid).send_signal(signal.SIGTERM)
        assert ended(server.pid, 5) < 1.5


@pytest.mark.slow
def test_the_exit_code_is_uvicorns(tmp_path: Path) -> None:
    codes = []
    for name in ("uvicorn", "uvicorn-tailrace"):
        with serve(APP, name, log_level="info") as server:
            with Site(server).connect() as connection:
                connection.send("/hello")
                connection.read_reply()
                process = psutil.Process(server.pid)
                process.send_signal(signal.SIGTERM)
                ended(server.pid, 5)
                codes.append(process.wait(1))
    assert codes[0] == codes[1]


@pytest.mark.slow
def test_uvicorns_own_time_is_a_bound_too() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            serve(APP, OURS[0], log_level="info", timeout_graceful_shutdown=1)
        )
        never_reading(Site(server), stack)
        psutil.Process(server.pid).send_signal(signal.SIGTERM)
        assert ended(server.pid, 6) < 2.5
        assert "Cancel" not in server.log
