"""The formats for rows and items: JSON Lines, JSON array, CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.background import BackgroundTask

from tailrace.framing import CSV, Framing, JSONArray, JSONLines
from tailrace.responses.stream import StreamingResponse
from tailrace.types import StreamOptions

__all__ = ["CSVResponse", "JSONArrayResponse", "JSONLinesResponse"]


class JSONLinesResponse(StreamingResponse):
    """Send each item as one line of JSON.

    Items are anything that pydantic can write as JSON. A stream that fails ends with a line
    `{"error": {"code": ..., "message": ...}}`, and the connection is cut.

    Args: As in `StreamingResponse`.

    Source: jsonlines.org.
    """

    media_type = "application/jsonl"

    def make_framing(self) -> Framing:
        return JSONLines()


class JSONArrayResponse(StreamingResponse):
    """Send the items as one JSON array, written while they come.

    A stream that fails leaves the array unclosed, so that no parser takes it for whole.

    Args: As in `StreamingResponse`; items are anything that pydantic can write as JSON.
    """

    media_type = "application/json"

    def make_framing(self) -> Framing:
        return JSONArray()


class CSVResponse(StreamingResponse):
    """Send rows as CSV.

    Args:
        content: A sync or async iterable of mappings, pydantic models, dataclasses or sequences.
        columns: The columns and their order; None takes those of the first mapping or model.
        header: Send a line with the columns' names first.
        neutralise: Keep spreadsheets from taking a cell that begins with `=`, `+`, `-` or `@` for a
            formula. Changes the bytes, so it is off unless asked for.
        status_code, headers, media_type, background, options: As in `StreamingResponse`.

    Source: RFC 4180.
    """

    media_type = "text/csv"

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        *,
        options: StreamOptions | None = None,
        columns: Sequence[str] | None = None,
        header: bool = True,
        neutralise: bool = False,
    ) -> None:
        super().__init__(content, status_code, headers, media_type, background, options=options)
        self._columns = columns
        self._header = header
        self._neutralise = neutralise
        self.make_framing()  # a mistake in the columns is told here, not when it is sent

    def make_framing(self) -> Framing:
        return CSV(columns=self._columns, header=self._header, neutralise=self._neutralise)
