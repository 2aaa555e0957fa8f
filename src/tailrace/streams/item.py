"""An item that an application gives, and the message that it becomes in a JSON stream.

Messages are the items as JSON. What is more than an item is an object with the one key `tailrace`,
so no item may look like that:

* `{"tailrace": {"event": name, "data": ...}}`: an `Event` with a name;
* `{"tailrace": {"end": status, "code": ..., "message": ...}}`: how a run ended, its last message.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from pydantic_core import from_json, to_json

from tailrace import limits
from tailrace.errors import InvalidChunk
from tailrace.framing import Event, json_of
from tailrace.store import value_of
from tailrace.streams.messages import RESERVED, control_of

__all__ = [
    "DONE",
    "END_BYTES",
    "End",
    "Message",
    "Status",
    "end_in",
    "message_of",
    "parse",
    "wire_of_end",
]

Status: TypeAlias = Literal["running", "done", "failed", "cancelled", "lost"]
"""How a run is; all but the first are ends."""

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
    if written.startswith(RESERVED):
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
    control = control_of(message)
    if control is not None and control.event is not None:
        return control.data, control.event
    return value_of(message), None


def end_in(wire: bytes) -> End | None:
    """The end that is the last message in some wire bytes, or in the rest of them; None without.

    It is found from behind: within a string of JSON its quotes would be escaped.
    """
    begin = wire.rfind(_END)
    if begin < 0 or not wire.endswith(b","):
        return None
    try:
        said = from_json(wire[begin:-1])["tailrace"]
    except ValueError:
        return None  # it is inside another message
    if not isinstance(said, dict) or said.get("end") not in _ENDS:
        return None
    return End(said["end"], str(said.get("code", "done")), str(said.get("message", "")))


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
