"""One item as JSON, for every format that carries it."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json, to_jsonable_python

from tailrace.errors import InvalidChunk, Problem

__all__ = ["error_json", "json_of"]

_MAX_REASON = 200
"""Characters of pydantic's own words in our message: the full text is chained behind it."""


def json_of(item: Any, format: str) -> bytes:  # noqa: A002 - the errors' own word
    """The item as one line of JSON in UTF-8.

    NaN and the infinities become `null`, for JSON has no word for them (a model that says
    `ser_json_inf_nan` in its own configuration is obeyed). Control characters are escaped, so the
    result never holds a CR or LF. Bytes are written as the text they hold in UTF-8. A key is what
    pydantic makes of it: `inf` is "inf", a tuple its parts with commas between them.

    Raises:
        InvalidChunk: pydantic cannot write the item.
    """
    try:
        return json_text(item)
    except ValueError as exc:  # what pydantic raises is one, and so is a broken UTF-8 or a cycle
        reason = str(exc)[:_MAX_REASON]
        wanted = f"what pydantic can write as JSON ({reason})"
        raise InvalidChunk(item, format, wanted) from exc


def json_text(value: Any) -> bytes:
    """A value as JSON, with `null` for NaN and the infinities.

    Raises:
        ValueError: pydantic cannot write it.
    """
    text = to_json(value, inf_nan_mode="null")
    if b'None":' in text or b"None," in text:
        # In this mode pydantic-core calls keys that are NaN or infinite "None", all of them alike
        # (2.50). With its other modes it gives them their names, but no `null` to the values.
        text = to_json(to_jsonable_python(value, inf_nan_mode="constants"), inf_nan_mode="null")
    return text


def error_json(problem: Problem) -> bytes:
    """`{"error": {"code": ..., "message": ...}}`: what any format in JSON says of its stream.

    Clients of model APIs look for `error` in each value that they read, take it for a failure and
    show its `message`; a value of any other shape is a part of the answer to them.

    Never raises, for it is written when something else did.
    """
    message = problem.message.encode("utf-8", "backslashreplace").decode()
    return to_json({"error": {"code": problem.code, "message": message}})
