"""Sync generators that sleep or block: as many as there are threads for them, and more.

`python -m tests.sockets.sleepers` is the long run, with 2,000 clients.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tailrace import limits
from tests.servers import serve
from tests.sockets.sleepers import GRACE, Readers, ask, end, measure

THREADS = 10


@pytest.mark.slow
def test_clients_of_sleeping_generators_have_their_lines_and_what_is_beside_goes_on() -> None:
    report = measure(100, pace=0.25, times=2, store="memory://")
    met = report.crowd
    assert (met.silent, met.refused) == (0, 0), report
    assert met.lines >= 100, report
    assert report.ended <= GRACE + limits.CLEANUP_TIMEOUT, report


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvicorn-tailrace", "uvicorn"])
def test_generators_that_block_stop_nothing_that_is_not_theirs(name: str, tmp_path: Path) -> None:
    (tmp_path / "film.bin").write_bytes(bytes(1_000_000))
    env = {
        "SLEEPERS_THREADS": str(THREADS),
        "SLEEPERS_FILES": str(tmp_path),
        "SLEEPERS_STORE": f"sqlite:///{tmp_path}/streams.db",
    }
    app = "tests.apps.sleepers:app"
    with serve(app, name, env=env, timeout_graceful_shutdown=GRACE) as server:  # type: ignore[arg-type] # one of them
        with Readers(server.port, 2 * THREADS, 1.0, "/stuck") as stuck:
            hear_all(stuck)
            # The clients for which there was no thread were refused.
            refused = len(stuck.refused)
            assert refused <= THREADS
            with Readers(server.port, 1, 1.0, "/page") as late:
                assert len(ask(server, "GET", "/files/film.bin")) == 1_000_000
                assert b"film.bin" in ask(server, "GET", "/files/")
                ask(server, "PUT", "/v1/stream/notes")
                ask(server, "POST", "/v1/stream/notes", b"[" + b"1," * 150_000 + b"1]")
                assert b"step" in ask(server, "POST", "/run/a")
                hear_all(late)
                assert late.refused == {0}
            seen = json.loads(ask(server, "GET", "/stats"))
            assert seen["threads"] == THREADS
            assert seen["refused"] == refused + 1
            assert "threads for sync sources are busy" in server.log
            assert end(server) <= GRACE + limits.CLEANUP_TIMEOUT + 5


def hear_all(readers: Readers) -> None:
    """Read until each client has received a line, or was refused."""
    until = time.monotonic() + 30
    while not readers.are_all_served:
        assert time.monotonic() < until
        readers.hear(0.1)
