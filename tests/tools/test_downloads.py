"""curl, wget and aria2 fetch a file: in one go, in parts, and a hundred at once."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running_serve import Running, running_serve
from tests.rawhttp import request
from tests.tools.conftest import LARGE_BYTES
from tests.tools.held import descriptors_as_before, threads_as_before
from tests.tools.logged import logged
from tests.tools.tool import DEADLINE, running, until

pytestmark = pytest.mark.slow


def url(server: Running, path: str = "files/large") -> str:
    return f"http://127.0.0.1:{server.port}/{path}"


def finished(tool: subprocess.Popen[bytes]) -> tuple[int, str]:
    said, _ = tool.communicate(timeout=DEADLINE)
    return tool.returncode, said.decode()


def interrupted(tool: subprocess.Popen[bytes], part: Path) -> int:
    """Kill a download that has begun; the bytes that it has."""

    def size() -> int:
        return part.stat().st_size if part.exists() else 0

    until(size, lambda now: now > 1_000_000)
    tool.kill()
    tool.wait()
    assert 1_000_000 < size() < LARGE_BYTES
    return size()


CURL = ["curl", "-sS", "-o", "{part}", "{url}"]
WGET = ["wget", "-nv", "-O", "{part}", "{url}"]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ([*CURL, "--limit-rate", "10M"], [*CURL, "-C", "-"]),
        ([*WGET, "--limit-rate=10M"], [*WGET, "-c"]),
    ],
    ids=["curl", "wget"],
)
def test_a_download_that_was_killed_is_resumed_where_it_was(
    server: Running, tmp_path: Path, large_content: bytes, first: list[str], again: list[str]
) -> None:
    part = tmp_path / "part"

    def words(command: list[str]) -> list[str]:
        return [word.format(part=part, url=url(server)) for word in command]

    with running(*words(first)) as tool:
        had = interrupted(tool, part)
    entry = server.entry()
    assert (entry["status"], entry["outcome"]) == (200, "left")
    with running(*words(again)) as tool:
        code, said = finished(tool)
    assert code == 0, said
    assert part.read_bytes() == large_content
    entry = server.entry()
    assert (entry["status"], entry["outcome"]) == (206, "complete")
    assert entry["bytes"] == LARGE_BYTES - had


def test_wget_is_told_that_it_has_all(server: Running, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "large").symlink_to(directory / "large")
    with running("wget", "-c", "-P", tmp_path, url(server)) as tool:
        code, said = finished(tool)
    assert code == 0
    assert "already fully retrieved" in said
    assert server.entry()["status"] == 416


def test_a_hundred_curls_and_aria2_at_once_get_their_ranges_and_leave_nothing(
    directory: Path, tmp_path: Path, large_content: bytes
) -> None:
    command = [sys.executable, "-m", "tests.apps.served"]
    with running_serve(directory, command=command) as server:

        def tasks() -> dict[str, Any]:
            said: dict[str, Any] = json.loads(request("127.0.0.1", server.port, "/held").body)
            server.entry()
            return said

        before = tasks()
        with descriptors_as_before(server), threads_as_before(server):
            entries = fetch_at_once(server, tmp_path)
            assert until(tasks, lambda now: now == before) == before
        assert "ERROR" not in server.log
    assert (tmp_path / "whole").read_bytes() == large_content
    assert b"".join((tmp_path / f"{n}").read_bytes() for n in range(100)) == large_content
    partial = [entry for entry in entries if entry["status"] == 206]
    assert len(partial) >= 100 + 15  # aria2 asks for the whole first, and then shares it out
    assert {entry["outcome"] for entry in entries} <= {"complete", "left"}
    assert sum(entry["outcome"] == "complete" for entry in partial) >= 100


def fetch_at_once(server: Running, into: Path) -> list[dict[str, Any]]:
    """A hundred ranges by curl, the whole by aria2 in 16; what the server logged of it."""
    bounds = [LARGE_BYTES * n // 100 for n in range(101)]
    address = url(server)
    with ExitStack() as stack:
        sixteen = ("-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf")
        aria2 = stack.enter_context(running("aria2c", *sixteen, "-d", into, "-o", "whole", address))
        curls = []
        for n, (start, stop) in enumerate(pairwise(bounds)):
            wanted = ("-r", f"{start}-{stop - 1}", "-o", into / str(n))
            curls.append(stack.enter_context(running("curl", "-sSf", *wanted, address)))
        for tool in (*curls, aria2):
            code, said = finished(tool)
            assert code == 0, said
    return logged(server)
