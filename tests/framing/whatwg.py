"""A parser of server-sent events, written from the WHATWG's standard and not from our code.

It reads one character after the other, as the standard describes it, so that it has no shortcut in
common with the code that it checks.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One event, as the browser dispatches it to the page."""

    data: str
    type: str = "message"
    last_event_id: str = ""


class EventStreamReader:
    """The parser of WHATWG HTML 9.2.6. Feed it chunks; its events are in `messages`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.comments: list[str] = []
        self.retry_ms: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True
        self._after_cr = False
        self._line = ""
        self._data = ""
        self._type = ""
        self._id = ""

    def feed(self, chunk: bytes) -> None:
        for char in self._decoder.decode(chunk):
            if self._at_start:
                self._at_start = False
                if char == "\ufeff":
                    continue
            if self._after_cr:
                self._after_cr = False
                if char == "\n":
                    continue
            if char in "\r\n":
                self._after_cr = char == "\r"
                line, self._line = self._line, ""
                self._interpret(line)
            else:
                self._line += char

    def _interpret(self, line: str) -> None:
        if line == "":
            self._dispatch()
        elif line.startswith(":"):
            self.comments.append(line[1:])
        elif ":" in line:
            name, value = line.split(":", 1)
            self._field(name, value[1:] if value.startswith(" ") else value)
        else:
            self._field(line, "")

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value and all(char in "0123456789" for char in value):
            self.retry_ms = int(value)

    def _dispatch(self) -> None:
        data, kind = self._data, self._type
        self._data, self._type = "", ""
        if data == "":
            return
        self.messages.append(Message(data[:-1], kind or "message", self._id))


def read(chunks: Iterable[bytes]) -> EventStreamReader:
    """A new reader that has read all the chunks."""
    reader = EventStreamReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader
