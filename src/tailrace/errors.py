"""Every error that Tailrace raises, in one tree.

```
TailraceError
├── InvalidOption    a setting is out of its range (the application's fault; also a ValueError)
├── InvalidChunk     a source gave what its format cannot carry (also a TypeError)
├── InvalidEvent     a field of an SSE event cannot be written (also a ValueError)
├── InvalidItem      an item does not fit the endpoint's return annotation (also a ValueError)
└── SourceSpent      a response was sent a second time, and its source can be read only once
```

Each class says who caused it and carries its facts as fields. `status` is the HTTP status that a
response gives for it while its status line has not been sent; `code` is a stable name for programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "InvalidChunk",
    "InvalidEvent",
    "InvalidItem",
    "InvalidOption",
    "Problem",
    "SourceSpent",
    "TailraceError",
    "problem_of",
]


class TailraceError(Exception):
    """The root: anything that Tailrace itself found wrong."""

    status = 500
    code = "error"


class InvalidOption(TailraceError, ValueError):
    """A setting is out of its range.

    Args:
        name: The setting, as the caller spelt it.
        value: What was given.
        allowed: The range in words: "seconds, more than 0".
    """

    code = "invalid_option"

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name}={value!r} is out of range: give {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


class InvalidChunk(TailraceError, TypeError):
    """A source gave an item that its format cannot carry.

    Args:
        item: The item itself; only its type is named in the message.
        format: The framing's name: "raw", "sse", "csv".
        wanted: What the format takes, in words.
    """

    code = "invalid_chunk"

    def __init__(self, item: Any, format: str, wanted: str) -> None:  # noqa: A002 - HTTP's own word
        super().__init__(
            f"a source of a {format} response gave {_type_name(item)}: give it {wanted}"
        )
        self.item_type = type(item)
        self.format = format
        self.wanted = wanted


class InvalidEvent(TailraceError, ValueError):
    """A field of a server-sent event cannot be written on the wire.

    Args:
        field: "id", "event" or "retry".
        value: What was given.
        reason: Why it cannot be sent.
    """

    code = "invalid_event"

    def __init__(self, field: str, value: Any, reason: str) -> None:
        super().__init__(f"event {field}={value!r} cannot be sent: {reason}")
        self.field = field
        self.value = value
        self.reason = reason


class InvalidItem(TailraceError, ValueError):
    """An item does not fit the item type that the endpoint's return annotation names.

    Args:
        endpoint: The endpoint's name.
        errors: pydantic's list of what is wrong.
    """

    code = "invalid_item"

    def __init__(self, endpoint: str, errors: list[Any]) -> None:
        first = errors[0] if errors else {}
        super().__init__(
            f"{endpoint} yielded an item that does not fit its return annotation: "
            f"{first.get('msg', 'invalid')} at {first.get('loc', ())}"
        )
        self.endpoint = endpoint
        self.errors = errors


class SourceSpent(TailraceError, RuntimeError):
    """A response was sent a second time, though its source can be iterated only once."""

    code = "source_spent"

    def __init__(self, source: Any) -> None:
        super().__init__(
            f"this response was sent before and its source, {_type_name(source)}, can be read only "
            "once: make a new response for each request"
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told of an error in mid-stream: a stable code and a sentence."""

    code: str
    message: str


def problem_of(error: BaseException, *, expose: bool) -> Problem:
    """What a stream's tail tells of an error.

    Args:
        error: What ended the source.
        expose: True tells the exception's own type and text. They may hold secrets (a database
            URL, a path), so without it only our own errors keep their code.

    Returns:
        The code and the message for the client.
    """
    code = error.code if isinstance(error, TailraceError) else "stream_failed"
    if expose:
        return Problem(code, f"{type(error).__name__}: {error}")
    return Problem(code, "the stream failed before its end")


def _type_name(item: Any) -> str:
    kind = type(item)
    name: str = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
