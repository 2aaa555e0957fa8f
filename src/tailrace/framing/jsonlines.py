"""JSON Lines: one JSON value on each line."""

from __future__ import annotations

from typing import Any

from tailrace.errors import Problem
from tailrace.framing._json import error_json, json_of
from tailrace.framing.base import Carries, Framing, check_flag

__all__ = ["JSONLines"]


class JSONLines(Framing):
    """Each item as JSON and a line feed.

    Every item is a value, str and bytes too: a str is a JSON string, and bytes are the JSON string
    of the text that they hold in UTF-8. NaN and the infinities become `null`.

    A source that failed ends with the line `{"error": {"code": ..., "message": ...}}`.

    Args:
        end_mark: End with the line `{"end": {}}`, if the source ended well.

    Source: jsonlines.org; RFC 8259.
    """

    name = "jsonlines"
    media_type = "application/jsonl"
    carries = Carries.JSON
    heartbeat = b"\n"  # only if it is asked for (`StreamOptions.blank_lines`)

    def __init__(self, end_mark: bool = False) -> None:
        check_flag("end_mark", end_mark)
        self._end_mark = end_mark

    def frame(self, item: Any) -> bytes:
        return json_of(item, "jsonlines") + b"\n"

    def frame_json(self, text: bytes) -> bytes:
        return text + b"\n"

    def closing(self) -> bytes:
        return b'{"end":{}}\n' if self._end_mark else b""

    def failure(self, problem: Problem) -> bytes:
        return error_json(problem) + b"\n"
