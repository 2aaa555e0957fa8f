"""SIGTERM, with everything under way that there can be."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running_serve import Running, running_serve
from tests.rawhttp import Connection, request
from tests.tools.test_changes import CURL_CUT
from tests.tools.tool import DEADLINE, running, until

pytestmark = pytest.mark.slow

SUBSCRIBERS = 50
NEVER_READING = 5


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize(("budget", "rate", "finishes"), [(3.0, "40M", True), (1.5, "5M", False)])
def test_all_are_told_and_none_holds_the_end(
    directory: Path, tmp_path: Path, large_content: bytes, budget: float, rate: str, finishes: bool
) -> None:
    mark = tmp_path / "mark"
    with ExitStack() as stack:
        server = stack.enter_context(
            running_serve(
                directory,
                *("--drain-timeout", str(budget)),
                env={"MARK_AT_SHUTDOWN": str(mark)},
                command=[sys.executable, "-m", "tests.apps.served"],
            )
        )
        address = f"http://127.0.0.1:{server.port}"
        heard = [tmp_path / f"heard-{n}" for n in range(SUBSCRIBERS)]
        subscribers = [
            stack.enter_context(running("curl", "-sSN", "-o", path, f"{address}/events"))
            for path in heard
        ]
        stalled = [never_reading(server, stack) for _ in range(NEVER_READING)]
        part = tmp_path / "part"
        limited = ("-sS", "--limit-rate", rate, "-o", part, f"{address}/files/large")
        download = stack.enter_context(running("curl", *limited))
        for path in (*heard, part):
            until(partial(bytes_of, path), bool)

        def held() -> dict[str, Any]:
            said: dict[str, Any] = json.loads(request("127.0.0.1", server.port, "/held").body)
            return said

        assert until(held, lambda now: now["stalled"] == NEVER_READING)["stalled"] == NEVER_READING
        began = time.monotonic()
        server.process.terminate()
        for subscriber, path in zip(subscribers, heard, strict=True):
            said, _ = subscriber.communicate(timeout=DEADLINE)
            assert (subscriber.returncode, said) == (0, b"")
            assert path.read_text().startswith("data: hello\n\n")
            assert "event: farewell\n" in path.read_text()
        assert time.monotonic() - began < budget
        assert server.process.wait(DEADLINE) == 0
        assert budget - 0.5 < time.monotonic() - began < budget + 1.5
        said, _ = download.communicate(timeout=DEADLINE)
        if finishes:
            assert (download.returncode, said) == (0, b"")
            assert part.read_bytes() == large_content
        else:
            assert download.returncode in CURL_CUT, said
            assert large_content.startswith(part.read_bytes())
        assert mark.read_text() == "shut down"
        for connection in stalled:
            while connection.read_some():
                pass
            assert connection.ended == "reset"
        assert "ERROR" not in server.log


def never_reading(server: Running, stack: ExitStack) -> Connection:
    connection = stack.enter_context(Connection("127.0.0.1", server.port, receive_buffer=4096))
    connection.send("/events?size=50000")
    connection.read_head()
    return connection
