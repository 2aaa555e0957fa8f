"""`StreamRoute`: a FastAPI route that knows Tailrace's formats.

FastAPI describes and validates the items of a `yield` endpoint only for its own response classes,
and decides that when it builds the route; no hook of a response class is asked. So this is a route
class: `APIRouter(route_class=StreamRoute)`, or `app.router.route_class = StreamRoute` before the
endpoints are declared. Without it the same endpoints stream the same bytes, unchecked, and OpenAPI
calls their items strings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from types import UnionType
from typing import Any, Union, get_args, get_origin

import fastapi.routing
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.utils import get_stream_item_type, get_typed_return_annotation
from fastapi.routing import APIRoute
from fastapi.sse import ServerSentEvent
from fastapi.utils import create_model_field
from starlette.requests import Request
from starlette.responses import Response

from tailrace.errors import InvalidItem
from tailrace.framing import Event
from tailrace.responses.events import EventSourceResponse
from tailrace.responses.formats import JSONArrayResponse, JSONLinesResponse
from tailrace.responses.stream import StreamingResponse

__all__ = ["StreamRoute"]


class StreamRoute(APIRoute):
    """A route whose `yield` endpoint is described in OpenAPI and has its items validated.

    For endpoints with `response_class=` `EventSourceResponse`, `JSONLinesResponse` or
    `JSONArrayResponse` whose return annotation names the item: `-> AsyncIterator[Price]`. An item
    that does not fit raises `InvalidItem` in the stream. `Event` and FastAPI's `ServerSentEvent`
    pass unchecked.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        check = _describe(_effective(self))
        if check is None:
            return handler

        async def handle(request: Request) -> Response:
            response = await handler(request)
            if isinstance(response, StreamingResponse):
                response.check_items(check)
            return response

        return handle


def _effective(route: APIRoute) -> Any:
    """What OpenAPI reads: the route, or FastAPI's record of it in the router that includes it."""
    variable = getattr(fastapi.routing, "_effective_route_context_var", None)
    context = None if variable is None else variable.get()
    return context if context is not None and context.original_route is route else route


def _describe(route: Any) -> Callable[[Any], Any] | None:
    """Write the stream into what OpenAPI reads; what validates its items, if there is anything."""
    response_class = route.response_class
    if isinstance(response_class, DefaultPlaceholder):
        response_class = response_class.value
    if not (inspect.isclass(response_class) and issubclass(response_class, StreamingResponse)):
        return None
    item_type = _item_type(route.endpoint)
    field = None
    if item_type is not None:
        name = f"StreamItem_{route.unique_id}"
        field = create_model_field(name=name, type_=item_type, mode="serialization")
    # The names that FastAPI's own streams are described by.
    route.is_sse_stream = issubclass(response_class, EventSourceResponse)
    route.is_json_stream = issubclass(response_class, JSONLinesResponse)
    route.stream_item_field = field
    if field is not None and issubclass(response_class, JSONArrayResponse):
        name = f"StreamItems_{route.unique_id}"
        array = create_model_field(name=name, type_=list[item_type], mode="serialization")  # type: ignore[valid-type] # known when it runs
        route.stream_item_field = array
        route.response_fields = {200: array, **route.response_fields}
        route.responses = {200: {}, **route.responses}
    return None if field is None else partial(_check, field, route.endpoint.__name__)


def _item_type(endpoint: Callable[..., Any]) -> Any:
    if not (inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint)):
        return None
    item_type = get_stream_item_type(get_typed_return_annotation(endpoint))
    # `Price | Event`: an event says how an item is sent, it is none itself.
    options = get_args(item_type) if get_origin(item_type) in (Union, UnionType) else (item_type,)
    items = tuple(option for option in options if not _is_event(option))
    if not items or item_type is None or item_type is Any:
        return None
    return Union[items]  # noqa: UP007 - made of what is left, which only runs as a subscript


def _is_event(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, (Event, ServerSentEvent))


def _check(field: Any, endpoint: str, item: Any) -> Any:
    if isinstance(item, (Event, ServerSentEvent)):
        return item
    value, errors = field.validate(item, {}, loc=("item",))
    if errors:
        raise InvalidItem(endpoint, errors)
    return value
