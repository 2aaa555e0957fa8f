"""How uvicorn is run: in this process, or in workers with a supervisor quicker than uvicorn's own.

uvicorn's supervisor asks each worker in turn whether it is alive. If one dies meanwhile, it waits
for the answer until a timeout, because it holds the worker's end of their pipe open. And it
replaces all dead workers at once: they import at the same time, and none serves until nearly all
have started. Here a death is noticed at once. And when no worker serves (the system was out of
memory, or a bug met each of them), one is started alone, and the others when that one serves.
"""

from __future__ import annotations

import contextlib
import inspect
import socket
from typing import Any

import click
import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from tailrace.app import ACCESS_LOGGER

__all__ = ["Workers", "log_config", "run"]

_STARTUP_FAILURE = 3
"""The exit code of a uvicorn that could not start; where uvicorn defines it differs by version."""

_ANSWER = 0.5
"""Seconds in which a worker that serves has to answer that it does."""


def run(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve until the process is told to stop, or a worker cannot start.

    Raises:
        click.ClickException: A worker could not start.
    """
    if config.workers == 1:
        with contextlib.suppress(KeyboardInterrupt):  # raised again after an orderly end
            uvicorn.Server(config).run(sockets=[listener])
        return
    arguments: dict[str, Any] = {"sockets": [listener]}
    if "target" in inspect.signature(Multiprocess).parameters:  # in older versions of uvicorn
        arguments["target"] = uvicorn.Server(config).run
    supervisor = Workers(config, **arguments)
    supervisor.run()
    if any(worker.process.exitcode == _STARTUP_FAILURE for worker in supervisor.processes):
        raise click.ClickException("a worker could not start; the log says why")


class Workers(Multiprocess):
    """uvicorn's supervisor of worker processes, with the differences that the module describes."""

    def keep_subprocess_alive(self) -> None:
        for each in self.processes:
            each.child_conn.close()  # the worker has its own; so the pipe ends when the worker dies
        alive = [each for each in self.processes if each.process.is_alive()]
        if len(alive) < len(self.processes) and not any(map(_serves, alive)):
            self._begin_with(next(iter(alive), self.processes[0]))
        super().keep_subprocess_alive()

    def _begin_with(self, one: Process) -> None:
        others = [each for each in self.processes if each is not one]
        self.processes[:] = [one]
        super().keep_subprocess_alive()  # stops everything if the worker could not start
        first = self.processes[0]
        self.processes += others
        wait_until_ready = getattr(first, "wait_until_ready", None)  # not in older uvicorns
        if wait_until_ready is not None and not self.should_exit.is_set():
            wait_until_ready(self.config.timeout_worker_healthcheck, self.should_exit)


def _serves(worker: Process) -> bool:
    is_ready = getattr(worker, "is_ready", None)  # not in older uvicorns
    return is_ready is None or is_ready(_ANSWER)


def log_config(level: str) -> dict[str, Any]:
    """The logging configuration: access lines go to stdout as they are, all else to stderr."""
    ours = level.upper()
    to_stderr = {"handlers": ["stderr"], "level": ours, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "bare": {"format": "%(message)s"},
            "default": {
                "()": "uvicorn.logging.DefaultFormatter",
                "fmt": "%(levelprefix)s %(message)s",
                "use_colors": None,
            },
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "default",
                "stream": "ext://sys.stderr",
            },
            "stdout": {
                "class": "logging.StreamHandler",
                "formatter": "bare",
                "stream": "ext://sys.stdout",
            },
        },
        "loggers": {
            ACCESS_LOGGER: {"handlers": ["stdout"], "level": ours, "propagate": False},
            "tailrace": to_stderr,
            "uvicorn": to_stderr,
        },
    }
