"""Threads for what blocks, in three sets, apart from the threads that serve `def` endpoints.

anyio's workers would do but for two things. They are not daemons, so one generator that blocks for
ever keeps the process from exiting; and a token of their limiter is given back when the waiting
task is cancelled, though the thread still blocks, so that clients that come and go pile up threads
without a bound.

Three sets, by how long a job may block, so that what is short never waits for what is long:

* sync sources run the application's code, which may sleep or wait for ever;
* files wait for disks, of which one may hang; so does the closing of a store;
* short calls only compute.

There may be thousands of threads because each costs little: its 8 MiB of stack are reserved
addresses, not memory. A thread that sleeps in a generator has touched 20 KiB, whether its stack is
8 MiB or 256 KiB (measured with 2,000 and 4,096 threads). So the size is left alone.
`threading.stack_size` is one number for the process: set around a start, it also applies to threads
that are started elsewhere in the same moment, and the recursion of an application's code may need
the usual size.

Nothing waits for a daemon thread: not `threading._shutdown`, not the exit handlers of
`concurrent.futures`, which never see these. One that wakes up while the interpreter is taken down
stops where it next asks for Python's lock.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, Protocol, TypeVar

from tailrace import limits
from tailrace.runtime.loop import Loop, current_loop

__all__ = [
    "PinnedThread",
    "Threads",
    "Workers",
    "call_in_thread",
    "file_threads",
    "short_threads",
    "source_threads",
]

_IDLE_SECONDS = 10.0
"""How long a thread waits for its next job; as long as anyio's."""

_log = logging.getLogger("tailrace")

Job = Callable[[], None]

T = TypeVar("T")


class Workers(Protocol):
    """Where jobs run."""

    @property
    def queue(self) -> object:
        """The jobs that wait for a thread; true if there are any."""

    def submit(self, job: Job, *, first: bool = False) -> bool:
        """Run a job in a thread, now or when one is free. The job must not raise.

        Args:
            job: What to run; it must not be waiting already.
            first: If it has to wait, it goes before all that wait.

        Returns:
            True if it has a thread; False if it waits in line.

        Raises:
            RuntimeError: There is no thread, and the system gives none.
        """

    def withdraw(self, job: Job) -> bool:
        """Take back a job that still waits in line; False if it runs or has run."""


class Threads:
    """A bounded set of daemon threads. A job that finds none free waits in line: first come, first
    served.

    Args:
        name: Of each thread, before its number.
        what: What they are for, in words for the log.
        limit: Threads at the same time. There may be fewer if the system gives no more.
    """

    def __init__(self, name: str, what: str, limit: int) -> None:
        self.limit = limit
        self.queue: OrderedDict[Job, None] = OrderedDict()
        self._name = name
        self._what = what
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Job]] = []
        self._count = 0
        self._named = 0
        self._warned_at = float("-inf")

    def begin_anew(self) -> None:
        """Forget all threads and jobs; called in a forked child, which has none of the threads."""
        self._lock = threading.Lock()
        self._idle = []
        self.queue = OrderedDict()
        self._count = 0

    @property
    def busy(self) -> int:
        """Threads that run a job now."""
        with self._lock:
            return self._count - len(self._idle)

    def submit(self, job: Job, *, first: bool = False) -> bool:
        with self._lock:
            if self._idle or self._count >= self.limit:
                name = None
                at_once = self._give(job, first=first)
            else:
                self._count += 1
                self._named += 1
                name = f"{self._name}-{self._named}"
                at_once = True
        if name is not None:
            at_once = self._start(name, job, first=first)
        if not at_once:
            self._tell_full()
        return at_once

    def withdraw(self, job: Job) -> bool:
        with self._lock:
            if job not in self.queue:
                return False
            del self.queue[job]
            return True

    def _start(self, name: str, job: Job, *, first: bool) -> bool:
        # Not as an argument: a Thread keeps its arguments alive until it ends.
        inbox: SimpleQueue[Job] = SimpleQueue()
        inbox.put(job)
        try:
            threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True).start()
        except RuntimeError:  # the system has no thread left: those that are there must do
            with self._lock:
                self._count -= 1
                if not self._count:
                    raise
                return self._give(job, first=first)
        return True

    def _give(self, job: Job, *, first: bool) -> bool:
        """Give a job to an idle thread, or put it in line; the caller holds the lock."""
        if self._idle:
            # The thread that went idle last: its stack is still in the cache.
            self._idle.pop().put(job)
            return True
        assert job not in self.queue, "the same job waits already"
        self.queue[job] = None
        if first:
            self.queue.move_to_end(job, last=False)
        return False

    def _tell_full(self) -> None:
        now = monotonic()
        if now < self._warned_at + limits.FULL_TOLD_EVERY:
            return
        self._warned_at = now
        _log.warning(
            "all %d threads for %s are busy, and more calls wait: what waits for long in a thread "
            "should be asynchronous",
            self.busy,
            self._what,
        )

    def _work(self, inbox: SimpleQueue[Job]) -> None:
        job = inbox.get()
        while True:
            job()
            del job  # a job refers to its stream: an idle thread must not keep it alive
            with self._lock:
                if self.queue:
                    job, _ = self.queue.popitem(last=False)
                    continue
                self._idle.append(inbox)
            try:
                job = inbox.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        self._count -= 1
                        return
                job = inbox.get()  # it was put between the time-out and the lock


