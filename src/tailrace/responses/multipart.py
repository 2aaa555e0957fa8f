"""`MultipartMixedReplaceResponse`: each part takes the place of the one before, as in MJPEG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.background import BackgroundTask

from tailrace.framing import Framing, MultipartMixedReplace
from tailrace.responses.stream import StreamingResponse
from tailrace.types import StreamOptions

__all__ = ["MultipartMixedReplaceResponse"]


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
