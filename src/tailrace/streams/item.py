"""An item that an application gives, and the message that it becomes in a JSON stream.

Messages are the items as JSON. What is more than an item is an object with the one key `tailrace`,
so no item may look like that:

* `{"tailrace": {"event": name, "data": ...}}`: an `Event` with a name;
* `{"tailrace": {"end": status, "code": ..., "message": ...}}`: how a run ended, its last message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from pydantic_core import from_json, to_json

from tailrace import limits
from tailrace.errors import InvalidChunk
from tailrace.framing import Event, json_of
from tailrace.store import Offset, Slice, message_ends, value_of

__all__ = [
    "DONE",
    "END_BYTES",
    "End",
    "Message",
    "NamedEvent",
    "Status",
    "WireMessage",
    "end_in",
    "message_of",
    "parse",
    "wire_messages",
    "wire_of_end",
]

Status: TypeAlias = Literal["running", "done", "failed", "cancelled", "lost"]
"""How a run is; all but the first are ends."""

_RESERVED: Final = b'{"tailrace":'
"""What our own messages begin with, byte for byte."""
_END: Final = b'{"tailrace":{"end":'
_ENDS: Final = frozenset({"done", "failed", "cancelled", "lost"})
_FOREIGN_EVENTS: Final = frozenset({"fastapi", "sse_starlette"})

END_BYTES: Final = 6 * limits.MAX_END_CHARS + 512
"""Bytes that an end has at most: no character is written as more than `\\u0000`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream.

    Args:
        offset: The position after it: give it as `start` to go on from here.
        data: The item, as JSON gives it; of a stream that is not JSON, the bytes of one append.
        event: The name of an `Event`; None without one.
    """

    offset: str
    data: Any
    event: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended.

    Args:
        status: Not "running".
        code: A stable name of the reason; "done" for a run that ended as its source did.
        message: A sentence for people; empty for that.
    """

    status: Status
    code: str = "done"
    message: str = ""


DONE: Final = End("done")


@dataclass(frozen=True, slots=True)
class NamedEvent:
    """An event with a name, as it stands in a stream; whoever appended it may have checked nothing.

    Args:
        name: Its name.
        data: Its data.
    """

    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class WireMessage:
    """One message of a JSON stream, as it is stored.

    Args:
        offset: The position after it.
        data: Its JSON.
    """

    offset: str
    data: bytes

    @property
    def text(self) -> str | None:
        """The text of a message that is a string."""
        if not self.data.startswith(b'"'):
            return None
        text: str = value_of(self.data)
        return text

    def decoded(self) -> Message:
        """Its data, decoded anew: a reader may change what it gets."""
        data, event = parse(self.data)
        return Message(self.offset, data, event)

    @property
    def reserved(self) -> NamedEvent | End | None:
        """What it tells, if it is one of ours."""
        return _reserved_in(self.data)


def wire_messages(part: Slice) -> Iterator[WireMessage]:
    """The messages in a slice of a JSON stream."""
    for chunk in part.chunks:
        position = chunk.end.position - len(chunk.data)
        begin = 0
        for end in message_ends(chunk.data):
            offset = Offset(chunk.end.generation, position + end)
            yield WireMessage(str(offset), chunk.data[begin : end - 1])
            begin = end


def message_of(item: Any) -> bytes:
    """The wire bytes of an item: its JSON and a comma; empty for an event that only comments.

    An event's `id`, `retry` and comment are not kept: a message's id is its offset.

    Raises:
        InvalidChunk: pydantic cannot write it as JSON, or it is an object that begins with the key
            `tailrace`.
    """
    event = _event_of(item)
    if event is None:
        written = json_of(item, "JSON")
    elif event.event is not None:
        written = json_of(
            {"tailrace": {"event": str.__str__(event.event), "data": event.data}}, "JSON"
        )
        return written + b","
    elif event.data is None:
        return b""
    else:
        written = json_of(event.data, "JSON")
    if written.startswith(_RESERVED):
        raise InvalidChunk(item, "JSON", "an object that does not begin with the key 'tailrace'")
    return written + b","


def wire_of_end(end: End) -> bytes:
    """The wire bytes of a run's last message."""
    said: dict[str, str] = {"end": end.status}
    if end.status != "done":
        sentence = end.message.encode("utf-8", "backslashreplace").decode()
        said |= {"code": end.code, "message": sentence[: limits.MAX_END_CHARS]}
    return to_json({"tailrace": said}) + b","


def parse(message: bytes) -> tuple[Any, str | None]:
    """The data of a message, and the name of its event."""
    reserved = _reserved_in(message)
    if isinstance(reserved, NamedEvent):
        return reserved.data, reserved.name
    return value_of(message), None


def end_in(wire: bytes) -> End | None:
    """The end that is the last message in some wire bytes, or in the rest of them; None without.

    It is found from behind: within a string of JSON its quotes would be escaped.
    """
    begin = wire.rfind(_END)
    if begin < 0 or not wire.endswith(b","):
        return None
    try:
        told = from_json(wire[begin:-1])["tailrace"]
    except ValueError:
        return None  # it is inside another message
    return _end_of(told) if isinstance(told, dict) else None


def _reserved_in(message: bytes) -> NamedEvent | End | None:
    """What a message tells, if it is one of ours."""
    if not message.startswith(_RESERVED):
        return None
    whole = value_of(message)
    told = whole["tailrace"]
    if len(whole) != 1 or not isinstance(told, dict):
        return None
    event = told.get("event")
    return NamedEvent(event, told.get("data")) if isinstance(event, str) else _end_of(told)


def _end_of(told: dict[str, Any]) -> End | None:
    status = told.get("end")
    if status not in _ENDS:
        return None
    return End(status, str(told.get("code", status)), str(told.get("message", "")))


def _event_of(item: Any) -> Event | None:
    """An item that says how it is sent; FastAPI's and sse-starlette's classes too."""
    if isinstance(item, Event):
        return item
    if not _is_foreign_event(type(item)):  # type: ignore[arg-type]  # mypy: takes an instance's __hash__ for the class's
        return None
    raw = getattr(item, "raw_data", None)
    data = item.data if raw is None else raw
    if data is None and item.event is None:
        return Event(comment="")
    return Event(data, event=item.event)


@lru_cache(maxsize=1024)  # bounded, for an application may make classes as it runs
def _is_foreign_event(kind: type) -> bool:
    """By name, not by import, as in `framing`; the look along its bases is paid once."""
    return any(
        base.__name__ == "ServerSentEvent" and base.__module__.partition(".")[0] in _FOREIGN_EVENTS
        for base in kind.__mro__
    )
