from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tailrace.errors import InvalidOption, RunEnded, StreamClosed, StreamNotFound
from tailrace.store import MemoryStore, Producer, Retention
from tailrace.streams import Grace, SyncStreams
from tailrace.streams.subscribers import OnDisconnect
from tailrace.testing import no_leaks

PATIENCE = 20.0
"""Real seconds that a thread or a process is waited for."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/streams.db"


@pytest.fixture
def streams(url: str) -> Iterator[SyncStreams]:
    with SyncStreams(url) as streams:
        yield streams


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def data_of(streams: SyncStreams, path: str, start: str = "start") -> list[Any]:
    return [message.data for message in streams.read(path, start)]


# Verbs -------------------------------------------------------------------------------------------


def test_the_verbs_are_those_of_streams(streams: SyncStreams) -> None:
    assert streams.create("s", ttl=60)
    first = streams.append("s", {"n": 1})
    streams.append("s", {"n": 2}, producer=Producer("p", 0, 0))
    streams.append("s", {"n": 2}, producer=Producer("p", 0, 0))
    assert data_of(streams, "s") == [{"n": 1}, {"n": 2}]
    assert data_of(streams, "s", first) == [{"n": 2}]
    assert streams.head("s").ttl == 60
    assert streams.fork("f", "s", first)
    assert data_of(streams, "f") == [{"n": 1}]
    assert [info.path for info in streams.list()] == ["f", "s"]
    streams.close("s")
    with pytest.raises(StreamClosed):
        streams.append("s", 3)
    streams.delete("f")
    with pytest.raises(StreamNotFound):
        streams.head("f")
    assert not streams.stop("s")
    streams.check()


def test_publish_creates_a_channel(streams: SyncStreams) -> None:
    retention = Retention(max_records=3)
    for n in range(20):
        streams.publish("ticker", n, retention=retention)
    assert streams.head("ticker").retention == retention
    assert data_of(streams, "ticker")[-1] == 19


def test_an_unknown_url_is_told_where_it_was_written() -> None:
    with pytest.raises(InvalidOption):
        SyncStreams("mysql://x")


def test_a_store_of_its_own_is_opened_in_its_event_loop() -> None:
    with SyncStreams(MemoryStore()) as streams:
        streams.append("s", 1)
        streams.shutdown()
        streams.append("s", 2)
        assert data_of(streams, "s") == [1, 2]


def test_nothing_is_left_when_it_is_shut_down(url: str) -> None:
    with no_leaks():
        with SyncStreams(url) as streams:
            streams.append("s", 1)
            streams.run("r", range(10)).wait()
        streams.shutdown()


def test_it_opens_again_after_it_was_shut_down(streams: SyncStreams) -> None:
    streams.append("s", 1)
    streams.shutdown()
    streams.append("s", 2)
    assert data_of(streams, "s") == [1, 2]


def test_many_threads_append_at_once(streams: SyncStreams) -> None:
    def append(worker: int) -> None:
        for n in range(10):
            streams.append("s", [worker, n])

    threads = [in_thread(partial(append, worker)) for worker in range(8)]
    for thread in threads:
        thread.join(PATIENCE)
    found = data_of(streams, "s")
    assert len(found) == 80
    for worker in range(8):
        assert [n for who, n in found if who == worker] == list(range(10))


# Iterating ---------------------------------------------------------------------------------------


def test_follow_gives_what_comes_until_the_stream_is_closed(streams: SyncStreams) -> None:
    streams.append("s", 0)
    seen: list[Any] = []
    thread = in_thread(lambda: seen.extend(m.data for m in streams.read("s", follow=True)))
    for n in range(1, 50):
        streams.append("s", n)
    streams.close("s")
    thread.join(PATIENCE)
    assert seen == list(range(50))


def test_close_ends_an_iterator_that_waits_in_another_thread(streams: SyncStreams) -> None:
    streams.append("s", 1)
    got_one = threading.Event()
    reader = streams.read("s", follow=True)

    def read() -> None:
        for _ in reader:
            got_one.set()

    thread = in_thread(read)
    assert got_one.wait(PATIENCE)
    reader.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    reader.close()
    assert list(reader) == []


def test_an_iterator_is_left_by_its_block(streams: SyncStreams) -> None:
    streams.append("s", 1)
    with streams.read("s", follow=True) as messages:
        for message in messages:
            assert message.data == 1
            break
    assert list(messages) == []


def test_shutdown_ends_an_iterator_that_waits(streams: SyncStreams) -> None:
    streams.append("s", 1)
    got_one = threading.Event()

    def read() -> None:
        for _ in streams.read("s", follow=True):
            got_one.set()

    thread = in_thread(read)
    assert got_one.wait(PATIENCE)
    streams.shutdown()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_an_iterator_raises_what_went_wrong(streams: SyncStreams) -> None:
    with pytest.raises(StreamNotFound):
        data_of(streams, "none")


# Runs --------------------------------------------------------------------------------------------


def test_a_run_of_a_generator(streams: SyncStreams) -> None:
    def rows() -> Iterator[int]:
        yield from range(1000)

    run = streams.run("rows", rows())
    run.wait()
    assert run.status == "done"
    assert [message.data for message in run] == list(range(1000))


def test_a_run_is_stopped_from_another_thread(streams: SyncStreams) -> None:
    begun, closed = threading.Event(), threading.Event()

    def endless() -> Iterator[int]:
        try:
            begun.set()  # before that there is nothing to be closed
            while True:
                time.sleep(0.01)
                yield 1
        finally:
            closed.set()

    run = streams.run("endless", endless())
    assert begun.wait(PATIENCE)
    in_thread(run.stop).join(PATIENCE)
    with pytest.raises(RunEnded, match="it was stopped"):
        run.wait()
    assert closed.wait(PATIENCE)


@pytest.mark.parametrize("policy", ["cancel", Grace(0.01)])
def test_a_reader_that_is_dropped_in_another_thread_leaves_in_the_event_loop(
    streams: SyncStreams, policy: OnDisconnect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")  # the loop refuses to be touched by a thread

    async def source() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep_forever()

    run = streams.run("dropped", source(), on_disconnect=policy)
    for message in run:
        assert message.data == 1
        break
    gc.collect()
    with pytest.raises(RunEnded, match="its last client has left"):
        run.wait()


def test_a_run_fails_as_its_source_does(
    streams: SyncStreams, caplog: pytest.LogCaptureFixture
) -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError

    with pytest.raises(RunEnded, match="failed"):
        streams.run("failing", failing()).wait()


# Processes ---------------------------------------------------------------------------------------


def _append_in_child(streams: SyncStreams) -> None:
    streams.append("s", "child")
    os._exit(0)


@pytest.mark.posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_that_was_forked_before_the_first_call_has_streams_of_its_own(url: str) -> None:
    # As Celery does: what is made at module level is used in the workers only.
    streams = SyncStreams(url)
    child = multiprocessing.get_context("fork").Process(target=_append_in_child, args=(streams,))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    with streams:
        streams.append("s", "parent")
        assert data_of(streams, "s") == ["child", "parent"]


FORGETFUL = """
import sys
from tailrace.streams import Grace, SyncStreams
from tailrace.streams.subscribers import OnDisconnect
streams = SyncStreams(sys.argv[1])
streams.append("s", 1)
streams.run("r", iter(lambda: __import__("time").sleep(0.01), 1))
reader = streams.read("s", follow=True)
next(reader)
print("done")
"""


@pytest.mark.slow
def test_a_script_that_forgets_to_shut_down_ends(url: str) -> None:
    script = subprocess.run(
        [sys.executable, "-c", FORGETFUL, url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (script.stdout, script.returncode) == ("done\n", 0), script.stderr


# A source that exits -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_source_that_exits_ends_its_own_run_and_no_other(
    streams: SyncStreams, kind: type[BaseException]
) -> None:
    gate = threading.Event()

    def waits() -> Iterator[int]:
        yield 1
        assert gate.wait(PATIENCE)
        yield 2

    def exits() -> Iterator[int]:
        yield 1
        raise kind

    other = streams.run("other", waits())
    run = streams.run("exits", exits())
    with pytest.raises(RunEnded, match="failed"):
        run.wait()
    streams.append("notes", 1)
    gate.set()
    other.wait()
    streams.run("later", [1]).wait()
    assert data_of(streams, "other") == [1, 2]
