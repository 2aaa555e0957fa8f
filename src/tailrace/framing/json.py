"""An item as JSON, for every format that carries it; and two formats: JSON Lines and an array."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from tailrace.errors import InvalidChunk, Problem
from tailrace.framing.base import Carries, Framing, check_flag
from tailrace.framing.row import json_text, reason_of, record_of

__all__ = ["JSONArray", "JSONLines", "error_json", "json_of"]


def json_of(item: Any, format: str) -> bytes:  # noqa: A002 - the errors' own word
    """The item as one line of JSON in UTF-8.

    NaN and the infinities become `null`, for JSON does not have them (unless a model's own
    configuration has `ser_json_inf_nan`). Control characters are escaped, so the result never holds
    a CR or LF. Bytes are written as the text that they hold in UTF-8. A key is written as pydantic
    writes it: `inf` as "inf", a tuple as its parts with commas between them.

    Raises:
        InvalidChunk: pydantic cannot write the item; of a row, the error names the cell.
    """
    try:
        return json_text(item)
    except ValueError as exc:  # what pydantic raises is one, and so is a broken UTF-8 or a cycle
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
    """`{"error": {"code": ..., "message": ...}}`: how a format in JSON says that its stream failed.

    Clients of model APIs look for `error` in each value that they read, and show its `message`.
    They take a value of any other shape for a part of the answer.

    It never raises, for it is written when something else has.
    """
    message = problem.message.encode("utf-8", "backslashreplace").decode()
    return to_json({"error": {"code": problem.code, "message": message}})


class JSONLines(Framing):
    """Each item as JSON and a line feed.

    Every item is written as a value, str and bytes too: a str as a JSON string, bytes as the JSON
    string of the text that they hold in UTF-8. NaN and the infinities become `null`.

    A source that failed ends with the line `{"error": {"code": ..., "message": ...}}`.

    Args:
        end_mark: End with the line `{"end": {}}`, if the source ended well.

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
    """The items as the elements of one array; an empty source gives `[]`.

    If the source fails, the array is not closed, on purpose: no parser takes it for whole.

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
        # Not earlier: an item that was refused has written nothing, so the next one is still the
        # first.
        self._before = b","
        return framed

    def closing(self) -> bytes:
        return b"[]" if self._before == b"[" else b"]"
