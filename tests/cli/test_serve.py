"""`tailrace serve`: what it serves, what it refuses, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.running_demo import TAILRACE
from tests.cli.running_serve import Running, running_serve
from tests.cli.test_demo import is_one_line, run
from tests.rawhttp import Connection, request
from tests.servers import is_tracker

TLS = Path(__file__).parent / "tls"
CERTIFICATE, KEY = TLS / "localhost.crt", TLS / "localhost.key"

LARGE_BYTES = 64 * 1024 * 1024
"""More than all buffers between a server and a client that does not read."""

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served")
    (directory / "hello.txt").write_text("hello\n")
    with (directory / "large").open("wb") as file:
        file.truncate(LARGE_BYTES)  # sparse: it takes no room
    return directory


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Running]:
    with running_serve(directory) as running:
        yield running


@pytest.fixture
def quick(directory: Path) -> Iterator[Running]:
    """A server of its own, that waits half a second for open responses."""
    with running_serve(directory, "--drain-timeout", "0.5") as running:
        yield running


# What it serves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/files/", 200),
        ("/files/hello.txt", 200),
        ("/files/nothing", 404),
        ("/nothing", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
    ],
)
def test_what_is_where(server: Running, method: str, path: str, status: int) -> None:
    reply = request(HOST, server.port, path, method=method)
    assert reply.status == status
    line = server.entry()
    assert (line["method"], line["path"], line["status"]) == (method, path, status)
    assert line["bytes"] == len(reply.body)
    assert line["outcome"] == "complete"


def test_files_come_from_the_directory(server: Running) -> None:
    assert request(HOST, server.port, "/files/hello.txt").body == b"hello\n"
    server.entry()


def test_the_index_leads_to_the_files(server: Running) -> None:
    reply = request(HOST, server.port, "/")
    assert b'href="files/"' in reply.body
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    server.entry()


def test_a_missing_slash_is_told_without_the_clients_host(server: Running) -> None:
    reply = request(HOST, server.port, "/files", headers={"host": "localhost:1"})
    assert (reply.status, reply.headers["location"]) == (308, "files/")
    server.entry()


def test_a_large_file_is_counted_whole(server: Running) -> None:
    reply = request(HOST, server.port, "/files/large")
    assert len(reply.body) == LARGE_BYTES
    line = server.entry()
    assert (line["bytes"], line["outcome"]) == (LARGE_BYTES, "complete")


def test_a_client_that_leaves_within_a_file_is_told(server: Running) -> None:
    with Connection(HOST, server.port, receive_buffer=4096) as connection:
        connection.send("/files/large")
        connection.read_head()
        assert connection.read_some()
        assert connection.read_some()
        connection.reset()
    line = server.entry()
    assert line["outcome"] == "left"
    assert 0 < line["bytes"] < LARGE_BYTES


def test_a_client_that_takes_nothing_of_a_file_is_told(directory: Path) -> None:
    with running_serve(directory, env={"TAILRACE_SEND_TIMEOUT": "0.4"}) as server:
        with Connection(HOST, server.port, receive_buffer=4096) as connection:
            connection.send("/files/large")
            line = server.entry()
    assert line["outcome"] == "stalled"
    assert line["bytes"] < LARGE_BYTES


def test_it_works_below_a_path_of_a_proxy(directory: Path) -> None:
    with running_serve(directory, "--root-path", "/down/loads/") as server:
        assert request(HOST, server.port, "/files/hello.txt").body == b"hello\n"
        assert request(HOST, server.port, "/files").headers["location"] == "files/"
        # The proxy is told what it must do, and the log tells what it did.
        assert "must remove /down/loads from the path: here /down/loads/files/ is" in server.log
        assert [server.entry()["path"] for _ in range(2)] == ["/files/hello.txt", "/files"]
        kept = request(HOST, server.port, "/down/loads/files/hello%25.txt")
        assert (kept.status, server.entry()["path"]) == (404, "/down/loads/files/hello%25.txt")


def test_it_serves_tls(directory: Path) -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    with (
        running_serve(directory, "--ssl-certfile", CERTIFICATE, "--ssl-keyfile", KEY) as server,
        socket.create_connection((HOST, server.port), timeout=10) as plain,
    ):
        assert f"https://127.0.0.1:{server.port}/files/" in server.log
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(
                b"GET /files/large HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
            received = sum(len(data) for data in iter(lambda: connection.recv(1 << 20), b""))
        assert received > LARGE_BYTES
        line = server.entry()
    assert (line["bytes"], line["outcome"]) == (LARGE_BYTES, "complete")


def test_other_machines_are_served_where_it_is_allowed(directory: Path) -> None:
    with running_serve(directory, "--host", "0.0.0.0", "--allow-remote") as server:
        assert request(HOST, server.port, "/healthz").body == b'{"status":"ok"}'


@pytest.mark.slow
def test_workers_share_the_port(directory: Path) -> None:
    with running_serve(directory, "--workers", "2") as server:
        assert request(HOST, server.port, "/files/hello.txt").body == b"hello\n"
        assert server.entry()["path"] == "/files/hello.txt"
        children = psutil.Process(server.process.pid).children()
        workers = [child for child in children if not is_tracker(child)]
        assert len(workers) == 2
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert not [worker for worker in workers if worker.is_running()]


# The end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_0_when_it_is_asked_to(quick: Running, sent: signal.Signals) -> None:
    assert request(HOST, quick.port, "/healthz").status == 200
    quick.process.send_signal(sent)
    assert quick.process.wait(10) == 0
    assert "Application shutdown complete" in quick.log
    assert "Traceback" not in quick.log


def test_a_sigterm_before_it_listens_ends_it_with_0(directory: Path) -> None:
    code = (
        "import os, signal, uvicorn; from tailrace.cli import main;"
        "uvicorn.Server.run = lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM);"
        f"main(['serve', {str(directory)!r}, '--port', '0'])"
    )
    end = subprocess.run([TAILRACE.with_name("python"), "-c", code], timeout=30, check=False)
    assert end.returncode == 0


def test_a_download_under_way_is_finished_at_the_end(directory: Path) -> None:
    with running_serve(directory, "--drain-timeout", "10") as server:
        with Connection(HOST, server.port, receive_buffer=4096) as connection:
            connection.send("/files/large")
            connection.read_some()
            server.process.terminate()
            received = 0
            while data := connection.read_some():
                received += len(data)
        assert received >= LARGE_BYTES - 65536  # less the head and the first read
        assert server.process.wait(10) == 0
        assert server.entry()["outcome"] == "complete"


def test_a_client_that_never_reads_does_not_hold_the_end(quick: Running) -> None:
    with Connection(HOST, quick.port, receive_buffer=4096) as connection:
        connection.send("/files/large")
        connection.read_head()
        quick.process.terminate()
        assert quick.process.wait(10) == 0
    assert quick.entry()["outcome"] == "shut_down"


# What it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["no/such/directory"], "'no/such/directory' does not exist"),
        ([str(CERTIFICATE)], "is a file"),
        (["--port", "http"], "'http'"),
        (["--port", "65536"], "65536"),
        (["--workers", "0"], "--workers"),
        (["--workers", "many"], "'many'"),
        (["--log-level", "loud"], "'loud'"),
        (["--drain-timeout", "-1"], "--drain-timeout"),
        (["--drain-timeout", "nan"], "nan is not a number of seconds"),
        (["--drain-timeout", "inf"], "inf is not a number of seconds"),
        (["--root-path", "downloads"], "'downloads' must begin with /"),
        (["--root-path", "/a b"], "'/a b'"),
        (["--root-path", "/a\x1b"], "x1b"),
        (["--ssl-keyfile", str(KEY)], "--ssl-keyfile needs --ssl-certfile"),
        (["--ssl-certfile", "no/such.crt"], "'no/such.crt' does not exist"),
        (["--ssl-certfile", str(CERTIFICATE)], "cannot be used with its key"),
        (["--ssl-certfile", __file__, "--ssl-keyfile", __file__], "cannot be used with its key"),
        (["--colour"], "--colour"),
        ([".", "extra"], "extra"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)
def test_a_wrong_use_is_refused_in_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert run("serve", *arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert is_one_line(written.err)
    assert named in written.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_what_other_machines_can_reach_is_refused(
    capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert run("serve", "--port", "0", "--host", host) == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert f"other machines can reach {host}" in error
    assert "--allow-remote" in error


def test_a_port_in_use_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], server: Running
) -> None:
    assert run("serve", "--port", str(server.port)) == 2
    error = capsys.readouterr().err
    assert is_one_line(error)
    assert f"127.0.0.1 port {server.port}: Address already in use" in error


def test_a_key_with_a_password_is_refused_without_asking(
    capsys: pytest.CaptureFixture[str],
) -> None:
    locked = str(TLS / "locked.key")
    assert run("serve", "--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", locked) == 2
    assert is_one_line(capsys.readouterr().err)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The command sets variables and a signal's handler for its process, here for the test's."""
    variables, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    os.environ.clear()
    os.environ.update(variables)


