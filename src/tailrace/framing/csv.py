"""Comma-separated values, by RFC 4180.

`row.py` turns an item into the cells of a row; the standard library's `csv` quotes the cells. Text,
numbers and None are given to `csv` as they are (None is an empty cell). Everything else is written
as in JSON: `true`, `2026-01-31T08:00:00Z`, and the JSON text itself for a list or a dict. NaN is an
empty cell, because it means "no value" in the tables that it comes from.

If the source fails, the last row is `#error,code,message`. CSV has no comments, but most readers
that know comments look for a `#` at the start, and the others see a row with another number of
cells. After this row the connection is cut in any case.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tailrace.errors import InvalidChunk, InvalidOption, Problem
from tailrace.framing.base import Framing
from tailrace.framing.charset import Charset
from tailrace.framing.row import json_text, plain_of, reason_of, record_of
from tailrace.types import check_flag

__all__ = ["CSV"]

_PLAIN = frozenset({str, int, float, type(None)})
"""Types that `csv` writes as we want. Compared exactly: to `isinstance` a bool is an int."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\0")
"""Spreadsheets compute a cell that starts with one of these.

Source: OWASP ASVS 5.0, 1.2.10; CR is from an older list.
"""

_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""A negative number, which starts as a formula does."""

_WANTED = "mappings, models, dataclasses, named tuples, lists or tuples"


class CSV(Framing):
    """Comma-separated values: each item is one row.

    Mappings, pydantic models, dataclasses, attrs classes and named tuples have named cells, and so
    has every object with `keys()`, such as the rows of sqlite3. A missing key gives an empty cell.
    A key that is not a column is refused, because its value would be lost. Lists, tuples and other
    sequences are cells in order. str and bytes are refused, though they are sequences.

    Args:
        columns: The columns in order; None takes those of the first item, if it has names.
        header: Write the columns as the first row. If `columns` are given, it is written even if
            there is no item.
        neutralise: Put a single quote before text that a spreadsheet would compute as a formula
            (it starts with `= + - @`, TAB, CR or NUL). Numbers stay as they are. It changes the
            data, so it is for files that people open, not for programs.
        charset: How the text is encoded: any name that Python has for it.
        bom: Begin with a byte order mark, by which Excel recognises UTF-8.
        end_mark: End with a row `#end`, if the source ended without an error.

    Raises:
        InvalidOption: `columns` is not a list of different names, Python does not know the charset,
            `bom` is set with a charset other than UTF-8, or a value that should be a bool is not.

    Source: RFC 4180.
    """

    name = "csv"
    media_type = "text/csv"

    def __init__(
        self,
        columns: Iterable[str] | None = None,
        header: bool = True,
        neutralise: bool = False,
        *,
        charset: str = "utf-8",
        bom: bool = False,
        end_mark: bool = False,
    ) -> None:
        check_flag("header", header)
        check_flag("neutralise", neutralise)
        check_flag("bom", bom)
        check_flag("end_mark", end_mark)
        self._columns: tuple[Any, ...] | None = None
        self._known: frozenset[Any] = frozenset()
        if columns is not None:
            self._name(_checked(columns))
        self._given = columns is not None
        self._header = header
        self._neutralise = neutralise
        self._charset = Charset(charset)
        if bom and self._charset.name != "utf-8":
            raise InvalidOption("bom", bom, f"False with charset={charset!r}: it is for UTF-8")
        self._start = "\ufeff" if bom else ""
        self._end = "#end\r\n" if end_mark else ""
        self._started = False
        self._write: Callable[[Iterable[Any]], str] = csv.writer(
            _Line(), lineterminator="\r\n"
        ).writerow

    def frame(self, item: Any) -> bytes:
        """The item as a row; the first item has the header before it.

        Raises:
            InvalidChunk: The item is not a row, a cell cannot be written, or it has other columns.
        """
        if type(item) is dict and tuple(item) == self._columns:  # most items
            row: Iterable[Any] = item.values()
        else:
            row = self._row_of(item)
        try:
            text = self._text(row)
        except ValueError as exc:
            raise self._unwritable(row, exc) from exc
        if not self._started:
            text = self._start + self._header_row() + text
        try:
            framed = self._charset.encode(text)
        except UnicodeEncodeError as exc:
            raise self._unencodable(item, row) from exc
        self._started = True
        return framed

    def closing(self) -> bytes:
        header = self._start + self._header_row() if self._given and not self._started else ""
        return self._charset.encode(header + self._end) + self._charset.finish()

    def failure(self, problem: Problem) -> bytes:
        return self._charset.lossy(self._text(["#error", problem.code, problem.message]))

    def _name(self, columns: tuple[Any, ...]) -> None:
        self._columns = columns
        self._known = frozenset(columns)

    def _header_row(self) -> str:
        return self._text(self._columns) if self._header and self._columns else ""

    def _row_of(self, item: Any) -> Sequence[Any]:
        """The item's cells in the order of the columns; the first item may name the columns."""
        try:
            record = record_of(item)
        except ValueError as exc:
            raise InvalidChunk(item, self.name, f"{_WANTED} that can be read ({exc})") from exc
        if isinstance(record, dict):
            if record and not self._started and self._columns is None:
                self._name(tuple(record))
            return self._named(item, record)
        if not isinstance(record, (list, tuple)):
            raise InvalidChunk(item, self.name, _WANTED)
        columns = self._columns
        if not record or (columns is not None and len(record) != len(columns)):
            wanted = f"rows of {len(columns)} cells" if columns else "rows of at least one cell"
            raise InvalidChunk(item, self.name, f"{wanted}, not {len(record)}")
        return record

    def _named(self, item: Any, record: dict[Any, Any]) -> Sequence[Any]:
        if self._columns is None:
            lists = "lists or tuples, as its first row was"
            wanted = lists if self._started else "a first row with at least one column"
            raise InvalidChunk(item, self.name, wanted)
        if not record.keys() <= self._known:
            raise InvalidChunk(item, self.name, _unknown(record, self._columns))
        return [record.get(column) for column in self._columns]

    def _text(self, row: Iterable[Any]) -> str:
        cells = [cell if type(cell) in _PLAIN else _cell_of(cell) for cell in row]
        if self._neutralise:
            cells = [_neutral(cell) for cell in cells]
        text = self._write(cells)
        if "nan" in text and any(map(_is_nan, cells)):
            text = self._write([None if _is_nan(cell) else cell for cell in cells])
        return text

    def _unwritable(self, row: Iterable[Any], error: ValueError) -> InvalidChunk:
        """An error that names the cell that cannot be written."""
        wanted = f"cells that pydantic can write as JSON ({reason_of(error)})"
        for number, cell in enumerate(row):
            try:
                self._text([cell])
            except ValueError:
                return InvalidChunk(cell, self.name, wanted, column=self._column(number))
        return InvalidChunk(row, self.name, wanted)

    def _unencodable(self, item: Any, row: Iterable[Any]) -> InvalidChunk:
        """An error that names the cell with a character that the charset does not have."""
        charset = self._charset
        for number, cell in enumerate(row):
            if lacking := charset.lacks(self._text([cell])):
                wanted = f"text that {charset.name} can carry, without {lacking!r}"
                return InvalidChunk(cell, self.name, wanted, column=self._column(number))
        return InvalidChunk(item, self.name, f"columns that {charset.name} can carry")

    def _column(self, number: int) -> Any:
        return number + 1 if self._columns is None else self._columns[number]


class _Line:
    """The "file" of the csv writer: `writerow` returns what the `write` of its file returns."""

    def write(self, text: str) -> str:
        return text


def _cell_of(value: Any) -> Any:
    """A value of an uncommon type as text or a number."""
    kind = type(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is Decimal:
        return value
    plain = plain_of(value)
    return json_text(plain).decode() if isinstance(plain, (bool, dict, list)) else plain


def _is_nan(cell: Any) -> bool:
    return isinstance(cell, float) and cell != cell


def _neutral(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(_FORMULA) or _NEGATIVE.fullmatch(cell):
        return cell
    return "'" + cell


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
