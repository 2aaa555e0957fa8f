"""Clients that leave, stall, are slow or come in crowds: what they cost and leave behind."""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.server.conftest import APP, OURS, Site, target
from tests.servers import ROOT, serve

LARGE = 200_000_000


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger than what the kernel's buffers hold for a client."""
    path = tmp_path_factory.mktemp("files") / "large"
    with path.open("wb") as file:
        file.truncate(LARGE)
    return path


@pytest.fixture(params=OURS)
def own(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server for one test, whose memory and descriptors nobody else moves."""
    with serve(APP, request.param, log_level="info") as server:
        yield Site(server)


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 10) -> Any:
    """What `look` gives as soon as it is wanted, or at the end of the time."""
    end = time.monotonic() + seconds
    while not wanted(seen := look()) and time.monotonic() < end:
        time.sleep(0.02)
    return seen


def at_rest(site: Site) -> dict[str, Any]:
    """What the process holds when no file is open, and only the one who asks is connected."""

    def rests(seen: dict[str, Any]) -> bool:
        # The loop's own pair of sockets, the listener, the question.
        return seen["sockets"] <= 4 and not any("pytest" in each for each in seen["descriptors"])

    return until(lambda: site.ask("/process"), rests)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_thousand_clients_that_are_gone_in_mid_file_leave_nothing(own: Site, large: Path) -> None:
    def come_and_go(times: int) -> None:
        for at in range(times):
            with own.connect(receive_buffer=8192) as connection:
                connection.send(target("/path", file=large, length=LARGE))
                connection.read_head()
                if at % 2:
                    connection.reset()

    come_and_go(50)
    before = at_rest(own)
    come_and_go(1000)
    after = at_rest(own)
    assert after["descriptors"] == before["descriptors"]
    assert after["sockets"] == before["sockets"]
    assert after["tasks"] <= before["tasks"]  # one may have been ending before
    assert after["rss"] - before["rss"] < 2_000_000


KILLED = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sock.sendall(f"GET {sys.argv[3]} HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n".encode())
    sock.recv(1000)
    print("under way", flush=True)
    while sock.recv(1000):
        pass
"""


@pytest.mark.slow
def test_a_client_that_is_killed_in_mid_file_leaves_nothing(own: Site, large: Path) -> None:
    before = at_rest(own)
    where = target("/path", file=large, length=LARGE)
    command = [sys.executable, "-c", KILLED, own.server.host, str(own.server.port), where]
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()
            client.send_signal(signal.SIGKILL)
    after = at_rest(own)
    assert (after["descriptors"], after["sockets"]) == (before["descriptors"], before["sockets"])


@pytest.mark.slow
def test_a_hundred_stretches_at_once_are_right_and_leave_nothing(
    own: Site, file: Path, content: bytes
) -> None:
    before = at_rest(own)

    def stretch(at: int) -> bool:
        first, size = at * 29_000, 120_000
        parts = f"{first}:{size}"
        reply = own.get("/zero", file=file, parts=parts, length=size)
        return reply.complete and reply.body == content[first : first + size]

    with ThreadPoolExecutor(100) as pool:
        assert all(pool.map(stretch, range(99)))
    after = at_rest(own)
    assert (after["descriptors"], after["sockets"]) == (before["descriptors"], before["sockets"])
    assert after["tasks"] <= before["tasks"]  # one may have been ending before


@pytest.mark.slow
def test_slow_clients_hold_no_thread_and_little_memory(own: Site, large: Path) -> None:
    where = target("/path", file=large, length=LARGE)
    at_rest(own)
    warm_up = [own.connect(receive_buffer=4096) for _ in range(20)]
    for connection in warm_up:
        connection.send(where)
        connection.read_head()
    before = own.ask("/process")
    clients = [own.connect(receive_buffer=4096) for _ in range(300)]
    try:
        for connection in clients:
            connection.send(where)
            connection.read_head()
        after = own.ask("/process")
    finally:
        for connection in clients + warm_up:
            connection.close()
    assert (after["rss"] - before["rss"]) / 300 < 40_000
    assert len([name for name in after["threads"] if "source" in name]) <= 5


@pytest.mark.slow
def test_stalled_clients_of_a_stream_cost_less_than_64_kib_each(own: Site) -> None:
    """Beside the message itself, of 64 KiB, that the application holds."""
    size = 64 * 1024
    clients = []
    try:
        for _ in range(20):
            clients.append(own.connect(receive_buffer=4096))
            clients[-1].send(target("/endless", size=size, name="first"))
            clients[-1].read_head()
        until(lambda: own.ask("/connection", name="first"), lambda seen: seen["stalled"])
        time.sleep(0.5)
        before = own.ask("/process")["rss"]
        for at in range(100):
            clients.append(own.connect(receive_buffer=4096))
            clients[-1].send(target("/endless", size=size, name=f"{at}"))
            clients[-1].read_head()
        seen = [
            until(partial(own.ask, "/connection", name=f"{at}"), lambda seen: seen["stalled"])
            for at in range(100)
        ]
        after = own.ask("/process")["rss"]
    finally:
        for connection in clients:
            connection.close()
    assert all(each["stalled"] for each in seen)
    assert (after - before) / 100 < 40_000


def test_a_client_that_takes_nothing_of_a_file_is_cut_off(large: Path) -> None:
    environment = {"TAILRACE_SEND_TIMEOUT": "0.4"}
    with serve(APP, "uvicorn-tailrace", env=environment, log_level="info") as server:
        site = Site(server)
        with site.connect(receive_buffer=4096) as connection:
            connection.send(target("/path", file=large, length=LARGE))
            connection.read_head()
            outcomes = until(lambda: site.ask("/process")["outcomes"], bool)
            while connection.read_some():
                pass
            assert connection.ended == "reset"
        assert outcomes == ["sent"]


def test_a_client_that_takes_little_of_a_file_is_not_cut_off(large: Path) -> None:
    environment = {"TAILRACE_SEND_TIMEOUT": "0.4"}
    with serve(APP, "uvloop-tailrace", env=environment) as server:
        site = Site(server)
        with site.connect(receive_buffer=16384) as connection:
            connection.send(target("/path", file=large, length=LARGE))
            connection.read_head()
            taken = 0
            end = time.monotonic() + 2
            while time.monotonic() < end:
                taken += len(connection.sock.recv(4096))
                time.sleep(0.01)
            # Far less than the kernel holds for it: nothing new was asked for in this time.
            assert taken < 1_000_000
            assert site.ask("/process")["outcomes"] == []


@pytest.mark.slow
def test_another_endpoint_answers_while_crowds_download(own: Site, large: Path) -> None:
    where = target("/path", file=large, length=LARGE)
    clients = [own.connect(receive_buffer=65536) for _ in range(50)]
    waits = []
    with selectors.DefaultSelector() as selector:
        for connection in clients:
            connection.send(where)
            connection.sock.setblocking(False)
            selector.register(connection.sock, selectors.EVENT_READ)
        with own.connect() as asking:
            asking.sock.setblocking(True)
            for _ in range(100):
                asking.send("/hello")
                began = time.perf_counter()
                selector.register(asking.sock, selectors.EVENT_READ)
                answered = False
                while not answered:
                    for key, _ in selector.select():
                        if key.fileobj is asking.sock:
                            answered = True
                        else:
                            key.fileobj.recv(65536)  # type: ignore[union-attr] # a socket
                waits.append(time.perf_counter() - began)
                selector.unregister(asking.sock)
                assert asking.read_reply().body == b"hello"
    for connection in clients:
        connection.close()
    assert sorted(waits)[-2] < 0.2


# What can be seen of a connection


def test_a_stalled_clients_connection_shows_what_waits_and_what_has_left(site: Site) -> None:
    with site.connect(receive_buffer=4096) as connection:
        connection.send(target("/endless", size=65536, name="watched"))
        connection.read_head()
        seen = until(lambda: site.ask("/connection", name="watched"), lambda seen: seen["stalled"])
        assert seen["stalled"]
        assert 0 < seen["buffered"] <= 65536 + 16 * 1024
        assert seen["unsent"] > seen["buffered"]
        for _ in range(200):
            connection.sock.recv(65536)
        later = until(
            lambda: site.ask("/connection", name="watched"),
            lambda later: later["progress"] > seen["progress"],
        )
        assert later["progress"] > seen["progress"]
        assert site.ask("/abort", name="watched") == "aborted"
        while connection.read_some():
            pass
        assert connection.ended == "reset"
    assert site.ask("/connection", name="watched")["closed"]


def test_a_connection_that_is_over_drops_nobody(site: Site) -> None:
    with site.connect() as connection:
        connection.send(target("/endless", size=100, name="over"))
        connection.read_head()
    until(lambda: site.ask("/connection", name="over"), lambda seen: seen["closed"])
    assert site.ask("/abort", name="over") == "aborted"
    assert site.ask("/connection", name="over")["unsent"] == 0


def test_a_client_that_is_dropped_is_no_fault_of_the_application(own: Site) -> None:
    """Kind of fault: uvicorn learns of the loss after the application has returned."""
    for _ in range(5):
        with own.connect() as connection:
            connection.send(target("/give-up"))
            while connection.read_some():
                pass
            assert connection.ended == "reset"
    assert own.ask("/process")
    assert "ERROR" not in own.server.log


# What is built on uvicorn still does what uvicorn does


@pytest.mark.parametrize("framing", [{}, {"length": 15_000_003}])
def test_a_message_that_was_not_waited_for_still_comes_whole(
    site: Site, framing: dict[str, int]
) -> None:
    with site.connect(receive_buffer=4096) as connection:
        connection.send(target("/impatient", size=5_000_000, **framing))
        until(
            lambda: site.ask("/process")["outcomes"],
            lambda seen: any("did not wait" in each for each in seen),
        )
        reply = connection.read_reply()
    assert reply.complete
    assert reply.body == b"a" * 5_000_000 + b"b" * 5_000_000 + b"c" * 5_000_000 + b"end"


def test_websockets_work(site: Site) -> None:
    with connect(f"ws://{site.server.host}:{site.server.port}/") as talk:
        for text in ("hello", "x" * 900_000, "bye"):
            talk.send(text)
            assert talk.recv() == text


def test_a_unix_socket_serves_files_too(tmp_path: Path, file: Path, content: bytes) -> None:
    path = tmp_path / "socket"
    command = ["uvicorn", APP, f"--uds={path}", "--http=tailrace.server:HttpProtocol"]
    with subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT) as server:
        try:
            until(path.exists, bool)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(path))
                where = target("/path", file=file, length=3_000_000)
                client.sendall(f"GET {where} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                got = bytearray()
                while not got.endswith(content[-100:]):
                    got += client.recv(1_000_000)
            assert got.endswith(b"\r\n\r\n" + content)
        finally:
            server.terminate()
