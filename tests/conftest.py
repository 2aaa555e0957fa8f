"""Settings and checks for every test and for the whole run.

A run does not depend on the signals of the process that started it: if a shell starts a job with
`&`, SIGINT is ignored in the job and in every child. And a run leaves no processes behind: a test
that was ended by its time limit may not have reached its own cleanup.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from types import ModuleType
from typing import Any

import anyio
import psutil
import pytest
from hypothesis import settings

from tailrace.runtime import current_loop

pytest_plugins = ["tailrace.testing.plugin", "tests.browser.chromium", "tests.server_fixtures"]

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
if hasattr(signal, "SIGHUP"):  # taken away by `tests.machines`
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

# No deadline: an example that takes long shows only that the machine is busy.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

TEST_TIMEOUT = 120.0
"""Seconds that an async test may take. It is less than the `timeout` of pytest-timeout, which
raises within the event loop: trio does not survive that, and the tests after it hang as well."""


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Limit the time of an async test with a cancel scope; another plugin then calls the test."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        marker = pyfuncitem.get_closest_marker("timeout")
        pyfuncitem.obj = bounded(pyfuncitem.obj, 0.8 * marker.args[0] if marker else TEST_TIMEOUT)
    return (yield)


def bounded(test: Callable[..., Awaitable[None]], timeout: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(**fixtures: Any) -> None:
        with anyio.CancelScope() as scope:
            # The time of a thread: the event loop's clock may stand still, if the test moves it.
            alarm = threading.Timer(timeout, current_loop().call_from_thread, [scope.cancel])
            alarm.daemon = True
            alarm.start()
            try:
                await test(**fixtures)
            finally:
                alarm.cancel()
        if scope.cancelled_caught:
            pytest.fail(f"it was not over after {timeout:g} s")

    return run


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses by the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start a server as slow, and run files with slow tests first.

    If two processes share the files, both are then done at about the same time.
    """
    for item in items:
        if isinstance(item, pytest.Function) and starts_a_server(item):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


SERVING = {"tests.servers", "tests.cli.running_demo", "tests.cli.running_serve"}
"""The modules of tests that start a server, or a command that serves."""


def starts_a_server(test: pytest.Function) -> bool:
    """Whether a test starts a server: its fixtures and the imports of its file tell."""
    if not {"shared_server", "server_name"}.isdisjoint(test.fixturenames):
        return True
    return file_serves(test.module)


@functools.cache
def file_serves(module: ModuleType) -> bool:
    return any(getattr(value, "__module__", None) in SERVING for value in vars(module).values())


def pytest_collection_finish() -> None:
    """Let the garbage collector ignore all objects that exist now.

    `no_leaks` walks over every object that the collector tracks, twice for each block. A million of
    them are modules and collected tests, which live until the end. Without this, a block takes half
    a second longer.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the processes that tests have left behind, and fail the run if there are any."""
    if hasattr(session.config, "workerinput"):
        return  # the main process of `pytest -n` looks at the processes of all workers
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    left = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        if not is_worker(process)
    ]
    for process in left:
        reporter.write_line(f"left behind by a test: {process.pid} {' '.join(process.cmdline())}")
        process.kill()
    psutil.wait_procs(left, timeout=10)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a worker of `pytest -n`, which runs a part of the tests."""
    return process.ppid() == os.getpid() and any("execnet" in part for part in process.cmdline())
