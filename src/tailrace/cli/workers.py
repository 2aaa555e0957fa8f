"""uvicorn's supervisor of worker processes, quicker after a crash.

uvicorn asks each worker in turn whether it is well. It waits for the answer of one that dies
meanwhile until its time is up, since it holds the worker's end of their pipe open; and it replaces
all that are dead at the same moment, so that they import side by side, and nobody serves until they
are nearly done. Here a death is heard at once; and as long as nobody serves (the system was out of
memory, a bug met each of them), one has the machine to itself until it does, and the others follow.
"""

from __future__ import annotations

from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

__all__ = ["Workers"]

_ANSWER = 0.5
"""Seconds in which a worker that serves says so."""


class Workers(Multiprocess):
    """Worker processes; the arguments are uvicorn's."""

    def keep_subprocess_alive(self) -> None:
        for each in self.processes:
            each.child_conn.close()  # the worker has its own: without it, the pipe has an end
        alive = [each for each in self.processes if each.process.is_alive()]
        if len(alive) < len(self.processes) and not any(map(_serves, alive)):
            self._begin_with(next(iter(alive), self.processes[0]))
        super().keep_subprocess_alive()

    def _begin_with(self, one: Process) -> None:
        others = [each for each in self.processes if each is not one]
        self.processes[:] = [one]
        super().keep_subprocess_alive()  # stops all, if the worker could not even start
        first = self.processes[0]
        self.processes += others
        wait_until_ready = getattr(first, "wait_until_ready", None)  # older ones have none
        if wait_until_ready is not None and not self.should_exit.is_set():
            wait_until_ready(self.config.timeout_worker_healthcheck, self.should_exit)


def _serves(worker: Process) -> bool:
    is_ready = getattr(worker, "is_ready", None)  # older ones have none
    return is_ready is None or is_ready(_ANSWER)
