"""ASGI responses: what an endpoint returns."""

from __future__ import annotations

from tailrace.responses.events import EventSourceResponse, last_event_id
from tailrace.responses.file import FileResponse
from tailrace.responses.formats import (
    CSVResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    MultipartMixedReplaceResponse,
)
from tailrace.responses.negotiate import negotiate
from tailrace.responses.plan import ETagKind, check_etag
from tailrace.responses.request import options_of_app, release_dependencies, run_background
from tailrace.responses.route import StreamRoute
from tailrace.responses.stream import StreamingResponse

__all__ = [
    "CSVResponse",
    "ETagKind",
    "EventSourceResponse",
    "FileResponse",
    "JSONArrayResponse",
    "JSONLinesResponse",
    "MultipartMixedReplaceResponse",
    "StreamRoute",
    "StreamingResponse",
    "check_etag",
    "last_event_id",
    "negotiate",
    "options_of_app",
    "release_dependencies",
    "run_background",
]
