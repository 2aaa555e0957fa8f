"""sse-starlette's events, and the bytes that it makes of them.

Tests compare the bytes with sse-starlette's, down to the order of the lines. `tailrace.Event`
writes the `id` last, because some clients accept an id as soon as they have read its line.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["JSONServerSentEvent", "ServerSentEvent", "check_separator", "ensure_bytes"]

_LINE_END = re.compile(r"\r\n|\r|\n")


class ServerSentEvent:
    """One server-sent event.

    Args:
        data: Its `str()` is sent, each line of it as a `data:` line; None sends none.
        event: The type that `addEventListener` names; line breaks are left out.
        id: What the browser sends back as `Last-Event-ID`; line breaks are left out.
        retry: Milliseconds that a client waits before it connects again.
        comment: Text that clients ignore.
        sep: What ends a line: CRLF, CR or LF; None is CRLF.

    Raises:
        ValueError: `sep` is something else.

    Source: WHATWG HTML 9.2.5, 9.2.6.
    """

    DEFAULT_SEPARATOR = "\r\n"

    def __init__(
        self,
        data: Any | None = None,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - theirs
        retry: int | None = None,
        comment: str | None = None,
        sep: str | None = None,
    ) -> None:
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry
        self.comment = comment
        self._sep = check_separator(sep, self.DEFAULT_SEPARATOR)

    def encode(self) -> bytes:
        """The event's bytes, as they are sent.

        Raises:
            TypeError: `retry` is not an int.
        """
        if self.retry is not None and not isinstance(self.retry, int):
            raise TypeError("retry argument must be int")
        fields = (
            ("", _lines(self.comment)),
            ("id", _one_line(self.id)),
            ("event", _one_line(self.event)),
            ("data", _lines(self.data)),
            ("retry", _lines(self.retry)),
        )
        written = [f"{name}: {line}" for name, lines in fields for line in lines]
        return self._sep.join((*written, "", "")).encode()


class JSONServerSentEvent(ServerSentEvent):
    """One server-sent event whose data is sent as JSON.

    Args:
        data: Anything that `json` can write; None sends no data.

    The other arguments are those of `ServerSentEvent`.
    """

    def __init__(self, data: Any | None = None, *args: Any, **kwargs: Any) -> None:
        text = None
        if data is not None:
            text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        super().__init__(text, *args, **kwargs)


def ensure_bytes(data: Any, sep: str) -> bytes:
    """The bytes that are sent for an item.

    Args:
        data: Bytes and events are sent as they are. A dict has the arguments of an event. Of
            anything else, the `str()` is the data of an event.
        sep: What ends a line, except in an event, which has its own.
    """
    if isinstance(data, (bytes, memoryview)):
        return bytes(data)
    if isinstance(data, ServerSentEvent):
        return data.encode()
    fields: dict[str, Any] = (
        {**data, "sep": sep} if isinstance(data, dict) else {"data": str(data), "sep": sep}
    )
    return ServerSentEvent(**fields).encode()


def check_separator(sep: str | None, default: str) -> str:
    """What ends a line: `sep` or, if it is None, the default.

    Raises:
        ValueError: `sep` is not CRLF, CR, LF or None.
    """
    if sep not in (None, "\r\n", "\r", "\n"):
        raise ValueError(f"sep must be one of: \\r\\n, \\r, \\n, got: {sep}")
    return sep or default


def _lines(value: Any) -> list[str]:
    return [] if value is None else _LINE_END.split(str(value))


def _one_line(value: Any) -> list[str]:
    return [] if value is None else [_LINE_END.sub("", str(value))]
