"""An item that an application gives, and the message that it becomes in a JSON stream.

A message is the item's JSON. Two kinds of messages are more than an item. They are objects whose
only key is `tailrace`, so no item may begin with that key:

* `{"tailrace": {"event": name, "data": ...}}`: an `Event` with a name;
* `{"tailrace": {"end": status, "code": ..., "message": ...}}`: how a run ended, its last message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, cast

from pydantic_core import from_json, to_json

from tailrace import limits
from tailrace.errors import InvalidChunk
from tailrace.framing import Event, json_of
from tailrace.store import Offset, Slice, is_json, message_ends, value_of

__all__ = [
    "CANCELLED",
    "CLOSED",
    "DELETED",
    "DONE",
    "END_BYTES",
    "LEFT",
    "LOST",
    "SHUTTING_DOWN",
    "STOPPED",
    "Message",
    "NamedEvent",
    "RunEnd",
    "Status",
    "WireMessage",
    "end_in",
    "end_of",
    "message_of",
    "parse",
    "wire_messages",
    "wire_of_end",
]

Status: TypeAlias = Literal["running", "done", "failed", "cancelled", "lost"]
"""The state of a run; all except "running" are ways to end."""

_RESERVED: Final = b'{"tailrace":'
"""The first bytes of a message that is more than an item."""
_END: Final = b'{"tailrace":{"end":'
_ENDS: Final = frozenset({"done", "failed", "cancelled", "lost"})
_FOREIGN_EVENTS: Final = frozenset({"fastapi", "sse_starlette"})

END_BYTES: Final = 6 * limits.MAX_END_CHARS + 512
"""The most bytes that an end can have: the longest form of a character is `\\u0000`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream.

    Args:
        offset: The position after the message: give it as `start` to go on from here.
        data: The item, decoded from JSON; if the stream is not JSON, the bytes of one append.
        event: The name of an `Event`; None: it has none.
    """

    offset: str
    data: Any
    event: str | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended.

    Args:
        status: Any but "running".
        code: A stable name of the reason; "done" for a run whose source came to its end.
        message: A sentence for people; empty for "done".
    """

    status: Status
    code: str = "done"
    message: str = ""


DONE: Final = RunEnd("done")
LOST: Final = RunEnd("lost", "worker_lost", "the worker that ran it has died")
LEFT: Final = RunEnd("cancelled", "cancelled", "its last client has left")
STOPPED: Final = RunEnd("cancelled", "cancelled", "it was stopped")
SHUTTING_DOWN: Final = RunEnd("cancelled", "cancelled", "the worker that ran it was stopped")
DELETED: Final = RunEnd("cancelled", "cancelled", "its stream was deleted")
CLOSED: Final = RunEnd("cancelled", "cancelled", "its stream was closed by somebody else")
CANCELLED: Final = RunEnd("cancelled", "cancelled", "its task was cancelled")


@dataclass(frozen=True, slots=True)
class NamedEvent:
    """An event with a name, as it is stored; a client may have appended it without any check.

    Args:
        name: Its name; may be no valid event name.
        data: Its data, decoded from JSON.
    """

    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class WireMessage:
    """One message of a JSON stream, as it is stored.

    Args:
        offset: The position after the message.
        data: The message's JSON.
    """

    offset: str
    data: bytes

    @property
    def text(self) -> str | None:
        """The text of a message that is a string; None for any other message."""
        if not self.data.startswith(b'"'):
            return None
        text: str = value_of(self.data)
        return text

    def decoded(self) -> Message:
        """The message for a reader; decoded anew each time, because readers may change the data."""
        data, event = parse(self.data)
        return Message(self.offset, data, event)

    @property
    def reserved(self) -> NamedEvent | RunEnd | None:
        """The event or the end that the message is; None if it is an item."""
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
    """The wire bytes of an item: its JSON and a comma; empty for an event with only a comment.

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


def wire_of_end(end: RunEnd) -> bytes:
    """The wire bytes of a run's last message."""
    said: dict[str, str] = {"end": end.status}
    if end.status != "done":
        sentence = end.message.encode("utf-8", "backslashreplace").decode()
        said |= {"code": end.code, "message": sentence[: limits.MAX_END_CHARS]}
    return to_json({"tailrace": said}) + b","


def parse(message: bytes) -> tuple[Any, str | None]:
    """The data of a message, and the name of its event, if it has one."""
    reserved = _reserved_in(message)
    if isinstance(reserved, NamedEvent):
        return reserved.data, reserved.name
    return value_of(message), None


def end_in(wire: bytes) -> RunEnd | None:
    """The end of a run, if that is the last message in some wire bytes; else None.

    The bytes may begin within a message. They are searched backwards for the first characters of an
    end. Text in a JSON string cannot look like them, because its quotes are escaped.
    """
    begin = wire.rfind(_END)
    if begin < 0 or not wire.endswith(b","):
        return None
    try:
        told = _reserved(from_json(wire[begin:-1]))
    except ValueError:
        return None  # these bytes are part of another message
    return told if isinstance(told, RunEnd) else None


def end_of(part: Slice) -> RunEnd | None:
    """How a run ended, from the last part of its stream; None if the stream is not a run's."""
    if not part.closed or not part.chunks or not is_json(part.info.content_type):
        return None
    return end_in(part.chunks[-1].data)


def _reserved_in(message: bytes) -> NamedEvent | RunEnd | None:
    """The event or the end that a message is; None if it is an item."""
    return _reserved(value_of(message)) if message.startswith(_RESERVED) else None


def _reserved(value: dict[str, Any]) -> NamedEvent | RunEnd | None:
    told = value["tailrace"]
    if len(value) != 1 or not isinstance(told, dict):
        return None
    event, status = told.get("event"), told.get("end")
    if isinstance(event, str):
        return NamedEvent(event, told.get("data"))
    if not isinstance(status, str) or status not in _ENDS:
        return None
    code, message = told.get("code", status), told.get("message", "")
    return RunEnd(cast(Status, status), str(code), str(message))


def _event_of(item: Any) -> Event | None:
    """The item, if it is an event (also of FastAPI or sse-starlette); None otherwise."""
    if isinstance(item, Event):
        return item
    if not _is_foreign_event(type(item)):  # type: ignore[arg-type]  # mypy: takes an instance's __hash__ for the class's
        return None
    raw = getattr(item, "raw_data", None)
    data = item.data if raw is None else raw
    if data is None and item.event is None:
        return Event(comment="")
    return Event(data, event=item.event)


@lru_cache(maxsize=1024)  # bounded: an application may go on making classes
def _is_foreign_event(kind: type) -> bool:
    """Whether a class is an event of FastAPI or sse-starlette, by its name: imports neither."""
    return any(
        base.__name__ == "ServerSentEvent" and base.__module__.partition(".")[0] in _FOREIGN_EVENTS
        for base in kind.__mro__
    )
