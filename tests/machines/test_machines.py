"""What runs on macOS and on Windows, with what they lack taken away from the Python here."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, stop

SHORT = {
    # The whole of it runs by hand: `python -m tests.machines`.
    "windows": ("tests/source/test_file.py", "tests/testing/test_order.py"),
    "macos": ("tests/source/test_file.py", "tests/store/sqlite/test_peers.py"),
}

APPLICATION = """\
/text b'0 1 2 '
/events b'data: one\\n\\n'
/rows b'{"a":1}\\n'
/film b'0123\\r\\n\\x1a789'
/run b'1\\n2\\n'
range b'\\r\\n\\x1a7'
written <Response [201 Created]>
sync ['synchronously']
tour 780000 True
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
COMMAND = "from tailrace.cli import main; main()"


def on(system: str, code: str) -> list[str]:
    """A command that runs code where what a system lacks is taken away."""
    prepare = f"from tests.machines.lacking import become; become({system!r})"
    return [sys.executable, "-c", f"{prepare}\n{code}"]


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=140
    )


@contextlib.contextmanager
def running(*command: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process, and what it says first; it is ended with the block."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        text=True,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], 30)
            yield process, process.stdout.readline() if ready else ""
        finally:
            stop(process)


def url_in(said: str) -> str:
    return next(word for word in said.split() if "://" in word)


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as reply:
        body: bytes = reply.read()
        return body


@pytest.mark.parametrize("system", SHORT)
def test_the_tests_of_what_differs_pass(system: str) -> None:
    quiet = ("-q", "-p", "no:cacheprovider")
    end = run(sys.executable, "-m", "tests.machines", system, *SHORT[system], *quiet)
    assert end.returncode == 0, end.stdout


@pytest.mark.parametrize("system", SHORT)
def test_an_application_works(tmp_path: Path, system: str) -> None:
    end = run(sys.executable, "-m", "tests.machines.application", system, cwd=tmp_path)
    assert (end.stdout, end.returncode) == (2 * APPLICATION, 0), end.stderr


OPEN = """
import anyio, sys
from tailrace import Streams
async def main():
    async with Streams("sqlite:///streams.db") as streams:
        await streams.append("a", "x")
        print("open", flush=True)
        sys.stdin.read()
anyio.run(main)
"""


def test_on_windows_a_store_is_for_one_process_and_the_next_may_have_it(tmp_path: Path) -> None:
    command = on("windows", OPEN)
    with running(*command, cwd=tmp_path) as (first, said):
        assert said == "open\n"
        second = run(*command, cwd=tmp_path)
        assert "StoreLocked" in second.stderr
        assert "one process at a time" in second.stderr
        first.communicate("", timeout=30)
    assert run(*command, cwd=tmp_path).stdout == "open\n"


def test_the_demo_runs_on_windows(tmp_path: Path) -> None:
    arguments = ("demo", "--port", "0", "--store", "sqlite:///tour.db")
    with running(*on("windows", COMMAND), *arguments, cwd=tmp_path) as (_, said):
        assert get(f"{url_in(said)}/numbers").startswith(b"Number 1\n")


def test_serve_runs_on_macos_and_sends_files(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "film.mp4").write_bytes(content)
    arguments = ("serve", str(tmp_path), "--port", "0")
    with running(*on("macos", COMMAND), *arguments, cwd=tmp_path) as (_, said):
        assert get(f"{url_in(said)}film.mp4") == content


def test_serve_says_that_it_does_not_run_on_windows(tmp_path: Path) -> None:
    end = run(*on("windows", COMMAND), "serve", str(tmp_path))
    assert (end.returncode, end.stdout) == (2, "")
    assert end.stderr == "tailrace: serve runs on Linux and macOS: on Windows, start it in WSL\n"


PLAIN = """
import uvicorn
from fastapi import FastAPI
from tailrace import FileResponse
app = FastAPI()
@app.get("/")
def read():
    return FileResponse("film.mp4")
uvicorn.run(app, port=0, http="tailrace.server:HttpProtocol", loop="asyncio")
"""


def test_on_windows_the_protocol_is_uvicorns_own_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"a film")
    with running(*on("windows", PLAIN), cwd=tmp_path) as (process, said):
        assert process.stdout is not None
        while "Uvicorn running on" not in said:
            said = process.stdout.readline()
        assert get(url_in(said)) == b"a film"
        process.terminate()
        assert "serves as plain uvicorn does" in process.stdout.read()
