"""The formats for rows and items: JSON Lines, JSON array, CSV; and for parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.background import BackgroundTask

from tailrace.framing import CSV, Framing, JSONArray, JSONLines, MultipartMixedReplace
from tailrace.responses.stream import StreamingResponse
from tailrace.types import StreamOptions

__all__ = [
    "CSVResponse",
    "JSONArrayResponse",
    "JSONLinesResponse",
    "MultipartMixedReplaceResponse",
]


class JSONLinesResponse(StreamingResponse):
    """Send each item as one line of JSON.

    Items are anything that pydantic can write as JSON, and the rows of databases. A stream that
    fails ends with a line `{"error": {"code": ..., "message": ...}}`, and the connection is cut.

    Args:
        end_mark: End with a line `{"end": {}}` if the content ended well: a client that reads to it
            has all, whatever the proxies between did with the end of the body.
        content, status_code, headers, media_type, background, options, filename,
            content_disposition_type: As in `StreamingResponse`.

    Source: jsonlines.org.
    """

    media_type = "application/jsonl"
    utf8_only = True

    def make_framing(self) -> Framing:
        return JSONLines(end_mark=self._end_mark or False)


class JSONArrayResponse(StreamingResponse):
    """Send the items as one JSON array, written while they come.

    A stream that fails leaves the array unclosed, so that no parser takes it for whole. So its
    `]` is its end mark, and `end_mark` changes nothing.

    Args: As in `StreamingResponse`; items as in `JSONLinesResponse`.
    """

    media_type = "application/json"
    utf8_only = True

    def make_framing(self) -> Framing:
        return JSONArray()


class CSVResponse(StreamingResponse):
    """Send rows as CSV.

    Args:
        content: A sync or async iterable of rows: mappings, pydantic models, dataclasses, attrs
            classes, named tuples, rows of databases, or sequences.
        columns: The columns and their order; None takes those of the first row that has names.
        header: Send a line with the columns' names first.
        neutralise: Keep spreadsheets from taking a cell that begins with `=`, `+`, `-` or `@` for a
            formula. Changes the bytes, so it is off unless asked for.
        bom: Begin with a byte order mark, by which Excel knows that it is UTF-8.
        end_mark: End with a row `#end` if the content ended well: a client that reads to it has
            all, whatever the proxies between did with the end of the body.
        media_type: A charset that it names is the one that is sent:
            `"text/csv; charset=iso-8859-1"`.
        status_code, headers, background, options, filename, content_disposition_type: As in
            `StreamingResponse`.

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
        filename: str | None = None,
        content_disposition_type: str = "attachment",
        end_mark: bool = False,
        columns: Sequence[str] | None = None,
        header: bool = True,
        neutralise: bool = False,
        bom: bool = False,
    ) -> None:
        self._columns = columns
        self._header = header
        self._neutralise = neutralise
        self._bom = bom
        super().__init__(
            content,
            status_code,
            headers,
            media_type,
            background,
            options=options,
            filename=filename,
            content_disposition_type=content_disposition_type,
            end_mark=end_mark,
        )

    def make_framing(self) -> Framing:
        return CSV(
            columns=self._columns,
            header=self._header,
            neutralise=self._neutralise,
            charset=self.sent_charset,
            bom=self._bom,
            end_mark=self._end_mark,
        )


class MultipartMixedReplaceResponse(StreamingResponse):
    """Send parts of which a browser shows the newest: a camera's pictures in an `<img>`.

    Args:
        content: A sync or async iterable of bytes, or of `Part` with a type and headers of its own.
        part_type: The Content-Type of parts that are plain bytes.
        boundary: What stands between parts; None makes one that occurs in no part.
        status_code, headers, background, options, filename, content_disposition_type: As in
            `StreamingResponse`. The closing boundary is its end mark.

    Source: RFC 2046 5.1; the `x-mixed-replace` subtype is Netscape's, and every browser's.
    """

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
        *,
        options: StreamOptions | None = None,
        filename: str | None = None,
        content_disposition_type: str = "attachment",
        part_type: str = "image/jpeg",
        boundary: str | None = None,
    ) -> None:
        self._parts = MultipartMixedReplace(part_type=part_type, boundary=boundary)
        media_type = self._parts.media_type
        super().__init__(
            content,
            status_code,
            headers,
            media_type,
            background,
            options=options,
            filename=filename,
            content_disposition_type=content_disposition_type,
        )
        self._part_type = part_type

    def make_framing(self) -> Framing:
        return MultipartMixedReplace(part_type=self._part_type, boundary=self._parts.boundary)
