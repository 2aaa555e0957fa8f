# ruff: noqa: ASYNC240 - nothing else runs while a test looks at its files
"""Several processes on one file."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tailrace.store import START, Append, Change, NewStream, Producer
from tailrace.store.sqlite import SQLiteStore, verify
from tests.stopped import stop_without_lock

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
PATIENCE = 10.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One will do: what is between processes does not know of event loops, and starting them is
    what takes the time."""
    return "asyncio"


class Other:
    """A process of `child.py`."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._output = BufferedByteReceiveStream(process.stdout)

    async def tell(self, *words: Any) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(json.dumps(words).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        with anyio.fail_after(PATIENCE):
            line = await self._output.receive_until(b"\n", 1 << 20)
        heard: dict[str, Any] = json.loads(line)
        return heard

    async def ask(self, *words: Any) -> dict[str, Any]:
        await self.tell(*words)
        return await self.hear()


@asynccontextmanager
async def other(file: Path) -> AsyncIterator[Other]:
    command = [sys.executable, "-m", "tests.store.sqlite.child", str(file)]
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as process:
        child = Other(process)
        assert await child.hear() == {"ready": True}
        try:
            yield child
            if process.returncode == -signal.SIGKILL:
                return
            assert process.stdin is not None
            await process.stdin.aclose()
            with anyio.fail_after(PATIENCE):
                assert await process.wait() == 0
        except BaseException:
            process.kill()
            raise


class Told:
    """Keeps what a watcher was told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._more = anyio.Event()

    def __call__(self, change: Change) -> None:
        self.changes.append(change)
        self._more.set()
        self._more = anyio.Event()

    async def until(self, condition: Any) -> Change:
        with anyio.fail_after(PATIENCE):
            while True:
                for change in self.changes:
                    if condition(change):
                        return change
                await self._more.wait()


async def test_each_sees_at_once_what_the_other_has_acknowledged(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        await store.create("a", NewStream())
        for number in range(20):
            await store.append("a", Append(data=b"%d" % (number % 10)))
            await child.ask("append", "a", "x")
        expected = b"".join(b"%dx" % (number % 10) for number in range(20))
        assert (await store.read("a", START)).data == expected
        assert await child.ask("read", "a") == {"data": expected.decode()}
    assert verify(file) == []


async def test_a_state_that_another_has_changed_is_not_decided_on(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        await store.create("a", NewStream())
        await store.append("a", Append(data=b"0", producer=Producer("p", 0, 0)))
        await child.ask("delete", "a")
        await child.ask("create", "a", None)
        # A new stream of that path: its producers are its own.
        done = await store.append("a", Append(data=b"1", producer=Producer("p", 0, 0)))
        assert not done.duplicate
        assert (await store.read("a", START)).data == b"1"


async def test_what_another_appends_is_told_with_its_bytes(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        await store.create("a", NewStream())
        told = Told()
        stop = store.watch("a", told)
        await child.ask("append", "a", "hello")
        change = await told.until(lambda change: change.tail.position == 5)
        assert change.chunks is not None
        assert [chunk.data for chunk in change.chunks] == [b"hello"]
        assert change.start == START
        await child.ask("close", "a")
        assert (await told.until(lambda change: change.closed)).tail == change.tail
        await child.ask("delete", "a")
        await told.until(lambda change: change.deleted)
        stop()


async def test_what_is_too_long_for_a_datagram_is_told_without_its_bytes(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        await store.create("a", NewStream())
        told = Told()
        stop = store.watch("a", told)
        await child.ask("append", "a", "x" * 40_000)
        change = await told.until(lambda change: change.tail.position == 40_000)
        assert change.chunks is None
        stop()


async def test_a_stream_that_another_creates_is_told(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        told = Told()
        stop = store.watch("later", told)
        await child.ask("create", "later", None)
        await child.ask("append", "later", "x")
        await told.until(lambda change: change.tail.position == 1)
        stop()


async def test_one_that_does_not_listen_for_a_while_misses_nothing(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        await store.create("a", NewStream())
        await child.ask("watch", "a")
        stop_without_lock(child.process.pid, file)
        try:
            # Far more than the socket's queue takes.
            for _ in range(100):
                await store.append("a", Append(data=b"x"))
        finally:
            os.kill(child.process.pid, signal.SIGCONT)
        while (await child.hear())["told"] != 100:
            pass
        await store.append("a", Append(data=b"y"))
        while (await child.hear())["told"] != 101:
            pass


async def test_without_any_datagram_the_file_is_looked_at(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        # A directory in which there can be no socket: something else has its name by now.
        Path(f"{file}-peers").symlink_to("nowhere")
        await store.create("a", NewStream())
        told = Told()
        stop = store.watch("a", told)
        await child.ask("append", "a", "x")
        await told.until(lambda change: change.tail.position == 1)
        stop()


async def test_processes_that_come_by_a_link_share_the_lock_and_the_sockets(
    file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = folder / "link.db"
    link.symlink_to(file)
    async with SQLiteStore(file) as store, other(link) as child:
        await store.create("a", NewStream())
        told = Told()
        stop = store.watch("a", told)
        await child.ask("append", "a", "x")
        await told.until(lambda change: change.tail.position == 1)
        stop()
        assert [each.name for each in folder.iterdir()] == ["link.db"]


async def test_the_socket_of_a_dead_process_is_removed(file: Path) -> None:
    peers = Path(f"{file}-peers")
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        async with other(file) as child:
            await child.ask("watch", "a")
            assert len(list(peers.iterdir())) == 1
            child.process.kill()
            await child.process.wait()
        assert len(list(peers.iterdir())) == 1
        await store.append("a", Append(data=b"x"))
        await store.append("a", Append(data=b"x"))
        assert list(peers.iterdir()) == []


async def test_a_long_directory_is_no_obstacle_to_sockets(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 100] * 3)
    folder.mkdir(parents=True)
    file = folder / "streams.db"
    async with SQLiteStore(file) as store, other(file) as child:
        await store.create("a", NewStream())
        told = Told()
        stop = store.watch("a", told)
        await child.ask("append", "a", "x")
        change = await told.until(lambda change: change.tail.position == 1)
        assert change.chunks is not None
        stop()


async def test_a_process_that_is_killed_loses_nothing_that_it_acknowledged(file: Path) -> None:
    acked = -1
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream())
        async with other(file) as child:
            await child.tell("produce", "a", "p", 100_000)
            while acked < 50:
                acked = (await child.hear())["acked"]
            child.process.kill()
            await child.process.wait()
        data = (await store.read("a", START)).data
        sent = data.decode().split(",")[:-1]
        assert sent == [f"p:{number}" for number in range(len(sent))]
        assert len(sent) > acked
        # It resumes: what was done is a duplicate, and nothing is left out.
        for number in (len(sent) - 1, len(sent)):
            producer = Producer("p", 0, number)
            done = await store.append("a", Append(data=b"p:%d," % number, producer=producer))
            assert done.duplicate == (number < len(sent))
    assert verify(file) == []


async def test_a_watched_stream_lives_in_every_process(file: Path) -> None:
    async with SQLiteStore(file) as store, other(file) as child:
        await store.create("a", NewStream(ttl=1))
        told = Told()
        stop = store.watch("a", told)
        await store.head("a")
        with anyio.move_on_after(1.6):
            await told.until(lambda change: change.deleted)
        # The other one judges by the file alone.
        assert await child.ask("read", "a") == {"data": ""}
        stop()
