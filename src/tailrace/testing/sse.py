"""Server-sent events as a browser reads them.

Source: WHATWG HTML, 9.2.5 (parsing) and 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["EventParser", "ReceivedEvent"]


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event, as `EventSource` would dispatch it.

    Args:
        data: The data lines, joined with line feeds.
        event: The event's type; "message" if it has none.
        id: The last event ID when it was dispatched: its own, or that of an earlier event.
        retry: Milliseconds to wait before a reconnect, if this event's block has that field.
    """

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """The data, parsed as JSON."""
        return json.loads(self.data)


class EventParser:
    """Parses a body into events; its bytes may come in pieces of any size.

    What follows the last blank line is not an event and is never returned.
    """

    def __init__(self) -> None:
        self.comments: list[str] = []
        """The comments so far; a heartbeat is one."""
        self.retry: int | None = None
        """The last reconnection time of the stream, in milliseconds; None: it had none."""
        # Not utf-8-sig: it returns no text before it has three bytes.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True
        self._after_cr = False
        self._line = ""
        self._last_id = ""
        self._data: list[str] = []
        self._event = ""
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[ReceivedEvent]:
        """The events that these bytes complete.

        Args:
            chunk: The next bytes of the body.
        """
        text = self._decoder.decode(chunk)
        if self._at_start and text:
            text = text.removeprefix("\ufeff")
            self._at_start = False
        events = []
        for line in self._lines(text):
            event = self._take(line)
            if event is not None:
                events.append(event)
        return events

    def _lines(self, text: str) -> list[str]:
        if self._after_cr and text:
            # A CR has ended the last line at once; if an LF comes now, it belongs to that CR.
            text = text.removeprefix("\n")
            self._after_cr = False
        self._after_cr = self._after_cr or text.endswith("\r")
        # Not `splitlines`, which also splits at U+2028 and others.
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if lines:
            lines[0] = self._line + lines[0]
            self._line = rest
        else:
            self._line += rest
        return lines

    def _take(self, line: str) -> ReceivedEvent | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if colon and not name:
            self.comments.append(value)
        else:
            self._field(name, value)
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = self._retry = int(value)

    def _dispatch(self) -> ReceivedEvent | None:
        data, event, retry = self._data, self._event or "message", self._retry
        self._data, self._event, self._retry = [], "", None
        if not data:
            return None
        return ReceivedEvent("\n".join(data), event, self._last_id, retry)
