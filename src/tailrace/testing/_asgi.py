"""The server's side of ASGI: a request's scope, the checks of messages, the lifespan.

Messages are checked against the specification, more strictly than servers do: for example, header
names must be lower case, and bodies must be `bytes`.

Source: ASGI 3.0, HTTP connection scope 2.5; extensions `http.response.pathsend` and
`http.response.zerocopysend`; lifespan protocol 2.0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.abc
from starlette.datastructures import Headers
from starlette.types import ASGIApp

from tailrace.source import read_at
from tailrace.testing.errors import ProtocolViolation

__all__ = ["Lifespan", "MessageOrder", "Request", "ResponseStart"]

# The request --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for.

    Args:
        method: In capitals.
        target: Path and query, escaped as on the wire: "/a%20b?c=d".
        headers: Names and values, sent in this order.
        body: The chunks of the body.
        http_version: "1.0", "1.1" or "2".
        spec_version: The version of ASGI's HTTP scope: "2.3", "2.4".
        extensions: The extensions that the server offers.
    """

    method: str
    target: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    body: tuple[bytes, ...] = ()
    http_version: str = "1.1"
    spec_version: str = "2.3"
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def scope(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The ASGI scope of the request.

        Args:
            state: The `state` of the application's lifespan.
        """
        raw_path, _, query = self.target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self.spec_version},
            "http_version": self.http_version,
            "method": self.method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": self._raw_headers(),
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 80),
            "state": dict(state),
            "extensions": dict(self.extensions),
        }

    def _raw_headers(self) -> list[tuple[bytes, bytes]]:
        given = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given]
        names = {name for name, _ in raw}
        if b"host" not in names:
            raw.insert(0, (b"host", b"testserver"))
        if self.body and not names & {b"content-length", b"transfer-encoding"}:
            raw.append((b"content-length", b"%d" % sum(map(len, self.body))))
        return raw


# The response -------------------------------------------------------------------------------------

_START = "http.response.start"
_BODY = "http.response.body"
_PATHSEND = "http.response.pathsend"
_ZEROCOPYSEND = "http.response.zerocopysend"


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """The status line and the headers of a response.

    Args:
        status: 100 to 999.
        headers: Found by name in any case; `getlist` and `raw` have every value, in order.
    """

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class _Part:
    body: bytes
    last: bool


class MessageOrder:
    """What an application has sent for one request, and so what it may send next.

    Args:
        method: The request's method. The response to a HEAD has no body, whatever is sent.
        extensions: The extensions that the scope offers. A message type that is not one of the
            two of plain HTTP is allowed if it is named here.
    """

    def __init__(self, method: str, extensions: Collection[str]) -> None:
        self.start: ResponseStart | None = None
        self.complete = False
        self._method = method
        self._extensions = extensions
        self._remaining: int | None = None

    def accept(self, message: Mapping[str, Any]) -> bytes:
        """Check the next message, and take it.

        Returns:
            The bytes that it adds to the response's body.

        Raises:
            ProtocolViolation: The message is malformed, or not allowed now.
        """
        kind = message.get("type")
        if kind not in (_START, _BODY) and kind not in self._extensions:
            raise ProtocolViolation(f"message type {kind!r} is neither HTTP's nor offered in scope")
        if self.complete:
            raise ProtocolViolation(f"{kind} after the response was complete")
        if kind == _START:
            self._begin(message)
            return b""
        read = _PARTS.get(kind)
        if read is None:  # an extension that adds nothing to the body
            return b""
        if self.start is None:
            raise ProtocolViolation(f"{kind} before {_START}")
        return self._go_on(read(message))

    def _begin(self, message: Mapping[str, Any]) -> None:
        if self.start is not None:
            raise ProtocolViolation(f"a second {_START}")
        status = message.get("status")
        # http.HTTPStatus is an int too.
        if not isinstance(status, int) or not 100 <= status <= 999:
            raise ProtocolViolation(f"status={status!r}: give an int of three digits")
        raw = [_header(pair) for pair in message.get("headers", ())]
        start = ResponseStart(int(status), Headers(raw=raw))
        length = start.headers.get("content-length")
        if length is not None and not self._bodyless(start.status):
            if not (length.isascii() and length.isdigit()):
                raise ProtocolViolation(f"content-length: {length!r} is not a number")
            self._remaining = int(length)
        self.start = start

    def _go_on(self, part: _Part) -> bytes:
        assert self.start is not None
        body = b"" if self._bodyless(self.start.status) else part.body
        if self._remaining is not None:
            self._remaining -= len(body)
            if self._remaining < 0:
                raise ProtocolViolation("the body is longer than its content-length")
            if part.last and self._remaining:
                raise ProtocolViolation(
                    f"the body is {self._remaining} bytes shorter than its content-length"
                )
        self.complete = part.last
        return body

    def _bodyless(self, status: int) -> bool:
        return self._method == "HEAD" or status in (204, 304)


def _header(pair: Any) -> tuple[bytes, bytes]:
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise ProtocolViolation(f"header {pair!r}: give a name and a value") from None
    if type(name) is not bytes or type(value) is not bytes:
        raise ProtocolViolation(f"header {pair!r}: give bytes")
    if not name or name != name.lower() or any(byte <= 32 or byte in b":\x7f" for byte in name):
        raise ProtocolViolation(f"header name {name!r}: give a lower-case token")
    if any(byte in b"\r\n\0" for byte in value):
        raise ProtocolViolation(f"header {name!r} has a line break or NUL in its value")
    return name, value


def _body_part(message: Mapping[str, Any]) -> _Part:
    body, more = message.get("body", b""), message.get("more_body", False)
    if type(body) is not bytes:
        raise ProtocolViolation(f"a body of {type(body).__qualname__}: give bytes")
    return _Part(body, not _flag(more))


def _path_part(message: Mapping[str, Any]) -> _Part:
    path = message.get("path")
    if not isinstance(path, str) or not os.path.isabs(path):
        raise ProtocolViolation(f"path={path!r}: give an absolute path")
    return _Part(Path(path).read_bytes(), last=True)


def _descriptor_part(message: Mapping[str, Any]) -> _Part:
    file, offset, count = message.get("file"), message.get("offset"), message.get("count")
    if not isinstance(file, int):
        raise ProtocolViolation(f"file={file!r}: give a descriptor's number")
    size = os.fstat(file).st_size if count is None else count
    # Without an offset it reads from the descriptor's own position, and moves it: sendfile(2).
    body = os.read(file, size) if offset is None else read_at(file, size, offset)
    return _Part(body, not _flag(message.get("more_body", False)))


def _flag(more: Any) -> bool:
    if type(more) is not bool:
        raise ProtocolViolation(f"more_body={more!r}: give True or False")
    return more


_PARTS: dict[Any, Callable[[Mapping[str, Any]], _Part]] = {
    _BODY: _body_part,
    _PATHSEND: _path_part,
    _ZEROCOPYSEND: _descriptor_part,
}


# The lifespan -------------------------------------------------------------------------------------

_ANSWERS = ("lifespan.startup.complete", "lifespan.startup.failed")
_FAREWELLS = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


class Lifespan:
    """One run of an application from its startup to its shutdown.

    Source: ASGI 3.0, lifespan protocol 2.0.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._error: Exception | None = None
        self._sent: dict[str, str] = {}
        self._begun = False
        self._stopping = anyio.Event()
        self._changed = anyio.Event()
        self._over = False

    async def start(self, group: anyio.abc.TaskGroup) -> None:
        """Start the application.

        Raises:
            RuntimeError: It said that its startup failed, or returned before that was complete.
            Exception: What it raised instead.
        """
        group.start_soon(self._run)
        await self._until(_ANSWERS)
        self._check("startup")

    async def stop(self) -> None:
        """Stop the application; raises as `start` does."""
        self._stopping.set()
        await self._until(_FAREWELLS)
        self._check("shutdown")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        try:
            await self._app({**scope, "state": self.state}, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised where the test waits for it
            self._error = error
        finally:
            self._over = True
            self._tell()

    async def _receive(self) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        if kind not in _ANSWERS + _FAREWELLS or kind in self._sent:
            raise ProtocolViolation(f"unexpected lifespan message {kind!r}")
        self._sent[kind] = message.get("message", "")
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _until(self, kinds: tuple[str, ...]) -> None:
        while not (self._over or self._sent.keys() & set(kinds)):
            await self._changed.wait()

    def _check(self, phase: str) -> None:
        failed = f"lifespan.{phase}.failed"
        if self._error is not None:
            raise self._error
        if failed in self._sent:
            raise RuntimeError(f"the application's {phase} failed: {self._sent[failed]}")
        if f"lifespan.{phase}.complete" not in self._sent:
            raise RuntimeError(f"the application returned before its {phase} was complete")
