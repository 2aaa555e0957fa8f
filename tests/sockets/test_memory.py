"""The server does not keep a large stream in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import serve
from tests.sockets.live_server import LiveServer, new_key

MEGABYTES = 512
GROWTH_BYTES = 16 * 2**20


@pytest.fixture(scope="module")
def fresh() -> Iterator[LiveServer]:
    """A new server, whose memory no other test has increased."""
    with serve("tests.apps.live:app", "uvicorn") as server:
        yield LiveServer("uvicorn", server)


def peak_bytes(pid: int) -> int:
    """The peak of a process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def read_whole(live: LiveServer, path: str) -> int:
    """Read a body to its end, and keep none of it. Returns its length."""
    with live.connect(path) as connection:
        assert connection.read_head().status == 200
        size = 0
        while chunk := connection.read_chunk():
            size += len(chunk)
        assert chunk == b"", "the body was cut"
    return size


@pytest.mark.slow
def test_a_large_stream_does_not_pile_up_in_the_server(fresh: LiveServer, style: str) -> None:
    read_whole(fresh, f"/{style}/megabytes?key={new_key()}&count=1")
    before = peak_bytes(fresh.server.pid)
    size = read_whole(fresh, f"/{style}/megabytes?key={new_key()}&count={MEGABYTES}")
    assert size == MEGABYTES * 2**20
    assert peak_bytes(fresh.server.pid) - before < GROWTH_BYTES
