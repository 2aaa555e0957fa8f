"""ASGI responses: what an endpoint returns."""

from __future__ import annotations

from tailrace.responses.dependencies import release_dependencies
from tailrace.responses.events import EventSourceResponse, last_event_id
from tailrace.responses.file import FileResponse
from tailrace.responses.formats import CSVResponse, JSONArrayResponse, JSONLinesResponse
from tailrace.responses.multipart import MultipartMixedReplaceResponse
from tailrace.responses.negotiate import negotiate
from tailrace.responses.representation import ETagKind, check_etag
from tailrace.responses.route import StreamRoute
from tailrace.responses.stream import StreamingResponse, options_of_app

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
]
