"""`negotiate`: one endpoint, the format that the client asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.responses.events import EventSourceResponse
from tailrace.responses.formats import CSVResponse, JSONArrayResponse, JSONLinesResponse
from tailrace.responses.stream import StreamingResponse
from tailrace.semantics import PROBLEM, choose_media_type, problem_document
from tailrace.source import Source, open_source
from tailrace.types import StreamOptions

__all__ = ["negotiate"]

_FORMATS: dict[str, Callable[..., StreamingResponse]] = {
    # The first is what a client gets that takes anything (curl): a line for each item, readable.
    "application/jsonl": JSONLinesResponse,
    "application/x-ndjson": JSONLinesResponse,
    "application/json": JSONArrayResponse,
    "text/event-stream": EventSourceResponse,
    "text/csv": CSVResponse,
}


def negotiate(
    items: Any,
    request: Request,
    *,
    background: BackgroundTask | None = None,
    options: StreamOptions | None = None,
    end_mark: bool = False,
) -> Response:
    """Send items as JSON Lines, a JSON array, server-sent events or CSV, as Accept asks for.

    Args:
        items: A sync or async iterable of rows, as `CSVResponse` takes them.
        request: Its Accept header decides, by q-values; without one it is JSON Lines.
        background: As in `StreamingResponse`.
        options: As in `StreamingResponse`.
        end_mark: As in each format's response: the client can tell the end from a cut.

    Returns:
        The response; 406 with the list of formats where none fits, and the items are closed.

    Raises:
        TypeError: The items cannot be iterated.

    Source: RFC 9110 12.5.1 and 15.5.7.
    """
    source = open_source(items)
    accept = request.headers.getlist("accept")
    media_type = choose_media_type(", ".join(accept) if accept else None, list(_FORMATS))
    if media_type is None:
        return _NotAcceptable(source)
    make = _FORMATS[media_type]
    response = make(
        items, media_type=media_type, background=background, options=options, end_mark=end_mark
    )
    response.headers.add_vary_header("accept")
    return response


class _NotAcceptable(Response):
    """406; it closes the items, which are not sent."""

    media_type = PROBLEM

    def __init__(self, source: Source) -> None:
        offered = list(_FORMATS)
        detail = f"none of the formats fits the Accept header; offered: {', '.join(offered)}"
        document = problem_document(406, "not_acceptable", detail, offered=offered)
        super().__init__(json.dumps(document), status_code=406, headers={"vary": "accept"})
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._source.close()
        await super().__call__(scope, receive, send)
