"""Comma-separated values, by RFC 4180.

The rows are quoted by the standard library's `csv`; what is ours is which object becomes which row.
Text, numbers and None are given to it as they are (None is an empty cell); everything else becomes
what it is in JSON: `true`, `2026-01-31T08:00:00Z`, and the JSON text itself for a list or a dict.

A failure is a last row `#error,code,message`: CSV has no comments, but a `#` in front is what most
readers that know them look for, and the others meet a row of another width. The connection is
aborted behind it in any case.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

from pydantic_core import to_jsonable_python

from tailrace.errors import InvalidChunk, InvalidOption, Problem
from tailrace.framing._json import json_text
from tailrace.framing.base import Framing

__all__ = ["CSV"]

_PLAIN = frozenset({str, int, float, type(None)})
"""Types that `csv` writes as we want it, looked up exactly: a bool is an int to `isinstance`."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\0")
"""What makes a spreadsheet compute a cell (OWASP ASVS 5.0, 1.2.10; CR is OWASP's older list)."""

_WANTED = "mappings, models, dataclasses, named tuples, lists or tuples"


class CSV(Framing):
    """Each item one row.

    Mappings, pydantic models, dataclasses and named tuples have named cells; so has whatever
    `dict()` takes by its `keys()`, such as the rows of sqlite3. A key that is missing gives an
    empty cell; one that is not a column is refused, for it would be lost in silence. Lists and
    tuples are cells in order. str and bytes are refused, though they are sequences.

    Args:
        columns: The columns in order; None takes those of the first item, if it has names.
        header: Write the columns as the first row, also when no item came but `columns` are given.
        neutralise: Put a single quote before text that a spreadsheet would compute as a formula
            (what starts with `= + - @`, TAB, CR or NUL). Numbers stay as they are. It changes the
            data, so it is for files that people open, not programs.

    Raises:
        InvalidOption: `columns` that are no list of different names.

    Source: RFC 4180.
    """

    name = "csv"
    media_type = "text/csv"

    def __init__(
        self,
        columns: Iterable[str] | None = None,
        header: bool = True,
        neutralise: bool = False,
    ) -> None:
        self._columns: tuple[Any, ...] | None = None
        self._known: frozenset[Any] = frozenset()
        if columns is not None:
            self._name(_checked(columns))
        self._given = columns is not None
        self._header = header
        self._neutralise = neutralise
        self._started = False
        self._write: Callable[[Iterable[Any]], str] = csv.writer(
            _Line(), lineterminator="\r\n"
        ).writerow

    def frame(self, item: Any) -> bytes:
        """The item as a row, after the header if it is the first.

        Raises:
            InvalidChunk: No row, a cell that has no text, or cells that are not in the columns.
        """
        kind = type(item)
        shape = _shape_of(kind)  # type: ignore[arg-type]  # mypy: takes an instance's __hash__ for the class's
        record = shape.read(item)
        if not self._started and self._columns is None and shape.named and record:
            self._name(tuple(record))
        text = self._text(self._row_of(item, record, shape.named))
        if not self._started:
            text = self._header_row() + text
        try:
            framed = text.encode()
        except UnicodeEncodeError as exc:
            wanted = "text that UTF-8 can carry: a lone surrogate has no form in it"
            raise InvalidChunk(item, self.name, wanted) from exc
        self._started = True
        return framed

    def closing(self) -> bytes:
        if self._started or not self._given:
            return b""
        return self._header_row().encode()

    def failure(self, problem: Problem) -> bytes:
        row = self._text(["#error", problem.code, problem.message])
        return row.encode("utf-8", "backslashreplace")

    def _name(self, columns: tuple[Any, ...]) -> None:
        self._columns = columns
        self._known = frozenset(columns)

    def _header_row(self) -> str:
        return self._text(self._columns) if self._header and self._columns else ""

    def _row_of(self, item: Any, record: Any, named: bool) -> Sequence[Any]:
        columns = self._columns
        if named:
            if columns is None:
                lists = "lists or tuples, as its first row was"
                wanted = lists if self._started else "a first row with at least one column"
                raise InvalidChunk(item, self.name, wanted)
            if not record.keys() <= self._known:
                raise InvalidChunk(item, self.name, _unknown(record, columns))
            return [record.get(column) for column in columns]
        if not len(record) or (columns is not None and len(record) != len(columns)):
            wanted = f"rows of {len(columns)} cells" if columns else "rows of at least one cell"
            raise InvalidChunk(item, self.name, f"{wanted}, not {len(record)}")
        return record  # type: ignore[no-any-return]  # a sequence, as its shape says

    def _text(self, row: Iterable[Any]) -> str:
        cells = [cell if type(cell) in _PLAIN else _cell_of(cell) for cell in row]
        if self._neutralise:
            cells = [
                "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
                for cell in cells
            ]
        return self._write(cells)


