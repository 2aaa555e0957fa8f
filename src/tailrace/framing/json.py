"""JSON: one item of any format as JSON, and the two formats that are JSON: lines, and an array."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from tailrace.errors import InvalidChunk, Problem
from tailrace.framing.base import Carries, Framing, check_flag
from tailrace.framing.row import json_text, reason_of, record_of

__all__ = ["JSONArray", "JSONLines", "error_json", "json_of"]


def json_of(item: Any, format: str) -> bytes:  # noqa: A002 - the errors' own word
    """The item as one line of JSON in UTF-8.

    NaN and the infinities become `null`, for JSON has no word for them (a model that says
    `ser_json_inf_nan` in its own configuration is obeyed). Control characters are escaped, so the
    result never holds a CR or LF. Bytes are written as the text they hold in UTF-8. A key is what
    pydantic makes of it: `inf` is "inf", a tuple its parts with commas between them.

    Raises:
        InvalidChunk: pydantic cannot write the item; it names the cell of a row.
    """
    try:
        return json_text(item)
    except ValueError as exc:  # what pydantic raises is one, and so is a broken UTF-8 or a cycle
        raise _refused(item, format, exc) from exc


def _refused(item: Any, format: str, error: ValueError) -> InvalidChunk:  # noqa: A002 - as above
    """What names the cell that cannot be written, if it is one of a row's."""
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
    """`{"error": {"code": ..., "message": ...}}`: what any format in JSON says of its stream.

    Clients of model APIs look for `error` in each value that they read, take it for a failure and
    show its `message`; a value of any other shape is a part of the answer to them.

    Never raises, for it is written when something else did.
    """
    message = problem.message.encode("utf-8", "backslashreplace").decode()
    return to_json({"error": {"code": problem.code, "message": message}})


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


class JSONArray(Framing):
    """The items as the elements of one array; an empty source gives `[]`.

    A source that failed leaves the array unclosed, on purpose: no parser takes it for whole.

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
        # Only now: an item that was refused has written nothing, so the next is still the first.
        self._before = b","
        return framed

    def closing(self) -> bytes:
        return b"[]" if self._before == b"[" else b"]"
