"""How items are read, in the same way for every format: the names and values that are written.

pydantic-core writes the types that it knows: dicts, models, dataclasses, dates, UUIDs, enums. This
file turns everything else into these: the rows of databases, named tuples, the values of numpy and
pandas. It recognises their types by their attributes and by the name of their package, and imports
none of these packages.

Two rules. No value is lost silently: a row with two columns of the same name is refused. And no
column is sent by accident: an object of an ORM (SQLAlchemy's) is refused, because it has all the
columns of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from pydantic_core import to_json, to_jsonable_python

__all__ = [
    "json_text",
    "keyed_as_dict",
    "plain_of",
    "read_item",
    "reason_of",
    "record_of",
    "serialize_unknown",
    "without_nat",
]

_MAX_REASON = 200
"""Characters of pydantic's message in ours; the exception is chained and has the full text."""

_Reader = Callable[[Any], Any]


def read_item(item: Any) -> Any:
    """An item as pydantic-core can write it: if its cells have names, a dict, a model or the like.

    The values inside the item are not read here, but when they are written (`json_text`). There a
    named tuple becomes a list, as in pydantic.

    Raises:
        ValueError: The item has the same name twice, or is an object of an ORM.
    """
    kind = type(item)
    if kind is dict:
        return item
    read = _reader_of(kind)  # type: ignore[arg-type]  # mypy: takes an instance's __hash__ for the class's
    return item if read is None else read(item)


def record_of(item: Any) -> Any:
    """An item as a dict, a list or a tuple of its cells; any other result means: it is not a row.

    Raises:
        ValueError: As in `read_item`; or a serialiser of the model failed.
    """
    record = read_item(item)
    if isinstance(record, (dict, list, tuple)):
        return record
    kind = type(record)
    if hasattr(kind, "__pydantic_serializer__"):
        # In the mode of JSON: a serialiser of the model may hide a value only there.
        return kind.__pydantic_serializer__.to_python(
            record, mode="json", by_alias=True, fallback=serialize_unknown
        )
    if is_dataclass(kind):
        return {field.name: getattr(record, field.name) for field in fields(kind)}
    return record


def keyed_as_dict(item: Any) -> Any:
    """A row whose names come from `keys()` alone, as a dict; anything else as it is.

    Items with a declared type need this: pydantic validates only mappings and objects with
    attributes.

    Raises:
        ValueError: The row has the same name twice.
    """
    read = _reader_of(type(item))  # type: ignore[arg-type]  # as above
    return item if read is not _keyed else read(item)


def serialize_unknown(value: Any) -> Any:
    """Turn a value that pydantic-core does not know into one that it knows: its `fallback`.

    Raises:
        ValueError: The type is unknown here too, or the value cannot be read.
    """
    read = _reader_of(type(value))  # type: ignore[arg-type]  # as above
    if read is None:
        raise ValueError(f"unknown type: {type(value)}")
    return read(value)


def json_text(value: Any) -> bytes:
    """A value as one line of JSON in UTF-8; NaN, the infinities, `NaT` and `NA` become `null`.

    Raises:
        ValueError: The value cannot be written.
    """
    value = read_item(value)
    try:
        text = to_json(value, inf_nan_mode="null", fallback=serialize_unknown)
        if b'None":' not in text and b"None," not in text:
            return text
        # In this mode pydantic-core (2.50) writes every key that is NaN or infinite as "None". In
        # its other modes it writes their names, but the values are not `null`.
        return to_json(_named_keys(value), inf_nan_mode="null")
    except ValueError:
        # pydantic-core takes a `NaT` for a datetime, and then cannot write it.
        if (without := without_nat(value)) is value:
            raise
        return json_text(without)


def plain_of(value: Any) -> Any:
    """A value as text, a number, a bool, None, a list or a dict.

    It is what `json.loads` would give for the JSON of the value, but NaN and the infinities stay.

    Raises:
        ValueError: The value cannot be written.
    """
    try:
        return _named_keys(value)
    except (TypeError, ValueError) as error:  # pydantic-core raises a TypeError for a `NaT`
        if (without := without_nat(value)) is value:
            raise ValueError(str(error)) from error
        return plain_of(without)


