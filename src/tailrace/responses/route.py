"""`StreamRoute`: a FastAPI route that describes Tailrace's formats.

FastAPI describes the items of a `yield` endpoint only for its own response classes, and decides
that when it builds the route; no hook of a response class is asked. So this is a route class:
`APIRouter(route_class=StreamRoute)`, or `app.router.route_class = StreamRoute` before the endpoints
are declared. Without it the same endpoints stream the same bytes, filtered in the same way
(`declared.py`), and OpenAPI calls their items strings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import fastapi.routing
from fastapi.routing import APIRoute
from fastapi.utils import create_model_field
from starlette.requests import Request
from starlette.responses import Response

from tailrace.framing import Carries
from tailrace.responses.declared import declared_type, response_class_of
from tailrace.responses.events import EventSourceResponse
from tailrace.responses.formats import JSONArrayResponse, JSONLinesResponse
from tailrace.responses.stream import StreamingResponse

__all__ = ["StreamRoute"]


class StreamRoute(APIRoute):
    """A route whose `yield` endpoint is described in OpenAPI.

    For endpoints with `response_class=` `EventSourceResponse`, `JSONLinesResponse` or
    `JSONArrayResponse` whose return annotation (or `response_model`) names the item:
    `-> AsyncIterator[Price]`. A type that pydantic does not know is refused here, when the endpoint
    is declared. Items are validated and filtered without a `StreamRoute` too.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        _describe(_effective(self))
        return handler


def _effective(route: APIRoute) -> Any:
    """What OpenAPI reads: the route, or FastAPI's record of it in the router that includes it."""
    variable = getattr(fastapi.routing, "_effective_route_context_var", None)
    context = None if variable is None else variable.get()
    return context if context is not None and context.original_route is route else route


def _describe(route: Any) -> None:
    """Write the stream into what OpenAPI reads."""
    response_class = response_class_of(route)
    if not (inspect.isclass(response_class) and issubclass(response_class, StreamingResponse)):
        return
    is_events = issubclass(response_class, EventSourceResponse)
    item_type = declared_type(route, Carries.EVENTS if is_events else Carries.JSON)
    field = None
    if item_type is not None and item_type is not Any:
        name = f"StreamItem_{route.unique_id}"
        field = create_model_field(name=name, type_=item_type, mode="serialization")
    # The names that FastAPI's own streams are described by.
    route.is_sse_stream = is_events
    route.is_json_stream = issubclass(response_class, JSONLinesResponse)
    route.stream_item_field = field
    if field is not None and issubclass(response_class, JSONArrayResponse):
        name = f"StreamItems_{route.unique_id}"
        array = create_model_field(name=name, type_=list[item_type], mode="serialization")  # type: ignore[valid-type] # known when it runs
        route.stream_item_field = array
        route.response_fields = {200: array, **route.response_fields}
        route.responses = {200: {}, **route.responses}
