"""One server-sent event, as an application writes it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from tailrace.errors import InvalidEvent
from tailrace.limits import MAX_RETRY_MS

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; its fields are checked when it is made.

    A browser hands an event to the page only if it has data: without it the `id` and `retry` are
    kept, and the rest is dropped. Give `data=""` to an event that is only a name.

    Args:
        data: str and bytes go out as they are, each line a `data:` line of its own; None writes no
            such line; anything else is written as JSON.
        event: The type that `addEventListener` names; one line; without it "message".
        id: What the browser sends back as `Last-Event-ID`; one line without NUL; "" clears it.
        retry: Milliseconds to wait before connecting again, 0 to `limits.MAX_RETRY_MS`.
        comment: Text that no client looks at; several lines are several comments.

    Raises:
        InvalidEvent: A field that the format cannot carry, or no field at all: such an event is a
            lone blank line that nobody sees, so it is always a mistake.

    Source: WHATWG HTML 9.2.5, 9.2.6.
    """

    data: Any = None
    _: KW_ONLY
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        named = False
        if self.event is not None:
            _check_line("event", self.event)
            named = True
        if self.id is not None:
            _check_line("id", self.id)
            _check_no_nul(self.id)
            named = True
        if self.retry is not None:
            _check_retry(self.retry)
            named = True
        if self.comment is not None:
            _check_text("comment", self.comment)
            named = True
        if not named and self.data is None:
            raise InvalidEvent("data", None, "an event needs data or one of the other fields")


def _check_text(field: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidEvent(field, value, "it must be a str")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        reason = f"the lone surrogate at character {exc.start} has no form in UTF-8"
        raise InvalidEvent(field, value, reason) from exc


def _check_line(field: str, value: str) -> None:
    _check_text(field, value)
    # Only these two end a line for an SSE parser; U+2028 and its like do not.
    if "\n" in value or "\r" in value:
        raise InvalidEvent(field, value, "it must be one line, without CR and LF")


def _check_no_nul(value: str) -> None:
    if "\0" in value:
        raise InvalidEvent("id", value, "clients ignore an id that holds NUL")


def _check_retry(value: int) -> None:
    # bool is an int: `retry=True` is a mistake, not one millisecond.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_RETRY_MS:
        raise InvalidEvent("retry", value, f"it must be an int of 0 to {MAX_RETRY_MS} milliseconds")
