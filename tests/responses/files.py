"""Helpers for the tests of file responses."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.connection import leads_to, leaving_of
from tailrace.testing import Client

__all__ = ["LONG_AGO", "Copying", "Reply", "get", "parts_of", "write_old"]

LONG_AGO = 1_600_000_000
"""A modification time in the past, which no file has that a test writes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that was read to its end."""

    status: int
    headers: Any
    body: bytes


def write_old(path: Path, content: bytes) -> Path:
    """Write a file and set its modification time to the past, so that it is not new."""
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


async def get(app: ASGIApp, method: str = "GET", **headers: str) -> Reply:
    """Send a request for `/`. Headers are keywords, with `_` for `-`."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with Client(app) as client, client.open(method, "/", headers=names) as exchange:
        start = await exchange.response()
        return Reply(start.status, start.headers, await exchange.read_all())


def parts_of(reply: Reply) -> list[tuple[str, bytes]]:
    """The parts of a multipart/byteranges body: Content-Range and bytes."""
    boundary = reply.headers["content-type"].partition("boundary=")[2].encode()
    first, *parts = reply.body.split(b"--" + boundary)
    assert first == b""
    assert parts.pop() == b"--"
    found = []
    for part in parts:
        head, _, body = part.partition(b"\r\n\r\n")
        match = re.search(rb"Content-Range: (.*)", head)
        assert match is not None
        found.append((match[1].strip().decode(), body.removesuffix(b"\r\n")))
    return found


class Copying:
    """A middleware that calls an application as our server does, which offers `zerocopysend`.

    Open it with `extensions={"http.response.zerocopysend": {}}`. It answers as the server does:
    `reached_by` follows the server's own rules, and `progress` is what the client has taken.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.progress = 0
        self.aborted = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        # That the client has left is found out in the same way as without this middleware.
        async with leaving_of(scope, receive, send) as leaving:
            self.on_lost = leaving.on_left
            extensions = {**scope["extensions"], "tailrace.connection": self}
            await self._app({**scope, "extensions": extensions}, receive, self.send)

    async def send(self, message: Message) -> None:
        await self._send(message)
        self.progress += message.get("count", 0) or len(message.get("body", b""))

    def reached_by(self, send: Send) -> bool:
        assert isinstance(self.send, MethodType)
        return leads_to(send, self.send)

    def abort(self, reason: str | None = None) -> None:
        self.aborted = True
