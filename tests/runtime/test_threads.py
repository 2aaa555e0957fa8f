from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from tailrace import limits
from tailrace.runtime import Threads, call_in_thread, source_threads, threads
from tailrace.runtime.threads import PinnedThread
from tailrace.source import OpenFile, open_file
from tailrace.testing import no_leaks, wait_until


def until(condition: Callable[[], object]) -> None:
    """Wait until a thread has made something true."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends, "it did not become true"
        threading.Event().wait(0.0005)


def of(limit: int) -> Threads:
    return Threads("tailrace-test", "tests", limit)


@contextmanager
def blocked(pool: Threads, count: int) -> Iterator[threading.Event]:
    """So many of the threads are busy until the event is set, or the block ends."""
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def job() -> None:
        begun.release()
        go_on.wait(10)

    for _ in range(count):
        pool.submit(partial(job))
    for _ in range(count):
        assert begun.acquire(timeout=10)
    try:
        yield go_on
    finally:
        go_on.set()
        until(lambda: pool.busy == 0)


def ran_in(pool: Threads) -> threading.Thread:
    """The thread that a job was run in, idle again."""
    seen: list[threading.Thread] = []
    pool.submit(lambda: seen.append(threading.current_thread()))
    until(lambda: seen)
    until(lambda: pool.busy == 0)
    return seen[0]


def test_a_job_runs_in_a_daemon_thread_with_a_name_of_its_own() -> None:
    thread = ran_in(of(1))
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name.startswith("tailrace-test-")


def test_an_idle_thread_is_taken_again() -> None:
    pool = of(5)
    assert ran_in(pool) is ran_in(pool)


def test_a_second_thread_is_made_while_the_first_is_busy() -> None:
    pool = of(2)
    with blocked(pool, 1):
        other: list[threading.Thread] = []
        pool.submit(lambda: other.append(threading.current_thread()))
        until(lambda: other)
        until(lambda: pool.busy == 1)
    assert ran_in(pool) is not None


def test_there_are_as_many_threads_as_the_limit_and_never_more() -> None:
    pool = of(3)
    together = threading.Barrier(3, timeout=10)
    done = threading.Semaphore(0)
    seen: set[int] = set()

    def job() -> None:
        together.wait()
        seen.add(threading.get_ident())
        together.wait()
        done.release()

    for _ in range(30):
        pool.submit(partial(job))
    for _ in range(30):
        assert done.acquire(timeout=10)
    assert len(seen) == 3


def test_what_finds_no_thread_free_waits_in_line() -> None:
    pool = of(1)
    order: list[int] = []
    with blocked(pool, 1) as go_on:
        for number in range(5):
            pool.submit(lambda number=number: order.append(number))  # type: ignore[misc] # a job
        assert order == []
        assert pool.busy == 1
        go_on.set()
        until(lambda: len(order) == 5)
    assert order == [0, 1, 2, 3, 4]


def test_a_job_that_waits_in_line_can_be_taken_back() -> None:
    pool = of(1)
    ran: list[str] = []

    def first() -> None:
        ran.append("first")

    def second() -> None:
        ran.append("second")

    with blocked(pool, 1):
        pool.submit(first)
        pool.submit(second)
        assert pool.withdraw(first)
        assert not pool.withdraw(first)
    until(lambda: ran)
    assert ran == ["second"]


def test_a_job_that_runs_or_has_run_cannot_be_taken_back() -> None:
    pool = of(1)
    begun, go_on = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        go_on.wait(10)

    pool.submit(job)
    assert begun.wait(10)
    assert not pool.withdraw(job)
    go_on.set()
    until(lambda: pool.busy == 0)
    assert not pool.withdraw(job)


def test_an_idle_thread_ends_and_another_is_made_when_there_is_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.001)
    pool = of(1)
    first = ran_in(pool)
    first.join(10)
    assert not first.is_alive()
    assert ran_in(pool) is not first


def test_work_that_comes_while_threads_end_is_never_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.0)
    pool = of(2)
    done = threading.Semaphore(0)
    for _ in range(500):
        pool.submit(lambda: done.release())
    for _ in range(500):
        assert done.acquire(timeout=10)


def test_a_job_that_comes_as_a_thread_ends_is_run_by_that_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.0)
    pool = of(1)
    seen: list[threading.Thread] = []

    def job() -> None:
        seen.append(threading.current_thread())

    class Late:
        """The pool's lock. Its thread, which is about to end, gets it after another job was put."""

        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.entered = 0

        def __enter__(self) -> None:
            if threading.current_thread() in seen:
                self.entered += 1
                if self.entered == 2:  # the first is behind the job, the second behind the wait
                    other = threading.Thread(target=pool.submit, args=(job,))
                    other.start()
                    other.join(10)
            self.lock.acquire()

        def __exit__(self, *raised: object) -> None:
            self.lock.release()

    monkeypatch.setattr(pool, "_lock", Late())
    pool.submit(job)
    until(lambda: len(seen) == 2)
    assert seen[0] is seen[1]
    seen[0].join(10)
    assert ran_in(pool) is not seen[0]


class Job:
    """A job that can be watched."""

    def __call__(self) -> None:
        pass


def test_an_idle_thread_does_not_keep_its_last_job_alive() -> None:
    pool = of(1)
    for _ in range(2):  # a thread's first job, and one that it was given later
        job = Job()
        watched = weakref.ref(job)
        pool.submit(job)
        del job
        until(lambda: pool.busy == 0)
        gc.collect()
        assert watched() is None


def test_a_thread_that_cannot_be_started_is_not_counted() -> None:
    pool = of(1)
    before = threading.stack_size()
    threading.stack_size(1 << 46)  # more than any address space: the system refuses
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(lambda: None)
    finally:
        threading.stack_size(before)
    assert pool.busy == 0
    assert ran_in(pool).daemon


