"""What a live response begins with."""

from __future__ import annotations

from starlette.types import Message

from tailrace.store import Slice

__all__ = ["Opening"]


class Opening:
    """The start of a response and the first part: taken once, so that nobody goes on to hold it.

    Args:
        start: An `http.response.start`.
        first: What comes first.
    """

    __slots__ = ("_start_and_first",)

    def __init__(self, start: Message, first: Slice) -> None:
        self._start_and_first: tuple[Message, Slice] | None = (start, first)

    def take(self) -> tuple[Message, Slice]:
        taken, self._start_and_first = self._start_and_first, None
        assert taken is not None
        return taken
