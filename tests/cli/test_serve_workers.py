"""The streams of `tailrace serve --workers`: one file, and what becomes of one that is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.running_serve import Running, running_serve
from tests.cli.streaming import (
    append,
    connect,
    create,
    send,
    until_ready,
    until_said,
    worker_of,
    workers_of,
)
from tests.tools.tool import until

LIVE = "?offset=-1&live=sse"
START = 60.0
"""Seconds in which four processes start, beside whatever else runs."""
SOON = 2.0
"""Seconds within which one of several workers that died together is replaced and serves."""


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("four")
    with running_serve(folder, "--workers", "4", "--log-level", "warning") as running:
        until(lambda: len(workers_of(running)), lambda count: count == 4)
        assert until_ready(running, START)[0] == 200
        yield running


@pytest.mark.slow
def test_workers_share_one_file(four: Running) -> None:
    create(four, "shared")
    with ExitStack() as stack:
        seen = set()
        readers = []
        for _ in range(40):
            reader = stack.enter_context(connect(four, "shared" + LIVE))
            reader.read_head()
            until_said(reader, b"upToDate")
            readers.append(reader)
            worker = worker_of(four, reader)
            assert worker is not None
            seen.add(worker.pid)
            if len(seen) > 1 and len(readers) > 3:
                break
        assert len(seen) > 1
        append(four, "shared", b"for all of you")
        for reader in readers:
            until_said(reader, b"for all of you")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_others_go_on(four: Running) -> None:
    create(four, "lives", b"before,")
    before = {worker.pid for worker in workers_of(four)}
    with connect(four, "lives" + LIVE) as reader:
        reader.read_head()
        until_said(reader, b"upToDate")
        serving = worker_of(four, reader)
        assert serving is not None
        victim = next(pid for pid in before if pid != serving.pid)
        os.kill(victim, signal.SIGKILL)

        def alive() -> set[int]:
            return {each.pid for each in workers_of(four)}

        now = until(alive, lambda pids: len(pids) == 4 and victim not in pids)
        assert len(now) == 4
        assert len(now - before) == 1
        assert _appended_after_all(four, "lives", b"after")
        until_said(reader, b"after")
    assert send(four, "GET", "lives").body == b"before,after"


@pytest.mark.slow
def test_after_all_workers_died_together_somebody_serves_again_soon(
    four: Running, tmp_path: Path
) -> None:
    create(four, "kept", b"before,")
    began = time.monotonic()
    with running_serve(tmp_path):
        alone = time.monotonic() - began  # what one server takes to begin, on this machine now
    victims = {worker.pid for worker in workers_of(four)}
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    until(lambda: _is_answered(four), bool)
    assert time.monotonic() - began < max(SOON, 1.5 * alone)
    pids = until(
        lambda: {each.pid for each in workers_of(four)},
        lambda pids: len(pids) == 4 and not pids & victims,
    )
    assert len(pids - victims) == 4
    assert _appended_after_all(four, "kept", b"after")
    assert send(four, "GET", "kept").body == b"before,after"


@pytest.mark.slow
def test_a_worker_that_dies_while_it_is_asked_how_it_is_is_replaced_at_once(four: Running) -> None:
    victims = {worker.pid for worker in workers_of(four)}
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.0)  # the supervisor asks every half second, and waits for the answer
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    until(lambda: {each.pid for each in workers_of(four)}, lambda pids: bool(pids - victims))
    assert time.monotonic() - began < SOON


def _is_answered(server: Running) -> bool:
    try:
        return send(server, "GET", "kept").status == 200
    except OSError:  # what a worker that was killed had in its queue
        return False


def _appended_after_all(server: Running, path: str, body: bytes) -> bool:
    """As a client does: until it is acknowledged, with one sequence number."""

    def tried() -> bool:
        try:
            reply = append(
                server, path, body, producer_id="p", producer_epoch="0", producer_seq="0"
            )
        except OSError:  # what the one that was killed had in its queue
            return False
        return reply.status in (200, 204)

    return until(tried, bool)


@pytest.mark.slow
def test_at_the_end_every_workers_readers_are_told(tmp_path: Path) -> None:
    with running_serve(tmp_path, "--workers", "2", "--log-level", "warning") as server:
        create(server, "s", b"hello")
        with ExitStack() as stack:
            readers = [stack.enter_context(connect(server, "s" + LIVE)) for _ in range(12)]
            for reader in readers:
                reader.read_head()
                until_said(reader, b"upToDate")
            began = time.monotonic()
            server.process.terminate()
            for reader in readers:
                farewell = b""
                while more := reader.read_some():
                    farewell += more
                assert b"retry:" in farewell
                assert farewell.endswith(b"0\r\n\r\n")
            assert server.process.wait(15) == 0
            assert time.monotonic() - began < 10
            assert "Traceback" not in server.log
