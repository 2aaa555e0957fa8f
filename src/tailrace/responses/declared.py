"""What a `yield` endpoint declares of its items: a filter for them.

`-> AsyncIterator[Public]` says which fields leave. FastAPI holds to it where it frames the items of
such an endpoint itself; to any other response class it hands the generator as it is. So ours looks
for the declaration when it is sent, in the route that it finds in the request's scope: that works
on every FastAPI route, also on those of a router that is included twice.

It applies to the response that FastAPI made of the endpoint's generator, not to one that an
endpoint or an exception handler returned. Where the two cannot be told apart it applies: to refuse
an item is better than to send a field too many.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.utils import get_stream_item_type, get_typed_return_annotation
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from starlette.types import Scope

from tailrace.errors import InvalidChunk, InvalidItem
from tailrace.framing import (
    Carries,
    Event,
    Framing,
    is_event,
    keyed_as_dict,
    serialize_unknown,
    without_nat,
)

__all__ = ["Filtered", "ItemFilter", "declared_type", "filter_of", "response_class_of"]

_KEPT = "_tailrace_item_filters"
"""The attribute under which a route keeps its filters: making one takes pydantic a millisecond.

One for each `Carries`, as a response class may choose its format anew for each request.
"""

_SERIALIZING = (
    "by_alias",
    "exclude",
    "exclude_defaults",
    "exclude_none",
    "exclude_unset",
    "include",
)
_AS_IT_IS = {"by_alias": True}


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Validates an item against the declared type and writes no more than that has.

    Args:
        adapter: pydantic's, of the declared type.
        endpoint: The endpoint's name, for errors.
        serializing: `include`, `exclude` and the others, as the route declares them.
        names_events: The annotation allows events too, whose data may be anything.
    """

    adapter: TypeAdapter[Any]
    endpoint: str
    serializing: dict[str, Any]
    names_events: bool

    def validate(self, item: Any) -> Any:
        """The item as the declared type.

        Raises:
            InvalidItem: It does not fit.
        """
        try:
            return self.adapter.validate_python(item, from_attributes=True)
        except ValidationError as exc:
            if (named := keyed_as_dict(item)) is not item:
                return self.validate(named)
            errors = exc.errors(include_url=False)
        # Not "from" pydantic's: its text shows the item, which is not ours to log.
        located = [{**error, "loc": ("item", *error["loc"])} for error in errors]
        raise InvalidItem(self.endpoint, located)

    def is_one(self, item: Any) -> bool:
        """Whether the item is of the declared type as it stands: an instance, not made into one."""
        try:
            self.adapter.validate_python(item, strict=True)
        except ValidationError:
            return False
        return True

    def json(self, value: Any) -> bytes:
        return self._written(self.adapter.dump_json, value)  # type: ignore[no-any-return]

    def plain(self, value: Any) -> Any:
        """What its JSON is, as objects of Python: a serialiser may be there to hide a value."""
        written = self._written(partial(self.adapter.dump_python, mode="json"), value)
        if isinstance(written, list) and hasattr(value, "_fields"):
            return dict(zip(value._fields, written, strict=True))  # pydantic drops the names
        return written

    def _written(self, write: Callable[..., Any], value: Any) -> Any:
        try:
            return write(value, fallback=serialize_unknown, **self.serializing)
        except (TypeError, ValueError):
            if (without := without_nat(value)) is value:
                raise
            return write(without, fallback=serialize_unknown, warnings=False, **self.serializing)


class Filtered(Framing):
    """A framing whose items go through the declared type first."""

    def __init__(self, framing: Framing, items: ItemFilter) -> None:
        self._framing = framing
        self._items = items
        self._frame = self._as_json if framing.carries is not Carries.VALUES else self._as_value
        self.name = framing.name  # type: ignore[misc] # the format's, not the class's
        self.carries = framing.carries  # type: ignore[misc]
        self.heartbeat = framing.heartbeat
        self.start_grace = framing.start_grace  # type: ignore[misc]
        self.beat = framing.beat  # type: ignore[method-assign]
        self.closing = framing.closing  # type: ignore[method-assign] # passed on as they are
        self.failure = framing.failure  # type: ignore[method-assign]
        self.farewell = framing.farewell  # type: ignore[method-assign]

    def frame(self, item: Any) -> bytes:
        try:
            if self.carries is Carries.EVENTS and is_event(type(item)):
                return self._framing.frame(self._event(item))
            if self._items.names_events and isinstance(item, Event):
                return self._framing.frame(self._event(item))  # as a value, its data as declared
            return self._frame(self._items.validate(item))
        except (InvalidChunk, InvalidItem):
            raise
        except (TypeError, ValueError) as exc:  # what pydantic raises, and a broken UTF-8
            wanted = "what pydantic can write as the declared type"
            raise InvalidChunk(item, self.name, wanted) from exc

    def _as_value(self, value: Any) -> bytes:
        return self._framing.frame(self._items.plain(value))

    def _as_json(self, value: Any) -> bytes:
        if isinstance(value, (str, bytes)) and self.carries is Carries.EVENTS:
            # Text is an event's data as it stands, not its JSON.
            written = self._items.plain(value)
            if isinstance(value, bytes) and isinstance(written, str):
                written = written.encode()  # what is bytes stays so: a format may tell them apart
            return self._framing.frame(written)
        if isinstance(value, dict) and self._framing.dicts_are_events:
            return self._framing.frame(self._items.plain(value))
        return self._framing.frame_json(self._items.json(value))

    def _event(self, event: Any) -> Any:
        """The event with its data as declared; text is sent as it is, FastAPI's own as it does."""
        if not isinstance(event, Event):
            return event
        data = event.data
        if data is None or isinstance(data, (str, bytes, bytearray, memoryview)):
            return event
        if self._items.names_events and not self._items.is_one(data):
            return event
        value = self._items.validate(data)
        # An event has its data as text; in another format it is a part of the value.
        in_events = self.carries is Carries.EVENTS
        written = self._items.json(value) if in_events else self._items.plain(value)
        return replace(event, data=written)


