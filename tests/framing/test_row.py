"""A row is read in one way only: each format writes the same names and values."""

from __future__ import annotations

import collections
import csv
import dataclasses
import datetime
import decimal
import enum
import io
import json
import sqlite3
import subprocess
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import attrs
import numpy as np
import pandas as pd
import pydantic
import pytest
import sqlalchemy
from sqlalchemy import orm

from tailrace.errors import InvalidChunk
from tailrace.framing import CSV, Framing, JSONArray, JSONLines, ServerSentEvents
from tailrace.streams.item import message_of

NAN = float("nan")


class Pair(NamedTuple):
    a: int
    b: str


class Model(pydantic.BaseModel):
    a: int
    b: str = pydantic.Field(serialization_alias="b")


@dataclasses.dataclass(slots=True)
class Data:
    a: int
    b: str


@pydantic.dataclasses.dataclass
class Checked:
    a: int
    hidden: str = pydantic.Field("x", serialization_alias="b")


@attrs.frozen
class Attrs:
    a: int
    b: str


class Base(orm.DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    a: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    password: orm.Mapped[str]


class Colour(enum.Enum):
    RED = "red"


def of_sqlite(query: str) -> list[Any]:
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    found = database.execute(query).fetchall()
    database.close()
    return found


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as made:
        yield made
    engine.dispose()


def cells_of(line: str) -> dict[str, str]:
    (row,) = csv.DictReader(io.StringIO(line, newline=""))
    return row


def readings(item: Any) -> list[Any]:
    """An item as each format writes it that carries JSON, parsed again."""
    return [
        json.loads(JSONLines().frame(item)),
        json.loads(JSONArray().frame(item)[1:]),
        json.loads(ServerSentEvents().frame(item).removeprefix(b"data: ")),
        json.loads(message_of(item)[:-1]),
    ]


ROWS: list[Callable[[], Any]] = [
    lambda: {"a": 1, "b": "x"},
    lambda: collections.OrderedDict(a=1, b="x"),
    lambda: collections.UserDict(a=1, b="x"),
    lambda: collections.ChainMap({"a": 1, "b": "x"}),
    lambda: types.MappingProxyType({"a": 1, "b": "x"}),
    lambda: Pair(1, "x"),
    lambda: Model(a=1, b="x"),
    lambda: pydantic.RootModel({"a": 1, "b": "x"}),
    lambda: Data(1, "x"),
    lambda: Checked(1),  # type: ignore[call-arg] # it has a default
    lambda: Attrs(1, "x"),
    lambda: of_sqlite("select 1 as a, 'x' as b")[0],
    lambda: {"a": np.int64(1), "b": np.str_("x")},
    lambda: {"a": np.uint8(1), "b": "x"},
    lambda: next(pd.DataFrame({"a": [1], "b": ["x"]}).itertuples(index=False)),
    lambda: next(pd.DataFrame({"a": [1], "b": ["x"]}).iterrows())[1],
    lambda: pd.DataFrame({"a": [1], "b": ["x"]}).to_records(index=False)[0],
]


@pytest.mark.parametrize("make", ROWS)
def test_what_has_names_has_them_in_each_format(make: Callable[[], Any]) -> None:
    assert readings(make()) == [{"a": 1, "b": "x"}] * 4
    assert CSV().frame(make()) == b"a,b\r\n1,x\r\n"


def test_rows_of_sqlalchemy_have_their_names(connection: sqlalchemy.Connection) -> None:
    query = sqlalchemy.text("select 1 as a, 'x' as b")
    for row in [*connection.execute(query), *connection.execute(query).mappings()]:
        assert readings(row) == [{"a": 1, "b": "x"}] * 4
        assert CSV().frame(row) == b"a,b\r\n1,x\r\n"
        assert readings({"row": row}) == [{"row": {"a": 1, "b": "x"}}] * 4


@pytest.mark.parametrize(
    ("make", "cells"),
    [
        (lambda: [1, "x"], [1, "x"]),
        (lambda: range(2), [0, 1]),
        (lambda: collections.UserList([1, "x"]), [1, "x"]),
        (lambda: np.array([1, 2]), [1, 2]),
    ],
)
def test_what_has_no_names_is_its_cells(make: Callable[[], Any], cells: list[Any]) -> None:
    assert readings(make()) == [cells] * 4
    assert CSV().frame(make()).decode() == ",".join(map(str, cells)) + "\r\n"


VALUES: list[tuple[Any, Any, str]] = [
    (None, None, ""),
    (NAN, None, ""),
    (pd.NaT, None, ""),
    (pd.NA, None, ""),
    (np.float64("nan"), None, ""),
    (np.float32("nan"), None, ""),
    (np.datetime64("NaT", "s"), None, ""),
    (np.float32(0.5), 0.5, "0.5"),
    (np.float64(0.5), 0.5, "0.5"),
    (np.longdouble(0.5), 0.5, "0.5"),
    (np.int8(-1), -1, "-1"),
    (np.uint64(2**63), 2**63, str(2**63)),
    (np.bool_(True), True, "true"),
    (True, True, "true"),
    (np.bytes_(b"x"), "x", "x"),
    (np.datetime64("2026-01-31"), "2026-01-31", "2026-01-31"),
    (np.datetime64("2026-01-31T08:00:00", "ns"), "2026-01-31T08:00:00", "2026-01-31T08:00:00"),
    (np.timedelta64(5, "s"), "PT5S", "PT5S"),
    (np.array([[1, 2]]), [[1, 2]], "[[1,2]]"),
    (pd.Timestamp("2026-01-31T08:00", tz="UTC"), "2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
    (pd.Timedelta("5s"), "PT5S", "PT5S"),
    (decimal.Decimal("1.10"), "1.10", "1.10"),
    (datetime.date(2026, 1, 31), "2026-01-31", "2026-01-31"),
    (datetime.time(8), "08:00:00", "08:00:00"),
    (datetime.timedelta(seconds=5), "PT5S", "PT5S"),
    (uuid.UUID(int=1), str(uuid.UUID(int=1)), str(uuid.UUID(int=1))),
    (Colour.RED, "red", "red"),
    (Attrs(1, "x"), {"a": 1, "b": "x"}, '{"a":1,"b":"x"}'),
    ([1, {"a": pd.NaT}, pd.NA], [1, {"a": None}, None], '[1,{"a":null},null]'),
    ((pd.NaT, 1), [None, 1], "[null,1]"),
]


@pytest.mark.parametrize(("value", "read", "cell"), VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_is_the_same_in_each_format(value: Any, read: Any, cell: str) -> None:
    item = {"v": value, "w": 1}
    assert readings(item) == [{"v": read, "w": 1}] * 4
    assert cells_of(CSV().frame(item).decode()) == {"v": cell, "w": "1"}


def test_a_model_hides_in_csv_what_it_hides_in_json() -> None:
    class Card(pydantic.BaseModel):
        number: str

        @pydantic.field_serializer("number", when_used="json")
        def mask(self, number: str) -> str:
            return "..." + number[-4:]

    card = Card(number="4000123412341234")
    assert readings(card) == [{"number": "...1234"}] * 4
    assert CSV().frame(card) == b"number\r\n...1234\r\n"


FORMATS = [CSV, JSONLines, JSONArray, ServerSentEvents]


@pytest.mark.parametrize("make", FORMATS)
def test_the_cell_that_cannot_be_written_is_named(make: Callable[[], Framing]) -> None:
    cell: Any = [object()]
    for item in [{"a": 1, "b": cell}, Data(1, cell), Pair(1, cell)]:
        with pytest.raises(InvalidChunk, match=r"list in column 'b': .*class 'object'") as caught:
            make().frame(item)
        assert (caught.value.column, caught.value.item_type) == ("b", list)
        caught.value.count(3)
        assert "gave list in row 3, column 'b': give it" in str(caught.value)


@pytest.mark.parametrize("make", FORMATS)
def test_two_columns_of_one_name_are_refused(
    make: Callable[[], Framing], connection: sqlalchemy.Connection
) -> None:
    query = "select 1 as a, 2 as b, 3 as a"
    for row in [of_sqlite(query)[0], connection.execute(sqlalchemy.text(query)).one()]:
        with pytest.raises(InvalidChunk, match="two columns are called 'a'"):
            make().frame(row)


@pytest.mark.parametrize("make", FORMATS)
def test_an_object_of_an_orm_is_refused_for_it_has_all_columns(make: Callable[[], Framing]) -> None:
    with pytest.raises(InvalidChunk, match="declare the type that is to be sent"):
        make().frame(Account(a=1, password="secret"))


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize(
    "cell",
    [np.datetime64("99999-01-01", "us"), [pd.NaT, object()]],
    ids=["a year beyond dates", "an object in a list"],
)
def test_what_nobody_can_write_is_refused(make: Callable[[], Framing], cell: Any) -> None:
    with pytest.raises(InvalidChunk, match="in column 'v'"):
        make().frame({"v": cell})


def test_nothing_is_loaded_for_what_is_not_there() -> None:
    code = (
        "import sys, tailrace.framing as f; f.CSV().frame({'a': [1], 'b': (x for x in 'ab')});"
        "sys.exit(bool({'numpy', 'pandas', 'sqlalchemy', 'attrs'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
