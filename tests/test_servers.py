from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests import rawhttp
from tests.servers import RunningServer, ServerName, free_port, serve, stop

APP = "tests.apps.plain:app"


def accepts(server: RunningServer) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.slow
def test_each_server_answers_and_is_gone_after_the_block(server_name: ServerName) -> None:
    with serve(APP, server_name) as server:
        reply = rawhttp.request(server.host, server.port, "/")
        assert (reply.status, reply.body, reply.complete) == (200, b"hello", True)
        started = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]

    assert [process for process in started if process.is_running()] == []
    assert not accepts(server)


@pytest.mark.slow
def test_the_worker_is_the_process_that_runs_the_application(
    shared_server: Callable[..., RunningServer], server_name: ServerName
) -> None:
    server = shared_server(APP, server_name)
    reply = rawhttp.request(server.host, server.port, "/pid")
    assert int(reply.body) == server.worker.pid


@pytest.mark.slow
def test_a_body_that_fails_is_seen_to_be_cut(
    shared_server: Callable[..., RunningServer], server_name: ServerName
) -> None:
    server = shared_server(APP, server_name)
    reply = rawhttp.request(server.host, server.port, "/cut")
    assert not reply.complete


def test_a_server_ends_when_its_test_fails() -> None:
    with pytest.raises(ZeroDivisionError), serve(APP) as server:
        1 / 0  # noqa: B018 - the failure is the point
    assert not psutil.pid_exists(server.pid)
    assert not accepts(server)


def test_a_server_that_cannot_start_shows_its_log() -> None:
    with pytest.raises(RuntimeError, match="no_such_app"), serve("tests.apps.plain:no_such_app"):
        pass


def test_the_log_and_the_options_reach_the_test() -> None:
    with serve(APP, env={"UVICORN_ACCESS_LOG": "1"}, log_level="debug") as server:
        rawhttp.request(server.host, server.port, "/found-in-the-log")
        assert "/found-in-the-log" in server.log


def test_an_option_that_is_false_is_left_out() -> None:
    with serve(APP, reload=False, no_access_log=True) as server:
        rawhttp.request(server.host, server.port, "/not-in-the-log")
        assert "/not-in-the-log" not in server.log


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    code = (
        "import signal, sys; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()  # from this line on it ignores the signal
    stop(process, grace=0.05)
    assert process.returncode == -signal.SIGKILL


def test_what_the_process_forked_ends_with_it() -> None:
    code = "import os, signal\nif pid := os.fork(): print(pid, flush=True)\nsignal.pause()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        child = psutil.Process(int(process.stdout.readline()))
    stop(process)
    assert process.returncode == -signal.SIGTERM
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_free_port_is_outside_the_range_of_outgoing_connections() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        lowest = int(file.read().split()[0])
    assert 1024 < free_port() < lowest
