"""uvicorn's supervisor of worker processes, quicker after a crash.

uvicorn looks every half second whether its workers live, and replaces all that are dead at the same
moment. When all have died together (the system was out of memory, a bug met each of them), nobody
serves until the slowest import of several at once is done. Here a death is seen at once, and then
one worker has the machine to itself until it serves; the others follow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

__all__ = ["Workers"]


class Workers(Multiprocess):
    """Worker processes; the arguments are uvicorn's."""

    def __init__(self, config: uvicorn.Config, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        self.should_exit = _ExitOrDeath(lambda: [each.process.sentinel for each in self.processes])

    def keep_subprocess_alive(self) -> None:
        if not any(each.process.is_alive() for each in self.processes):
            self._begin_with_one()
        super().keep_subprocess_alive()

    def _begin_with_one(self) -> None:
        others = self.processes[1:]
        del self.processes[1:]
        super().keep_subprocess_alive()  # stops all, if the worker could not even start
        first = self.processes[0]
        self.processes += others
        wait_until_ready = getattr(first, "wait_until_ready", None)  # older ones have none
        if wait_until_ready is not None and not self.should_exit.is_set():
            wait_until_ready(self.config.timeout_worker_healthcheck, self.should_exit)


class _ExitOrDeath(threading.Event):
    """An event whose wait ends also when a process does.

    Args:
        sentinels: Of the processes.
    """

    def __init__(self, sentinels: Callable[[], list[int]]) -> None:
        super().__init__()
        self._sentinels = sentinels

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            wait(self._sentinels(), timeout)
        return self.is_set()
