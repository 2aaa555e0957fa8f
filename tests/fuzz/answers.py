"""A strict parser for the answers on one connection, which reads their bytes as they come."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.rawhttp import Head, parse_head

__all__ = ["Answer", "Answers"]

MAX_HEAD_BYTES = 32 * 1024

_HEAD = re.compile(
    rb"HTTP/1\.[01] [1-5][0-9]{2} [\x20-\x7e]*\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)
_CHUNK = re.compile(rb"[0-9a-fA-F]{1,8}(?:;[\t\x20-\x7e]*)?")


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    TRAILERS = auto()
    UNTIL_CLOSED = auto()
    FRAMES = auto()
    BROKEN = auto()


@dataclass(slots=True)
class Answer:
    """A final answer, or the part of it that came.

    Attributes:
        head: Its status and headers.
        raw_head: The bytes of its head and of the informational answers before it.
        interim: The status of each informational answer before it.
        body: What came of its body.
        complete: It came to its end.
    """

    head: Head
    raw_head: bytes
    interim: tuple[int, ...]
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False


class Answers:
    """All answers on a connection.

    Args:
        methods: The methods of the requests, in order.

    Attributes:
        found: The final answers; the last one may be incomplete.
        fault: Why the bytes cannot be parsed; None: they can.
        ended: How the server ended its side; None: it has not.
        frames: The bytes after a 101.
        received: The number of all bytes.
    """

    def __init__(self, methods: Sequence[str]) -> None:
        self.found: list[Answer] = []
        self.fault: str | None = None
        self.ended: str | None = None
        self.frames = bytearray()
        self.received = 0
        self._methods = methods
        self._buffer = bytearray()
        self._state = _State.HEAD
        self._left = 0
        self._interim: list[int] = []
        self._raw_head = b""

    @property
    def complete(self) -> int:
        """How many answers are complete."""
        return len(self.found) - (bool(self.found) and not self.found[-1].complete)

    @property
    def rest(self) -> bytes:
        """The bytes that were not parsed yet."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        while self._buffer and self._step():
            pass

    def end(self, how: str) -> None:
        """Note that the server has ended its side: "closed" or "reset"."""
        self.ended = how
        if self._state is _State.UNTIL_CLOSED and how == "closed":
            self._finish()

    def _step(self) -> bool:
        """Parse one more part; False if that needs more bytes."""
        match self._state:
            case _State.HEAD:
                return self._read_head()
            case _State.LENGTH | _State.CHUNK:
                return self._read_body()
            case _State.CHUNK_SIZE:
                return self._read_chunk_size()
            case _State.TRAILERS:
                return self._read_trailers()
            case _State.UNTIL_CLOSED:
                self.found[-1].body += self._take(len(self._buffer))
            case _State.FRAMES:
                self.frames += self._take(len(self._buffer))
        return False

    def _read_head(self) -> bool:
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(self._buffer) > MAX_HEAD_BYTES or not self._begins_well():
                return self._break("no head of an answer")
            return False
        raw = self._take(at + 4)
        if not _HEAD.fullmatch(raw):
            return self._break(f"no head of an answer: {raw[:300]!r}")
        head = parse_head(raw)
        self._raw_head += raw
        if head.status < 200 and head.status != 101:
            self._interim.append(head.status)
            return True
        answer = Answer(head, self._raw_head, tuple(self._interim))
        self._interim, self._raw_head = [], b""
        self.found.append(answer)
        self._choose_framing(head)
        return True

    def _begins_well(self) -> bool:
        return b"HTTP/1.".startswith(self._buffer[:7])

    def _choose_framing(self, head: Head) -> None:
        number = len(self.found) - 1
        method = self._methods[number] if number < len(self._methods) else "GET"
        if head.status == 101:
            self.found[-1].complete = True
            self._state = _State.FRAMES
        elif method == "HEAD" or head.status in (204, 304):
            self._finish()
        elif "transfer-encoding" in head.headers:
            if head.headers["transfer-encoding"] != "chunked" or "content-length" in head.headers:
                self._break(f"no framing: {head.headers}")
            else:
                self._state = _State.CHUNK_SIZE
        elif "content-length" in head.headers:
            length = head.headers["content-length"]
            if not re.fullmatch("[0-9]{1,12}", length):
                self._break(f"no content-length: {length!r}")
                return
            self._left = int(length)
            self._state = _State.LENGTH
            if not self._left:
                self._finish()
        else:
            self._state = _State.UNTIL_CLOSED

    def _read_body(self) -> bool:
        part = self._take(min(self._left, len(self._buffer)))
        self._left -= len(part)
        if self._state is _State.LENGTH:
            self.found[-1].body += part
            if not self._left:
                self._finish()
            return not self._left
        # `_left` has counted the line break after the chunk, too.
        self.found[-1].body += part
        if self._left:
            return False
        if self.found[-1].body[-2:] != b"\r\n":
            return self._break("a chunk without its end")
        del self.found[-1].body[-2:]
        self._state = _State.CHUNK_SIZE
        return True

    def _read_chunk_size(self) -> bool:
        at = self._buffer.find(b"\r\n")
        if at < 0:
            return self._break("no size of a chunk") if len(self._buffer) > 100 else False
        line = self._take(at + 2)[:-2]
        if not _CHUNK.fullmatch(line):
            return self._break(f"no size of a chunk: {line[:100]!r}")
        size = int(line.split(b";")[0], 16)
        self._left = size + 2
        self._state = _State.CHUNK if size else _State.TRAILERS
        return True

    def _read_trailers(self) -> bool:
        """Parse the empty line after the last chunk. A trailer is a fault here."""
        if len(self._buffer) < 2:
            return False
        if self._take(2) != b"\r\n":
            return self._break("something behind the last chunk")
        self._finish()
        return True

    def _finish(self) -> None:
        self.found[-1].complete = True
        self._state = _State.HEAD

    def _break(self, fault: str) -> bool:
        self.fault = f"{fault}; behind it {bytes(self._buffer[:100])!r}"
        self._state = _State.BROKEN
        return False

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
