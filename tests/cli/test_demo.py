"""`tailrace demo`: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from tailrace.cli import main
from tests.cli.running_demo import TAILRACE, running_demo


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def run(*arguments: str) -> object:
    """The exit code of `tailrace` with these arguments, in this process."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def is_one_line(text: str) -> bool:
    return text.startswith("tailrace: ") and text.count("\n") == 1 and text.endswith("\n")


def test_version_is_the_one_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"tailrace, version {version('tailrace')}\n"


def test_help_tells_the_options_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--help") == 0
    text = capsys.readouterr().out
    assert re.search(r"--host .*127\.0\.0\.1", text)
    assert re.search(r"--port .*8000", text, re.DOTALL)


def test_without_a_command_it_tells_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["demo", "--port", "http"], "'http'"),
        (["demo", "--port", "-1"], "-1"),
        (["demo", "--port", "65536"], "65536"),
        (["demo", "--port"], "--port"),
        (["demo", "--colour"], "--colour"),
        (["demo", "extra"], "extra"),
        (["dmeo"], "dmeo"),
        (["--colour"], "--colour"),
    ],
)
def test_a_wrong_use_is_refused_in_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert run(*arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert is_one_line(written.err)
    assert named in written.err


def test_a_port_in_use_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], taken_port: int
) -> None:
    assert run("demo", "--port", str(taken_port)) == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert f"127.0.0.1 port {taken_port}: Address already in use" in error
    named = re.search(r"; port (\d+) is free$", error.strip())
    assert named is not None
    socket.create_server(("127.0.0.1", int(named[1]))).close()


def test_a_public_address_is_refused_unless_it_is_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("demo", "--host", "0.0.0.0", "--port", "0") == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert "other machines can reach 0.0.0.0" in error
    assert "--allow-remote" in error


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",  # RFC 5737: nobody's address
        "no.such.host.invalid",
        "a" * 70,  # longer than a name's label may be
    ],
)
def test_a_host_that_is_not_this_machine_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert run("demo", "--host", host) == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert host in error


@pytest.mark.parametrize("missing", ["click", "uvicorn"])
def test_without_the_extra_it_names_the_install_command(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from tailrace.cli import main; main([])"
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert end.returncode == 2
    assert end.stderr == (f'tailrace: {missing} is not installed: pip install "tailrace[server]"\n')


def test_the_command_is_installed() -> None:
    end = subprocess.run([TAILRACE, "--version"], capture_output=True, text=True, timeout=30)
    assert end.returncode == 0


def test_it_serves_at_the_address_that_it_prints() -> None:
    with running_demo() as demo:
        assert demo.said == f"The tour is on {demo.url} (Ctrl-C stops it)\n"
        assert demo.url == f"http://127.0.0.1:{demo.port}"
        connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=10)
        connection.request("GET", "/numbers")
        assert connection.getresponse().read() == b"".join(b"Number %d\n" % n for n in range(1, 6))
        connection.close()


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_ctrl_c_with_a_page_open_writes_nothing(twice: bool) -> None:
    with running_demo() as demo, contextlib.ExitStack() as stack:
        for path in ("/camera", "/progress", "/report/somebody", "/ticker"):
            connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=10)
            stack.callback(connection.close)
            connection.request("GET", path, headers={"accept": "text/event-stream"})
            response = connection.getresponse()
            assert response.read(1)
        demo.process.send_signal(signal.SIGINT)
        if twice:
            response.read()  # the farewell: the camera, which knows none, still has its second
            demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(15) == 0
        assert demo.process.stderr is not None
        assert demo.process.stderr.read() == ""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_ends_in_order_though_a_stream_is_open(sent: signal.Signals, code: int) -> None:
    with running_demo() as demo:
        connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=10)
        connection.request("GET", "/ticker")
        response = connection.getresponse()
        assert response.readline().startswith((b"id:", b"data:"))
        demo.process.send_signal(sent)
        assert b"retry:" in response.read()  # the farewell, and a clean end
        assert demo.process.wait(10) == code
        connection.close()
