"""uvicorn's supervisor of worker processes, quicker after a crash.

uvicorn replaces all workers that are dead at the same moment. When all have died together (the
system was out of memory, a bug met each of them), they import side by side, and nobody serves until
they are nearly done. Here one has the machine to itself until it serves; the others follow.
"""

from __future__ import annotations

from uvicorn.supervisors import Multiprocess

__all__ = ["Workers"]


class Workers(Multiprocess):
    """Worker processes; the arguments are uvicorn's."""

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