class PinnedThread:
    """One thread of a set, for all the jobs of one source; held from the first until `release`.

    Args:
        threads: Where it comes from, and goes back to when it is released.
    """

    queue = ()
    """Always empty: its jobs never make room for others, or they would lose their thread."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._held = False

    def submit(self, job: Job, *, first: bool = False) -> bool:
        if self._held:
            self._jobs.put(job)
            return True
        at_once = self._threads.submit(self._serve, first=first)
        self._held = True
        self._jobs.put(job)
        return at_once

    def withdraw(self, job: Job) -> bool:
        if not self._threads.withdraw(self._serve):
            return False
        self._held = False
        self._jobs = SimpleQueue()
        return True

    def release(self) -> None:
        """Give the thread back, once it has run the jobs that it was given."""
        if self._held:
            self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job


source_threads = Threads("tailrace-source", "sync sources", limits.SYNC_SOURCE_THREADS)
"""The process's threads for sync sources."""

file_threads = Threads("tailrace-file", "files", limits.FILE_THREADS)
"""The threads for disks."""

short_threads = Threads("tailrace-short", "short calls", limits.SHORT_CALL_THREADS)
"""The threads for what only computes."""


def _begin_anew() -> None:
    for threads in (source_threads, file_threads, short_threads):
        threads.begin_anew()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_begin_anew)


async def call_in_thread(
    work: Callable[[], T],
    *,
    threads: Threads = short_threads,
    discard: Callable[[T], None] | None = None,
) -> T:
    """Call a function in a thread, and return its result.

    If the task is cancelled, it does not wait: a disk that hangs cannot be interrupted, and must
    not hold the request. If no thread has begun the call by then, it is not made at all.

    Args:
        work: The function; it may block. What it raises is raised here.
        threads: Which threads. The default is for what only computes; disks have their own.
        discard: Called in a thread with the result if the task was cancelled, to close it. Must not
            raise.
    """
    call = _Call(work, current_loop(), threads, discard or _keep_nothing)
    job = call.run
    threads.submit(job)
    try:
        await call.done.wait()
    except BaseException:
        if not threads.withdraw(job):
            call.abandon()
        raise
    return call.result()


class _Call(Generic[T]):
    def __init__(
        self,
        work: Callable[[], T],
        loop: Loop,
        threads: Threads,
        discard: Callable[[T], None],
    ) -> None:
        self.done = loop.signal()
        self._work = work
        self._discard = discard
        self._loop = loop
        self._threads = threads
        self._lock = threading.Lock()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._abandoned = False

    def run(self) -> None:
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
            self._error = error
        else:
            with self._lock:
                abandoned = self._abandoned
                if not abandoned:
                    self._results.append(result)
            if abandoned:
                self._discard(result)
        self._loop.call_from_thread(self.done.set)

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            results, self._results = self._results, []
        for result in results:
            self._threads.submit(partial(self._discard, result))

    def result(self) -> T:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or this frame and the traceback keep each other alive
        return self._results.pop()


def _keep_nothing(_: object) -> None:
    pass
