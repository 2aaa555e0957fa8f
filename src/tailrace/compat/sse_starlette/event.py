"""sse-starlette's events, and the bytes that it makes of them.

They are its bytes to the order of the lines: tests compare them. `tailrace.Event` writes the `id`
last, for some clients take an id as soon as they have read its line.
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
        data: Sent as its `str()`, each line a `data:` line.
        event: The type that `addEventListener` names; line breaks are left out.
        id: What the browser sends back as `Last-Event-ID`; line breaks are left out.
        retry: Milliseconds to wait before connecting again.
        comment: Text that no client looks at.
        sep: What ends a line: CRLF, CR or LF; None is CRLF.

    Raises:
        ValueError: Another `sep`.

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
        """The event as it is sent.

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
    """What is sent for an item.

    Args:
        data: bytes go out as they are; a dict has the arguments of an event; anything else that is
            no event is the data of one, by its `str()`.
        sep: What ends a line, but not of an event that was made before.
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
    """What ends a line.

    Raises:
        ValueError: It ends none.
    """
    if sep not in (None, "\r\n", "\r", "\n"):
        raise ValueError(f"sep must be one of: \\r\\n, \\r, \\n, got: {sep}")
    return sep or default


def _lines(value: Any) -> list[str]:
    return [] if value is None else _LINE_END.split(str(value))


def _one_line(value: Any) -> list[str]:
    return [] if value is None else [_LINE_END.sub("", str(value))]
