"""Streaming for FastAPI that survives production.

These are the names of daily use. Each is loaded from its package when it is first used, so that
`from tailrace import StreamingResponse` loads neither streams nor a store. All errors are in
`tailrace.errors`, and all bounds in `tailrace.limits`. The other types in signatures are in the
packages that define them: `tailrace.store`, `tailrace.streams`, `tailrace.protocol`,
`tailrace.subscriptions`, `tailrace.connection`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tailrace._moved import moved

if TYPE_CHECKING:  # for type checkers and editors; `_HOMES` says the same at run time
    from tailrace.connection import Drained, Stats, drain, shutdown_event
    from tailrace.connection.stats import stats
    from tailrace.errors import StreamNotFound, TailraceError
    from tailrace.files import Files
    from tailrace.framing import Event, Part
    from tailrace.responses import (
        CSVResponse,
        EventSourceResponse,
        FileResponse,
        JSONArrayResponse,
        JSONLinesResponse,
        MultipartMixedReplaceResponse,
        StreamingResponse,
        StreamRoute,
    )
    from tailrace.responses.negotiate import negotiate
    from tailrace.source import RangeSource
    from tailrace.store import Producer, Retention
    from tailrace.streams import Channel, Grace, Message, Progress, Run, Streams, SyncStreams
    from tailrace.types import StreamOptions

__version__ = "0.1.0"

__all__ = [
    "CSVResponse",
    "Channel",
    "Drained",
    "Event",
    "EventSourceResponse",
    "FileResponse",
    "Files",
    "Grace",
    "JSONArrayResponse",
    "JSONLinesResponse",
    "Message",
    "MultipartMixedReplaceResponse",
    "Part",
    "Producer",
    "Progress",
    "RangeSource",
    "Retention",
    "Run",
    "Stats",
    "StreamNotFound",
    "StreamOptions",
    "StreamRoute",
    "StreamingResponse",
    "Streams",
    "SyncStreams",
    "TailraceError",
    "drain",
    "negotiate",
    "shutdown_event",
    "stats",
]

_HOMES = {
    "Drained": "connection",
    "Stats": "connection",
    "drain": "connection",
    "shutdown_event": "connection",
    "stats": "connection",
    "StreamNotFound": "errors",
    "TailraceError": "errors",
    "Files": "files",
    "Event": "framing",
    "Part": "framing",
    "CSVResponse": "responses",
    "EventSourceResponse": "responses",
    "FileResponse": "responses",
    "JSONArrayResponse": "responses",
    "JSONLinesResponse": "responses",
    "MultipartMixedReplaceResponse": "responses",
    "StreamRoute": "responses",
    "StreamingResponse": "responses",
    "negotiate": "responses",
    "RangeSource": "source",
    "Producer": "store",
    "Retention": "store",
    "Channel": "streams",
    "Grace": "streams",
    "Message": "streams",
    "Progress": "streams",
    "Run": "streams",
    "Streams": "streams",
    "SyncStreams": "streams",
    "StreamOptions": "types",
}
"""The package or module that defines each name in `__all__`."""

_MODULES = frozenset({"errors", "limits"})
"""Modules that are attributes after `import tailrace` alone: `tailrace.errors.StreamClosed`."""

_MOVED = frozenset(
    {
        "ArchiveTooLarge",
        "FileChanged",
        "FileUnavailable",
        "InvalidChunk",
        "InvalidEvent",
        "InvalidItem",
        "InvalidOption",
        "OffsetGone",
        "PathRefused",
        "RunEnded",
        "SourceSpent",
        "StoreUnavailable",
        "StreamClosed",
        "StreamError",
        "TransferFailed",
        "WrongLength",
    }
)
"""Errors that have moved to `tailrace.errors`; until 0.2 they can be imported from here, too."""

if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Load a name when it is first used (PEP 562)."""
        if name in _MODULES:
            return import_module(f"tailrace.{name}")
        if name in _MOVED:
            return moved(__name__, name, "tailrace.errors")
        if name not in _HOMES:
            here = sys.modules[__name__]  # with this, Python suggests a similar name
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}", name=name, obj=here
            )
        value = getattr(import_module(f"tailrace.{_HOMES[name]}"), name)
        globals()[name] = value  # so that this function is called only once for each name
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *(name for name in globals() if name.startswith("__"))})
