"""The threads that sync sources run in: apart from those that serve `def` endpoints.

anyio's workers would do but for two things. They are not daemons, so one generator that blocks for
ever keeps the process from exiting; and a token of their limiter is given back when the waiting
task is cancelled, though the thread still blocks, so that clients who come and go pile up threads
without a bound.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from tailrace import limits

__all__ = ["Threads", "source_threads"]

_IDLE_SECONDS = 10.0
"""How long a thread waits for its next job; as long as anyio's."""

Job = Callable[[], None]


class Threads:
    """A bounded set of daemon threads. What finds none free waits in line, first come first served.

    Args:
        limit: Threads at the same time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Job]] = []
        self._waiting: deque[Job] = deque()
        self._count = 0
        self._named = 0

    def begin_anew(self) -> None:
        """Forget all threads and jobs: in a child that was forked, where there are none."""
        self._lock = threading.Lock()
        self._idle = []
        self._waiting = deque()
        self._count = 0

    @property
    def busy(self) -> int:
        """Threads that run a job now."""
        with self._lock:
            return self._count - len(self._idle)

    def submit(self, job: Job) -> None:
        """Run a job in a thread, now or when one is free. The job must not raise."""
        with self._lock:
            if self._idle:
                # The thread that went idle last: its stack is still in the cache.
                self._idle.pop().put(job)
                return
            if self._count >= self.limit:
                self._waiting.append(job)
                return
            self._count += 1
            self._named += 1
            name = f"tailrace-source-{self._named}"
        # Not as an argument: a Thread keeps its arguments alive until it ends.
        inbox: SimpleQueue[Job] = SimpleQueue()
        inbox.put(job)
        try:
            threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True).start()
        except RuntimeError:  # the system has no thread left
            with self._lock:
                self._count -= 1
            raise

    def withdraw(self, job: Job) -> bool:
        """Take back a job that still waits in line; False if it runs or has run."""
        with self._lock:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
            return True

    def _work(self, inbox: SimpleQueue[Job]) -> None:
        job = inbox.get()
        while True:
            job()
            del job  # a job refers to its stream: an idle thread must not keep it alive
            with self._lock:
                if self._waiting:
                    job = self._waiting.popleft()
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


source_threads = Threads(limits.SYNC_SOURCE_THREADS)
"""The process's threads for sync sources."""

if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=source_threads.begin_anew)