def filter_of(scope: Scope, response: Any, content: Any, framing: Framing) -> ItemFilter | None:
    """What the items of a response must go through, or None.

    Args:
        scope: The request's, with the route that was chosen.
        response: What is being sent.
        content: What it sends.
        framing: Its format; one that carries bytes as they are has no fields to keep back.
    """
    route = scope.get("route")
    endpoint = getattr(route, "endpoint", None)
    if endpoint is None or framing.carries is Carries.CHUNKS or not _yields(endpoint):
        return None
    if not (hasattr(content, "__next__") or hasattr(content, "__anext__")):
        return None  # a list, or a function: not what an endpoint's `yield` makes
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is not None and context.original_route is route:
        route = context  # what FastAPI goes by for a route of a router that was included
    response_class = response_class_of(route)
    if inspect.isclass(response_class) and not isinstance(response, response_class):
        return None
    if not hasattr(route, _KEPT):
        setattr(route, _KEPT, {})
    kept: dict[Carries, ItemFilter | None] = getattr(route, _KEPT)
    if framing.carries not in kept:
        kept[framing.carries] = _filter(route, framing.carries)
    return kept[framing.carries]


def response_class_of(route: Any) -> Any:
    """The class that a FastAPI route sends, whether it was named there or is a default."""
    response_class = getattr(route, "response_class", None)
    return (
        response_class.value if isinstance(response_class, DefaultPlaceholder) else response_class
    )


def declared_type(route: Any, carries: Carries) -> Any:
    """The type of an item that a `yield` endpoint declares, or None.

    A `response_model` goes before the return annotation; `list[Price]` names the stream as a whole.
    """
    declared = getattr(route, "response_model", None)
    if declared is None:
        if not _yields(route.endpoint):
            return None
        annotation = get_typed_return_annotation(route.endpoint)
        item_type = get_stream_item_type(annotation)
    elif get_origin(declared) in (list, Sequence):
        (item_type,) = get_args(declared)
    else:
        item_type = get_stream_item_type(declared) or declared
    if item_type is not None and carries is Carries.EVENTS:
        # `Price | Event`: an event says how an item is sent; it is not an item.
        items = tuple(kind for kind in _options(item_type) if not is_event(kind))
        item_type = Union[items] if items else None  # noqa: UP007 - only a subscript takes a tuple
    return item_type


def _filter(route: Any, carries: Carries) -> ItemFilter | None:
    item_type = declared_type(route, carries)
    serializing = {
        name: value
        for name in _SERIALIZING
        if (value := getattr(route, f"response_model_{name}", None)) not in (None, False)
    }
    serializing.setdefault("by_alias", False)
    if item_type is None or item_type is Any:
        if serializing == _AS_IT_IS:
            return None
        item_type = Any
    annotation = get_typed_return_annotation(route.endpoint)
    return ItemFilter(
        _adapter(item_type),
        getattr(route.endpoint, "__name__", repr(route.endpoint)),
        serializing,
        _names_events(get_stream_item_type(annotation)),
    )


def _adapter(item_type: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(item_type)
    except PydanticSchemaGenerationError:
        # Of a class that pydantic does not know, such as a row of sqlite3: it is looked at, whole.
        return TypeAdapter(item_type, config=ConfigDict(arbitrary_types_allowed=True))


def _options(item_type: Any) -> tuple[Any, ...]:
    """What a union is of, or the one type."""
    item_type = getattr(item_type, "__value__", item_type)  # of `type Item = Price | Event`
    is_union = get_origin(item_type) in (Union, UnionType)
    return get_args(item_type) if is_union else (item_type,)


def _names_events(item_type: Any) -> bool:
    item_type = getattr(item_type, "__value__", item_type)
    if get_origin(item_type) is Annotated:
        return _names_events(get_args(item_type)[0])
    return any(is_event(kind) for kind in _options(item_type))


def _yields(endpoint: Callable[..., Any]) -> bool:
    """Whether FastAPI takes the endpoint for a generator: it, what it wraps, or its `__call__`."""
    layers: list[Any] = [endpoint]
    while layers:
        layer = layers.pop()
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            return True
        if isinstance(layer, partial):
            layers.append(layer.func)
        if hasattr(layer, "__wrapped__"):
            layers.append(layer.__wrapped__)
        if not inspect.isroutine(layer) and not inspect.isclass(layer):
            layers.append(type(layer).__call__)
    return False
