"""Processes that are killed: what they were told was done stays done."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from tailrace.store import START, NewStream, Store, open_store
from tests.crash.checks import check_file
from tests.crash.kill import LEAST_KILLS, kill_and_check
from tests.crash.schedule import read_all
from tests.crash.worker import message
from tests.servers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

KILLS = 15
PROCESSES = 3
PATHS = ("a", "b", "c")


def test_nothing_is_lost_when_processes_of_a_server_are_killed(tmp_path: Path) -> None:
    report = kill_and_check(tmp_path, seconds=8, seed=4)
    assert (report.lost, report.doubled, report.reordered) == (0, 0, 0), report
    assert report.problems == []
    assert report.worker_kills >= LEAST_KILLS
    assert report.server_kills >= 1
    assert report.acked >= 100


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One is enough: those that are killed are processes of their own."""
    return "asyncio"


@dataclass
class Ledger:
    """What the processes of one number were told: the ends of what their producers appended."""

    acked: dict[str, list[int | None]] = field(default_factory=dict)

    def producers(self, number: int) -> dict[str, tuple[str, int]]:
        """Where each of them goes on."""
        names = [(f"{number}{path}{at}", path) for path in PATHS for at in range(4)]
        return {name: (path, len(self.acked.setdefault(name, []))) for name, path in names}

    def note(self, line: bytes) -> None:
        name, seq, end = line.decode().split(" ")
        assert int(seq) == len(self.acked[name])
        self.acked[name].append(int(end) if end else None)


async def run_and_kill(url: str, number: int, ledger: Ledger, rng: random.Random) -> None:
    """Let a process append until it was told some number of times that it did; then kill it."""
    left = rng.randint(1, 300)
    producers = json.dumps(ledger.producers(number))
    command = [sys.executable, "-m", "tests.crash.worker", url, producers]
    process: Process = await anyio.open_process(command, stderr=None, cwd=ROOT)
    assert process.stdout is not None
    rest = b""
    async for data in process.stdout:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            ledger.note(line)
        left -= len(lines)
        if left <= 0:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert await process.wait() == -9
    await process.aclose()


async def follow(store: Store, path: str, got: bytearray) -> None:
    """Read a stream from its start, in the order in which it comes, for ever."""
    at = START
    while True:
        piece = await store.read(path, at)
        got += piece.data
        at = piece.end
        if not piece.chunks:
            await store.wait(path, at)


async def test_nothing_is_lost_when_processes_that_share_a_file_are_killed(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'streams.db'}"
    rng, ledger = random.Random(2), Ledger()

    async def keep_killing(number: int) -> None:
        for _ in range(KILLS // PROCESSES):
            await run_and_kill(url, number, ledger, rng)

    async with open_store(url) as store:
        for path in PATHS:
            await store.create(path, NewStream())
        followed = {path: bytearray() for path in PATHS}
        async with anyio.create_task_group() as readers:
            for path in PATHS:
                readers.start_soon(follow, store, path, followed[path])
            async with anyio.create_task_group() as killers:
                for number in range(PROCESSES):
                    killers.start_soon(keep_killing, number)
            data = {path: (await read_all(store, path))[1] for path in PATHS}
            with anyio.fail_after(5):
                while any(len(followed[path]) < len(data[path]) for path in PATHS):
                    await anyio.sleep(0.01)
            readers.cancel_scope.cancel()
    assert followed == data
    for name, ends in ledger.acked.items():
        check_producer(name, ends, data[name[1]])
    check_file(tmp_path / "streams.db")


def check_producer(name: str, ends: list[int | None], data: bytes) -> None:
    lines = [line.split(b" ") for line in data.splitlines() if line.startswith(name.encode())]
    numbers = [int(number) for _name, number, _filler in lines]
    assert numbers == list(range(len(numbers)))
    assert max(Counter(numbers).values(), default=0) <= 1
    # At most the one that was on its way when it was killed was never acknowledged.
    assert len(ends) <= len(numbers) <= len(ends) + 1
    for seq, end in enumerate(ends):
        assert end is None or data[:end].endswith(message(name, seq))