# What proxies say ---------------------------------------------------------------------------------

FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def put_forged(running: Running) -> tuple[str | None, str]:
    """Where a stream is that was made through a proxy, and who the log says has made it."""
    with Connection(HOST, running.port) as connection:
        connection.sock.sendall(
            b"PUT /v1/stream/forged HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
            + b"".join(f"{name}: {value}\r\n".encode() for name, value in FORGED.items())
            + b"\r\n"
        )
        reply = connection.read_reply()
    assert reply.status == 201
    return reply.headers.get("location"), running.entry()["client"]


def test_nobody_is_believed_to_be_a_proxy(tmp_path: Path) -> None:
    with running_serve(tmp_path, env={"FORWARDED_ALLOW_IPS": "*"}) as running:
        assert put_forged(running) == ("http://localhost/v1/stream/forged", HOST)


@pytest.mark.parametrize("proxies", ["127.0.0.1", "::1, 127.0.0.0/8", "*"])
def test_but_those_that_the_operator_named(tmp_path: Path, proxies: str) -> None:
    with running_serve(tmp_path, "--forwarded-allow-ips", proxies) as running:
        assert put_forged(running) == ("https://localhost/v1/stream/forged", "203.0.113.9")


def test_another_proxy_than_the_named_is_not(tmp_path: Path) -> None:
    with running_serve(tmp_path, "--forwarded-allow-ips", "10.0.0.0/8") as running:
        assert put_forged(running) == ("http://localhost/v1/stream/forged", HOST)


@pytest.mark.parametrize("proxies", ["10.0.0.1/8", "proxy.example", "127.0.0.1,x"])
def test_what_is_no_address_of_a_proxy_is_refused(
    tmp_path: Path, proxies: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("serve", str(tmp_path), "--forwarded-allow-ips", proxies) == 2
    text = capsys.readouterr().err
    assert is_one_line(text)
    assert "neither an address nor a network" in text
