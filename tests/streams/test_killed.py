"""Real processes on one file, of which one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from tailrace.errors import RunEnded
from tailrace.streams import Streams, SyncStreams
from tests.stopped import stop_without_lock

ROOT = Path(__file__).parent.parent.parent
LEASE = 1

pytestmark = pytest.mark.slow


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/streams.db"


@contextmanager
def worker(url: str, path: str = "run") -> Iterator[subprocess.Popen[str]]:
    """Another process that runs something; it is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.apps.worker", url, path, str(LEASE)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_readers_of_a_worker_that_is_killed_are_told_within_seconds(url: str) -> None:
    async with Streams(url, lease=LEASE) as streams:
        with worker(url) as process:
            joined = await streams.run("run", [], on_disconnect="continue")
            seen: list[int] = []
            with anyio.fail_after(10):
                async for message in _until_lost(streams):
                    seen.append(message)
                    if len(seen) == 10:
                        os.kill(process.pid, signal.SIGKILL)
            assert seen == list(range(len(seen)))
            with pytest.raises(RunEnded) as ended:
                await joined.wait()
            assert ended.value.code == "worker_lost"
            again = await streams.run("run", [7], on_disconnect="continue", restart=True)
            assert [message.data async for message in again] == [7]


async def _until_lost(streams: Streams):  # type: ignore[no-untyped-def] # a test's helper
    with suppress(RunEnded):
        async for message in streams.read("run", follow=True):
            yield message.data


def test_a_script_that_reads_finds_out_by_itself(url: str) -> None:
    with SyncStreams(url, lease=LEASE) as streams, worker(url) as process:
        reader = streams.read("run", follow=True)
        assert next(reader).data == 0
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RunEnded, match="was lost"):
            list(reader)


def test_a_worker_that_is_interrupted_ends_its_run(url: str) -> None:
    with SyncStreams(url, lease=LEASE) as streams, worker(url) as process:
        os.kill(process.pid, signal.SIGINT)
        with pytest.raises(RunEnded, match="the worker that ran it was stopped"):
            list(streams.read("run", follow=True))


def test_a_run_in_another_process_is_stopped(url: str) -> None:
    with SyncStreams(url, lease=LEASE) as streams, worker(url):
        assert streams.stop("run")
        with pytest.raises(RunEnded, match="it was stopped"):
            list(streams.read("run", follow=True))


def test_a_worker_that_stood_still_is_fenced(url: str) -> None:
    with SyncStreams(url, lease=LEASE) as streams, worker(url) as process:
        stop_without_lock(process.pid, url.removeprefix("sqlite:///"))
        with pytest.raises(RunEnded, match="was lost"):
            list(streams.read("run", follow=True))
        tail = streams.head("run").tail
        os.kill(process.pid, signal.SIGCONT)
        process.wait(10)
        assert streams.head("run").tail == tail
        assert streams.list("__ds/runs/") == []
