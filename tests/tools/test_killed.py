"""Clients that are killed while a file is sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.cli.running_serve import Running, running_serve
from tests.tools.conftest import LARGE_BYTES
from tests.tools.held import descriptors_as_before
from tests.tools.tool import running

pytestmark = pytest.mark.slow

AT_ONCE = 25

KILLED = 1000

NOISE_BYTES = 1_000_000
"""A thousand responses that are kept cost ten times that."""


@pytest.fixture
def server(directory: Path) -> Iterator[Running]:
    # One arena: or each thread that is made meanwhile has one of its own, of 100 KB.
    with running_serve(directory, env={"MALLOC_ARENA_MAX": "1"}) as running:
        yield running


def kill_clients(server: Running, count: int) -> None:
    """kill -9 of so many, each while the server waits for it in the middle of the file."""
    url = f"http://127.0.0.1:{server.port}/files/large"
    slow = ("-sS", "--no-buffer", "--limit-rate", "10K", url)
    for _ in range(count // AT_ONCE):
        with ExitStack() as stack:
            clients = [stack.enter_context(running("curl", *slow)) for _ in range(AT_ONCE)]
            for client in clients:
                assert client.stdout is not None
                assert client.stdout.read(1)
            for client in clients:
                assert client.poll() is None
                client.kill()
        entries = [server.entry() for _ in range(AT_ONCE)]
        assert {entry["outcome"] for entry in entries} == {"left"}
        assert max(entry["bytes"] for entry in entries) < LARGE_BYTES


def test_a_thousand_killed_clients_leave_nothing(server: Running) -> None:
    process = psutil.Process(server.process.pid)
    with descriptors_as_before(server):
        kill_clients(server, 100)  # what is made once for all is made now
        grown = []
        for _ in range(2):  # a leak is there each time, what the allocator keeps is not
            before = process.memory_info().rss
            kill_clients(server, KILLED // 2)
            grown.append(process.memory_info().rss - before)
        assert min(grown) < NOISE_BYTES // 2
    assert "ERROR" not in server.log
