"""`tailrace get` as a user runs it."""

from __future__ import annotations

import os
import pty
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tailrace import limits
from tests.cli.file_server import Fault, FileServer
from tests.cli.running_demo import TAILRACE
from tests.cli.running_serve import running_serve
from tests.cli.test_demo import is_one_line, run

CONTENT = random.Random(1).randbytes(300_000)
LARGE = random.Random(3).randbytes(5 * limits.MIN_PIECE_BYTES + 12_345)
CERTIFICATE = Path(__file__).parent / "tls" / "localhost.crt"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def get(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TAILRACE, "get", *arguments], cwd=directory, capture_output=True, text=True, timeout=30
    )


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# What is said -------------------------------------------------------------------------------------


def test_a_download_says_what_it_saved(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("get", f"{server.url}/film.mp4") == 0
    written = capsys.readouterr()
    assert written.out.startswith("film.mp4: 293.0 KiB in ")
    assert written.out.endswith("/s\n")
    assert written.err == ""
    assert (here / "film.mp4").read_bytes() == CONTENT


def test_quiet_says_nothing(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults.append(Fault(cut=1000))
    assert run("get", "--quiet", f"{server.url}/film.mp4") == 0
    assert capsys.readouterr() == ("", "")


def test_a_new_attempt_is_told_in_one_line(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults.append(Fault(cut=1000))
    assert run("get", f"{server.url}/film.mp4") == 0
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert "trying again in" in error


def test_a_failure_is_one_line_and_exit_code_1(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults.append(Fault(status=404))
    assert run("get", f"{server.url}/film.mp4") == 1
    assert capsys.readouterr() == ("", "tailrace: the server answered 404 Not Found\n")


def test_a_failure_says_what_is_kept(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults.append(Fault(cut=1000))
    assert run("get", "--retries", "0", f"{server.url}/film.mp4") == 1
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert "film.mp4.part is kept: the same command goes on from there" in error


def test_a_disk_error_is_one_line_and_exit_code_1(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "film.mp4.part").mkdir()
    assert run("get", f"{server.url}/film.mp4") == 1
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert "film.mp4.part: Is a directory" in error


def test_a_name_cannot_drive_the_terminal(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.headers["content-disposition"] = "attachment; filename*=utf-8''%1B%5B2Jx%0A.mp4"
    assert run("get", f"{server.url}/film.mp4") == 0
    assert capsys.readouterr().out.startswith("[2Jx.mp4: ")


def test_a_bar_is_drawn_on_a_terminal(server: FileServer, tmp_path: Path) -> None:
    server.content = LARGE
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [TAILRACE, "get", f"{server.url}/[bold]film.mp4"],
        cwd=tmp_path,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    drawn = b""
    try:
        while data := os.read(ours, 65536):
            drawn += data
    except OSError:
        pass  # how Linux says that the other side is closed
    os.close(ours)
    assert process.wait(10) == 0
    assert b"[bold]film.mp4" in drawn  # as it is, not as markup
    assert b"/5.0 MiB" in drawn.replace(b"\x1b[32m", b"").replace(b"\x1b[0m", b"")


# Wrong use ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "URL"),
        (["ftp://host/file"], "'ftp://host/file' is not an http or https URL"),
        (["file:///etc/passwd"], "is not an http or https URL"),
        (["host/file"], "is not an http or https URL"),
        (["http://"], "is not an http or https URL"),
        (["http://host:99999/"], "is not an http or https URL"),
        (["http://[::1/"], "is not an http or https URL"),
        (["http://host/a b"], "is not an http or https URL"),
        (["http://host/\x1b[2J"], r"'http://host/\x1b[2J'"),
        (["http://host/f", "--jobs", "0"], "--jobs"),
        (["http://host/f", "--jobs", "17"], "--jobs"),
        (["http://host/f", "--retries", "-1"], "--retries"),
        (["http://host/f", "--timeout", "0"], "--timeout"),
        (["http://host/f", "--timeout", "soon"], "--timeout"),
        (["http://host/f", "--header", "no colon"], "--header"),
        (["http://host/f", "--header", "bad name: x"], "--header"),
        (["http://host/f", "--header", "x: a\r\ny: b"], "the value of x"),
        (["http://host/f", "--header", "x: \u20ac"], "the value of x"),
        (["http://host/f", "--header", "Range: bytes=0-1"], "Range is set by the download itself"),
        (["http://host/f", "-o", "no/such/directory/file"], "there is no directory no/such"),
        (["http://host/f", "-o", "-"], "not to stdout"),
        (["http://host/f", "--colour"], "--colour"),
    ],
)
def test_a_wrong_use_is_refused_in_one_line_that_names_it(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert run("get", *arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert is_one_line(written.err)
    assert named in written.err
    assert names(here) == []


def test_a_secret_in_a_header_is_not_repeated(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("get", "http://host/f", "--header", "x: s3cret\u20ac") == 2
    assert run("get", "http://host/f", "--header", "x y: s3cret") == 2
    assert "s3cret" not in capsys.readouterr().err


def test_a_file_that_is_there_is_exit_code_1(
    server: FileServer, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "film.mp4").write_bytes(b"mine")
    assert run("get", f"{server.url}/film.mp4") == 1
    assert capsys.readouterr().err == ("tailrace: film.mp4 is there already: --force replaces it\n")
    assert run("get", "--force", f"{server.url}/film.mp4") == 0
    assert (here / "film.mp4").read_bytes() == CONTENT


# Options ------------------------------------------------------------------------------------------


def test_headers_are_sent_as_given(server: FileServer, here: Path) -> None:
    run("get", f"{server.url}/f", "--header", "X-Key:  a: b ", "--header", "User-Agent: mine")
    assert server.seen[0].headers["x-key"] == "a: b"
    assert server.seen[0].headers["user-agent"] == "mine"


def test_it_says_who_it_is(server: FileServer, here: Path) -> None:
    run("get", f"{server.url}/f")
    assert server.seen[0].headers["user-agent"] == f"tailrace/{version('tailrace')}"


def test_an_output_that_is_a_directory_gets_the_file(server: FileServer, here: Path) -> None:
    (here / "films").mkdir()
    assert run("get", f"{server.url}/film.mp4", "-o", "films") == 0
    assert names(here / "films") == ["film.mp4"]


def test_several_jobs_make_the_same_file(server: FileServer, here: Path) -> None:
    server.content = LARGE
    assert run("get", f"{server.url}/film.mp4", "--jobs", "4") == 0
    assert (here / "film.mp4").read_bytes() == LARGE
    assert len(server.seen) > 1


# Processes ----------------------------------------------------------------------------------------


def stalled_download(server: FileServer, directory: Path) -> subprocess.Popen[str]:
    """A download that has written its first bytes and waits for more."""
    server.faults.append(Fault(cut=100_000, stall=True))
    process = subprocess.Popen(
        [TAILRACE, "get", f"{server.url}/film.mp4"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stalled.wait(20)
    part = directory / "film.mp4.part"
    while not part.exists() or part.stat().st_size < 100_000:
        assert process.poll() is None
    return process


def test_ctrl_c_keeps_the_part_and_says_how_to_go_on(server: FileServer, tmp_path: Path) -> None:
    process = stalled_download(server, tmp_path)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert error == (
        "tailrace: interrupted (film.mp4.part is kept: the same command goes on from there)\n"
    )
    end = get(f"{server.url}/film.mp4", directory=tmp_path)
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT
    assert server.seen[-1].range == "bytes=100000-"
    assert names(tmp_path) == ["film.mp4"]


@pytest.mark.slow
def test_what_was_noted_before_a_kill_is_continued(server: FileServer, tmp_path: Path) -> None:
    process = stalled_download(server, tmp_path)
    sidecar = tmp_path / "film.mp4.part.json"
    while not sidecar.exists():
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=20)
    end = get(f"{server.url}/film.mp4", directory=tmp_path)
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT
    assert server.seen[-1].range == "bytes=100000-"


def test_a_certificate_that_is_not_trusted_is_told_at_once(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    with FileServer(CONTENT, tls=context) as server:
        end = get(f"{server.url}/film.mp4", directory=tmp_path)
    assert end.returncode == 1
    assert is_one_line(end.stderr)
    assert "the server's certificate is not trusted" in end.stderr


def test_a_certificate_that_is_trusted_is_used(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    with FileServer(CONTENT, tls=context) as server:
        end = subprocess.run(
            [TAILRACE, "get", f"{server.url}/film.mp4"],
            cwd=tmp_path,
            env={**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "film.mp4").read_bytes() == CONTENT


def test_a_download_needs_no_server(server: FileServer, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; from tailrace.cli import main;"
        f"main(['get', '{server.url}/film.mp4'])"
    )
    end = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=30, check=False)
    assert end.returncode == 0


def test_what_our_own_server_serves_is_got_in_pieces(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    (served / "film.mp4").write_bytes(LARGE)
    with running_serve(served) as server:
        url = f"http://127.0.0.1:{server.port}/files/film.mp4"
        assert get(url, "--jobs", "4", "-o", "whole", directory=tmp_path).returncode == 0
        assert (tmp_path / "whole").read_bytes() == LARGE
        entries = [server.entry() for _ in range(6)]
        assert {entry["status"] for entry in entries} == {206}
        assert sum(entry["bytes"] for entry in entries) == len(LARGE)