class _Line:
    """The "file" of the csv writer, whose `writerow` gives back what `write` does."""

    def write(self, text: str) -> str:
        return text


@dataclass(frozen=True, slots=True)
class _Shape:
    """How items of one type are read.

    Args:
        read: The item as a mapping of columns to cells, or as the cells in order.
        named: True is a mapping.
    """

    read: Callable[[Any], Any]
    named: bool


@lru_cache(maxsize=1024)  # bounded, for an application may make classes as it runs
def _shape_of(kind: type) -> _Shape:
    if issubclass(kind, (str, bytes, bytearray, memoryview)):
        return _Shape(_refuse, named=False)
    if issubclass(kind, Mapping):
        return _Shape(_itself, named=True)
    if hasattr(kind, "__pydantic_serializer__") and hasattr(kind, "model_dump"):
        return _Shape(_model, named=True)
    if is_dataclass(kind):
        names = tuple(field.name for field in fields(kind))
        return _Shape(lambda item: {name: getattr(item, name) for name in names}, named=True)
    if issubclass(kind, Sequence) and hasattr(kind, "_fields"):  # SQLAlchemy's rows have it too
        return _Shape(lambda item: dict(zip(item._fields, item, strict=True)), named=True)
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        return _Shape(dict, named=True)
    return _Shape(_itself if issubclass(kind, Sequence) else _refuse, named=False)


def _itself(item: Any) -> Any:
    return item


def _refuse(item: Any) -> Any:
    raise InvalidChunk(item, CSV.name, _WANTED)


def _model(item: Any) -> Any:
    try:
        # By alias, as `to_json` writes a model in the other formats.
        record = item.model_dump(by_alias=True)
    except ValueError as exc:  # a serialiser of the model's own failed
        raise InvalidChunk(item, CSV.name, "models that pydantic can write") from exc
    return record if isinstance(record, dict) else _refuse(item)  # a root model of a list is none


def _cell_of(value: Any) -> Any:
    """A value of an uncommon type as text or a number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Decimal):
        return value
    if isinstance(value, Real):
        return float(value)
    try:
        plain = to_jsonable_python(value)
        return json_text(value).decode() if isinstance(plain, (dict, list)) else plain
    except ValueError as exc:
        raise InvalidChunk(value, CSV.name, "cells that pydantic can write as JSON") from exc


def _unknown(record: Mapping[Any, Any], columns: tuple[Any, ...]) -> str:
    extra = ", ".join(repr(key) for key in record if key not in columns)
    known = ", ".join(map(repr, columns))
    return f"only the columns {known} (not {extra}), or name all of them in columns="


def _checked(columns: Iterable[str]) -> tuple[str, ...]:
    allowed = "a list of different column names"
    if isinstance(columns, (str, bytes)):  # `columns="id"` would be the columns "i" and "d"
        raise InvalidOption("columns", columns, allowed)
    names = tuple(columns)
    if not names or len(set(names)) != len(names) or not all(isinstance(n, str) for n in names):
        raise InvalidOption("columns", names, allowed)
    return names
