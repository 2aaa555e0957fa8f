"""The messages of a JSON stream, and those among them that are ours.

A message with the single key "tailrace" is no data but tells something: a named event, or how a run
ended. `{"tailrace": {"event": "step", "data": ...}}`; `{"tailrace": {"end": "done"}}`, or "failed",
"cancelled", "lost" with a "code" and a "message".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tailrace.errors import RunEnded
from tailrace.live import Piece
from tailrace.store import Offset, message_ends, value_of

__all__ = ["RESERVED", "Control", "Message", "control_of", "messages_of", "run_error"]

RESERVED: Final = b'{"tailrace":'
"""What ours begin with, byte for byte."""


@dataclass(frozen=True, slots=True)
class Control:
    """A message of ours.

    Args:
        event: The name of an event; None for an end.
        data: The event's.
        end: "done", "failed", "cancelled" or "lost"; None for an event.
        code: Why it did not end well.
        message: The same, in words.
    """

    event: str | None = None
    data: Any = None
    end: str | None = None
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Args:
        data: Its JSON.
        end: The position after it.
    """

    data: bytes
    end: Offset

    @property
    def text(self) -> str | None:
        """The text of a message that is a string."""
        if not self.data.startswith(b'"'):
            return None
        text: str = value_of(self.data)
        return text

    @property
    def control(self) -> Control | None:
        """What it tells, if it is one of ours."""
        return control_of(self.data)


def messages_of(piece: Piece) -> Iterator[Message]:
    """The messages of a piece of a JSON stream."""
    for chunk in piece.chunks:
        position = chunk.end.position - len(chunk.data)
        begin = 0
        for end in message_ends(chunk.data):
            after = Offset(chunk.end.generation, position + end)
            yield Message(chunk.data[begin : end - 1], after)
            begin = end


def run_error(path: str, control: Control) -> RunEnded | None:
    """What a run's end says went wrong; None for one that ended well, or for no end."""
    if control.end in (None, "done"):
        return None
    assert control.end is not None
    return RunEnded(path, control.end, control.code, control.message)


def control_of(message: bytes) -> Control | None:
    """What a message tells, if it is one of ours."""
    if not message.startswith(RESERVED):
        return None
    whole = value_of(message)
    told = whole["tailrace"]
    if len(whole) != 1 or not isinstance(told, dict):
        return None
    event, end = told.get("event"), told.get("end")
    if isinstance(event, str):
        return Control(event=event, data=told.get("data"))
    if isinstance(end, str):
        code, message = told.get("code", end), told.get("message", "")
        return Control(end=end, code=str(code), message=str(message))
    return None
