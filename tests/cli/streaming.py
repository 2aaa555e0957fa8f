"""Requests to the streams of a running `tailrace serve`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import psutil

from tests.cli.running_serve import Running
from tests.rawhttp import Connection, Reply, request
from tests.servers import is_tracker
from tests.tools.tool import DEADLINE, until

__all__ = [
    "HOST",
    "STREAMS",
    "append",
    "connect",
    "create",
    "entry_of",
    "problem_of",
    "ready",
    "send",
    "until_ready",
    "until_said",
    "worker_of",
    "workers_of",
]

HOST = "127.0.0.1"
STREAMS = "/v1/stream/"
TEXT = "text/plain"


def send(server: Running, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
    """Send one request for a stream.

    Args:
        server: The server.
        method: The HTTP method.
        path: What follows `/v1/stream/`, as it is sent.
        body: The request's body.
        headers: The request's headers, with `_` for `-`.
    """
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(HOST, server.port, STREAMS + path, method=method, headers=fields, body=body)


def create(server: Running, path: str, body: bytes = b"", **headers: str) -> Reply:
    return send(server, "PUT", path, body, **{"content_type": TEXT, **headers})


def append(server: Running, path: str, body: bytes, **headers: str) -> Reply:
    return send(server, "POST", path, body, **{"content_type": TEXT, **headers})


def problem_of(reply: Reply) -> dict[str, Any]:
    """The problem (RFC 9457) in the body of a refusal."""
    assert reply.headers["content-type"] == "application/problem+json", reply
    told: dict[str, Any] = json.loads(reply.body)
    assert told["status"] == reply.status
    return told


def connect(server: Running, path: str, **options: Any) -> Connection:
    """A connection on which a stream was requested. The caller must close it."""
    connection = Connection(HOST, server.port, timeout=DEADLINE, **options)
    connection.send(STREAMS + path)
    return connection


def until_said(connection: Connection, what: bytes) -> bytes:
    """Read from a connection until `what` is in the bytes. Returns all these bytes.

    Raises:
        AssertionError: The connection ended before.
    """
    said = b""
    while what not in said:
        more = connection.read_some()
        assert more, f"{what!r} is not in {said!r}"
        said += more
    return said


def entry_of(server: Running, path: str) -> dict[str, Any]:
    """The next line of the access log for this stream; other lines are skipped."""
    while True:
        entry = server.entry()
        if entry["path"] == STREAMS + path:
            return entry


def ready(server: Running) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of `/readyz`."""
    reply = request(HOST, server.port, "/readyz")
    assert reply.headers["cache-control"] == "no-store"
    return reply.status, json.loads(reply.body)


def until_ready(server: Running, seconds: float = DEADLINE) -> tuple[int, dict[str, Any]]:
    """As `ready`, when the status is 200: a supervisor accepts before any worker answers."""

    def look() -> tuple[int, dict[str, Any]]:
        try:
            return ready(server)
        except OSError:
            return 0, {}

    return until(look, lambda said: said[0] == 200, seconds)


def workers_of(server: Running) -> list[psutil.Process]:
    """The worker processes, without one that has just been killed."""
    workers = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie raises it, too
            if not is_tracker(child):
                workers.append(child)
    return workers


def worker_of(server: Running, connection: Connection) -> psutil.Process | None:
    """The worker process that has the other end of a connection; None if there is none."""
    port = connection.sock.getsockname()[1]
    for worker in workers_of(server):
        for each in worker.net_connections("tcp"):
            if each.raddr and each.raddr.port == port:
                return worker
    return None
