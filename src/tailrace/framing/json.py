"""Items as JSON, for every format that carries JSON; and two such formats: lines and an array."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from tailrace.errors import InvalidChunk, Problem
from tailrace.framing.base import Carries, Framing
from tailrace.framing.row import json_text, reason_of, record_of
from tailrace.types import check_flag

__all__ = ["JSONArray", "JSONLines", "error_json", "json_of"]


def json_of(item: Any, format: str) -> bytes:  # noqa: A002 - the errors' own word
    """The item as one line of JSON in UTF-8.

    NaN and the infinities become `null`, because JSON does not have them (unless a model's own
    configuration has `ser_json_inf_nan`). Control characters are escaped, so the result never holds
    a CR or LF. Bytes are decoded as UTF-8 and written as text. A key is written as pydantic writes
    it: `inf` as "inf", a tuple as its parts with commas between them.

    Raises:
        InvalidChunk: pydantic cannot write the item. If the item is a row, the error names the
            cell.
    """
    try:
        return json_text(item)
    except ValueError as exc:  # pydantic's own errors, and those for invalid UTF-8 and for a cycle
        raise _refused(item, format, exc) from exc


def _refused(item: Any, format: str, error: ValueError) -> InvalidChunk:  # noqa: A002 - as above
    """An error that names the cell that cannot be written, if the item is a row."""
    wanted = f"what pydantic can write as JSON ({reason_of(error)})"
    try:
        record = record_of(item)
    except ValueError:
        return InvalidChunk(item, format, wanted)
    cells = record.items() if isinstance(record, dict) else ()
    for column, cell in cells:
        try:
            json_text(cell)
        except ValueError:
            return InvalidChunk(cell, format, wanted, column=column)
    return InvalidChunk(item, format, wanted)


def error_json(problem: Problem) -> bytes:
    """`{"error": {"code": ..., "message": ...}}`: how formats in JSON say that the stream failed.

    Clients of model APIs look for `error` in each value that they read, and show its `message`.
    They take a value of any other shape for a part of the answer.

    It never raises, because it is called after another error.
    """
    message = problem.message.encode("utf-8", "backslashreplace").decode()
    return to_json({"error": {"code": problem.code, "message": message}})


class JSONLines(Framing):
    """JSON Lines: each item is one line of JSON, with a line feed after it.

    Every item is written as a value: str as a JSON string, bytes as the JSON string of their text
    in UTF-8. NaN and the infinities become `null`.

    If the source fails, the last line is `{"error": {"code": ..., "message": ...}}`.

    Args:
        end_mark: End with the line `{"end": {}}`, if the source ended without an error.

    Raises:
        InvalidOption: `end_mark` is not a bool.

    Source: jsonlines.org; RFC 8259.
    """

    name = "jsonlines"
    media_type = "application/jsonl"
    carries = Carries.JSON
    heartbeat = b"\n"  # sent only with `StreamOptions.blank_lines`

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


class JSONArray(Framing):
    """A JSON array with the items as its elements; an empty source gives `[]`.

    If the source fails, the array is left without its `]`, so that every parser refuses it.

    Source: RFC 8259 section 5.
    """

    name = "jsonarray"
    media_type = "application/json"
    carries = Carries.JSON

    def __init__(self) -> None:
        self._before = b"["

    def frame(self, item: Any) -> bytes:
        return self.frame_json(json_of(item, "jsonarray"))

    def frame_json(self, text: bytes) -> bytes:
        framed = self._before + text
        # Only now: if an item was refused, nothing was written, and the next item is the first.
        self._before = b","
        return framed

    def closing(self) -> bytes:
        return b"[]" if self._before == b"[" else b"]"
