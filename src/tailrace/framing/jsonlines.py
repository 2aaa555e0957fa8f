"""JSON Lines: one JSON value on each line."""

from __future__ import annotations

from typing import Any

from tailrace.errors import Problem
from tailrace.framing._json import error_json, json_of
from tailrace.framing.base import Carries, Framing

__all__ = ["JSONLines"]


class JSONLines(Framing):
    """Each item as JSON and a line feed.

    Every item is a value, str and bytes too: a str is a JSON string, and bytes are the JSON string
    of the text that they hold in UTF-8. NaN and the infinities become `null`.

    A source that failed ends with the line `{"error": {"code": ..., "message": ...}}`.

    Source: jsonlines.org; RFC 8259.
    """

    name = "jsonlines"
    media_type = "application/jsonl"
    carries = Carries.JSON

    def frame(self, item: Any) -> bytes:
        return json_of(item, "jsonlines") + b"\n"

    def frame_json(self, text: bytes) -> bytes:
        return text + b"\n"

    def failure(self, problem: Problem) -> bytes:
        return error_json(problem) + b"\n"
