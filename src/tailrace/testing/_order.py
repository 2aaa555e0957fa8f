"""Which message an application may send when, and the body bytes that it stands for; strict.

Stricter than the servers, which let some of it pass: header names must be lower case and bodies
must be `bytes`, as the specification has it.

Source: ASGI 3.0, HTTP connection scope 2.5; extensions `http.response.pathsend` and
`http.response.zerocopysend`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers

from tailrace.source import read_at
from tailrace.testing.errors import ProtocolViolation

__all__ = ["MessageOrder", "ResponseStart"]

_START = "http.response.start"
_BODY = "http.response.body"
_PATHSEND = "http.response.pathsend"
_ZEROCOPYSEND = "http.response.zerocopysend"


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """The status line and the headers of a response.

    Args:
        status: 200 and so on.
        headers: By name in any case, with every value kept in order (`getlist`, `raw`).
    """

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class _Part:
    body: bytes
    last: bool


class MessageOrder:
    """What one application has sent so far, and so what it may send next.

    Args:
        method: The request's; the response to a HEAD carries no body, whatever is sent.
        extensions: What the server offers in the scope. A message type that is not of HTTP's core
            is allowed if it is named here.
    """

    def __init__(self, method: str, extensions: Collection[str]) -> None:
        self.start: ResponseStart | None = None
        self.complete = False
        self._method = method
        self._extensions = extensions
        self._remaining: int | None = None

    def accept(self, message: Mapping[str, Any]) -> bytes:
        """Take the next message.

        Returns:
            The bytes that it adds to the response's body.

        Raises:
            ProtocolViolation: It is malformed, or may not come now.
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
    # Without an offset the descriptor's own position counts, and moves, as with sendfile(2).
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