def test_a_thread_that_cannot_be_started_is_done_without_if_there_are_others() -> None:
    pool = of(5)
    ran: list[str] = []
    with blocked(pool, 1):
        before = threading.stack_size()
        threading.stack_size(1 << 46)
        try:
            assert not pool.submit(lambda: ran.append("ran"))
        finally:
            threading.stack_size(before)
        assert len(pool.queue) == 1
    until(lambda: ran)


def test_what_has_a_thread_at_once_is_told_from_what_waits() -> None:
    pool = of(1)
    with blocked(pool, 1):
        assert not pool.submit(lambda: None)
        assert pool.queue
    assert not pool.queue
    assert pool.submit(lambda: None)


def test_what_ends_something_goes_before_what_waits_longer() -> None:
    pool = of(1)
    order: list[str] = []
    with blocked(pool, 1):
        pool.submit(lambda: order.append("begins"))
        pool.submit(lambda: order.append("ends"), first=True)
    until(lambda: len(order) == 2)
    assert order == ["ends", "begins"]


def test_a_full_set_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    pool = of(1)
    with blocked(pool, 1):
        for _ in range(3):
            pool.submit(lambda: None)
    (line,) = caplog.records
    assert line.getMessage().startswith("all 1 threads for tests are busy, and more calls wait")
    assert line.levelname == "WARNING"


def test_a_pinned_thread_runs_all_jobs_until_it_is_released() -> None:
    pool = of(2)
    pinned = PinnedThread(pool)
    seen: list[int] = []

    def job() -> None:
        seen.append(threading.get_ident())

    for count in range(1, 4):
        pinned.submit(job)
        until(lambda count=count: len(seen) == count)  # type: ignore[misc] # a condition
        ran_in_another = ran_beside(pool)
        assert ran_in_another.ident not in seen
    assert len(set(seen)) == 1
    assert pool.busy == 1
    pinned.release()
    until(lambda: pool.busy == 0)


def ran_beside(pool: Threads) -> threading.Thread:
    found: list[threading.Thread] = []
    pool.submit(lambda: found.append(threading.current_thread()))
    until(lambda: found)
    return found[0]


def test_a_pinned_thread_that_was_never_had_holds_nothing() -> None:
    pool = of(1)
    pinned = PinnedThread(pool)
    with blocked(pool, 1):
        job = Job()
        assert not pinned.submit(job)
        assert pinned.withdraw(job)
        pinned.release()
    assert not pool.queue
    assert ran_in(pool)


def test_a_job_that_runs_in_a_pinned_thread_cannot_be_taken_back() -> None:
    pool = of(1)
    pinned = PinnedThread(pool)
    ran: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        go_on.wait(10)

    pinned.submit(job)
    assert begun.wait(10)
    assert not pinned.withdraw(job)
    pinned.submit(lambda: ran.append("in the same thread"))
    go_on.set()
    until(lambda: ran)
    pinned.release()
    until(lambda: pool.busy == 0)


def test_the_process_has_as_many_as_the_limit_says() -> None:
    assert source_threads.limit == limits.SYNC_SOURCE_THREADS


@pytest.mark.posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_that_was_forked_has_threads_of_its_own() -> None:
    ran_in(source_threads)  # now one is idle here, and in the child there is none
    child = os.fork()
    if child == 0:
        ran = threading.Event()
        source_threads.submit(ran.set)
        os._exit(0 if ran.wait(10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.anyio
async def test_a_call_gives_what_its_function_gives() -> None:
    async with no_leaks():
        name = await call_in_thread(lambda: threading.current_thread().name)
    assert name.startswith("tailrace-short")


@pytest.mark.anyio
async def test_a_call_raises_what_its_function_raises() -> None:
    async with no_leaks():
        with pytest.raises(ZeroDivisionError):
            await call_in_thread(lambda: 1 / 0)


@pytest.mark.anyio
async def test_a_cancelled_call_is_not_waited_for_and_its_result_is_discarded(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a"
    path.touch()
    begun, go_on = threading.Event(), threading.Event()
    discarded: list[OpenFile] = []

    def slow_open() -> OpenFile:
        begun.set()
        go_on.wait()
        return open_file(str(path))

    def discard(file: OpenFile) -> None:
        file.close()
        discarded.append(file)

    async with no_leaks():
        async with anyio.create_task_group() as group:
            group.start_soon(partial(call_in_thread, slow_open, discard=discard))
            await wait_until(begun.is_set)
            group.cancel_scope.cancel()
        assert not discarded
        go_on.set()
        while not discarded:
            await anyio.sleep(0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(discarded[0].descriptor)


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_while_it_waits_for_a_thread_is_not_made() -> None:
    pool = of(1)
    with blocked(pool, 1):
        async with anyio.create_task_group() as group:
            call = partial(call_in_thread, lambda: pytest.fail("it was cancelled"), threads=pool)
            group.start_soon(call)
            await wait_until(lambda: pool.queue)
            group.cancel_scope.cancel()
        assert not pool.queue
    assert ran_in(pool)


@pytest.mark.anyio
async def test_a_result_that_comes_together_with_a_cancellation_is_discarded() -> None:
    pool = of(1)
    go_on = threading.Event()
    discarded: list[str] = []

    def work() -> str:
        go_on.wait(10)
        return "result"

    async with anyio.create_task_group() as group:
        group.start_soon(partial(call_in_thread, work, threads=pool, discard=discarded.append))
        await wait_until(lambda: pool.busy)
        go_on.set()
        until(lambda: pool.busy == 0)  # the loop, held here, has not yet seen the result
        group.cancel_scope.cancel()
    until(lambda: discarded)
    assert discarded == ["result"]