def _named_keys(value: Any) -> Any:
    return to_jsonable_python(value, inf_nan_mode="constants", fallback=serialize_unknown)


def reason_of(error: ValueError) -> str:
    """The reason why a value cannot be written, for an error's message."""
    return str(error)[:_MAX_REASON]


def without_nat(value: Any) -> Any:
    """The value with None for each `NaT` in its dicts and lists; itself if there is no `NaT`."""
    if _is_nat(value):
        return None
    if isinstance(value, dict):
        cells = [without_nat(cell) for cell in value.values()]
        changed = any(map(_differ, cells, value.values()))
        return dict(zip(value, cells, strict=True)) if changed else value
    if isinstance(value, (list, tuple)):
        cells = [without_nat(cell) for cell in value]
        return cells if any(map(_differ, cells, value)) else value
    return value


def _differ(one: Any, other: Any) -> bool:
    return one is not other


def _is_nat(value: Any) -> bool:
    return type(value).__name__ == "NaTType"


# The kinds of values ------------------------------------------------------------------------------


@lru_cache(maxsize=1024)  # bounded: an application may make classes while it runs
def _reader_of(kind: type) -> _Reader | None:
    """The function that reads values of a type; None: pydantic-core gets them as they are."""
    if hasattr(kind, "__pydantic_serializer__"):
        return None
    if hasattr(kind, "_sa_class_manager") and not hasattr(kind, "__dataclass_fields__"):
        return _refuse_orm
    package = kind.__module__.partition(".")[0]
    if package in ("numpy", "pandas") and (read := _of_arrays(kind)) is not None:
        return read
    return _named_reader(kind)


def _named_reader(kind: type) -> _Reader | None:
    if issubclass(kind, (dict, str, bytes, bytearray, memoryview)):
        return None
    if issubclass(kind, Mapping):
        return dict
    if hasattr(kind, "_fields") and issubclass(kind, Sequence):  # SQLAlchemy's rows have it too
        return lambda item: _named(item._fields, item)
    if hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
        return lambda item: {name: getattr(item, name) for name in names}
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):  # of sqlite3, asyncpg and others
        return _keyed
    known_to_pydantic = issubclass(kind, (list, tuple))
    return list if issubclass(kind, Sequence) and not known_to_pydantic else None


def _of_arrays(kind: type) -> _Reader | None:
    """The function that reads values of a type of numpy or pandas; None if it needs none."""
    bases = {base.__name__ for base in kind.__mro__ if base.__module__.startswith("numpy")}
    if kind.__name__ in ("NaTType", "NAType"):
        return lambda value: None
    if bases & {"datetime64", "timedelta64"}:
        return _time_of
    if "record" in bases:
        return lambda value: _named(value.dtype.names, value.item())
    if "floating" in bases and not issubclass(kind, float):
        return float  # `longdouble.item()` gives a longdouble again
    if "generic" in bases and not issubclass(kind, (str, bytes, float)):
        return lambda value: value.item()
    return (lambda value: value.tolist()) if "ndarray" in bases else None


def _time_of(value: Any) -> Any:
    """numpy's time as Python's, in microseconds; None for its NaT."""
    time = value.item()
    if isinstance(time, int):  # nanoseconds, for example, or a year that Python does not have
        time = value.astype(f"{value.dtype.kind}8[us]").item()
        if isinstance(time, int):
            raise ValueError(f"{value!r} is a time that Python's datetime cannot hold")
    return time


def _keyed(item: Any) -> dict[Any, Any]:
    names = list(item.keys())
    return _named(names, [item[name] for name in names])


def _named(names: Sequence[Any], cells: Sequence[Any]) -> dict[Any, Any]:
    record = dict(zip(names, cells, strict=True))
    if len(record) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"two columns are called {twice!r}: give one of them another name")
    return record


def _refuse_orm(item: Any) -> Any:
    raise ValueError(
        "an object of an ORM has all columns of its table: declare the type that is to be sent, "
        "or select the columns"
    )
