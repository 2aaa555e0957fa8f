from __future__ import annotations

import collections
import csv
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import re
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from tailrace.errors import InvalidChunk, InvalidOption, Problem
from tailrace.framing import CSV
from tests.framing.strategies import text


class Model(BaseModel):
    id: int
    name: str | None = Field(None, serialization_alias="Name")


@dataclasses.dataclass
class Record:
    id: int
    name: str


class Level(enum.IntEnum):
    HIGH = 3


Pair = collections.namedtuple("Pair", ["id", "name"])


def written(items: Iterable[Any], framing: CSV | None = None) -> str:
    framing = framing or CSV()
    return (b"".join(map(framing.frame, items)) + framing.closing()).decode()


def rows(wire: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(wire, newline="")))


@pytest.mark.parametrize(
    ("item", "wire"),
    [
        ({"id": 1, "name": "a"}, "id,name\r\n1,a\r\n"),
        (collections.OrderedDict(id=1, name="a"), "id,name\r\n1,a\r\n"),
        (Model(id=1, name="a"), "id,Name\r\n1,a\r\n"),
        (Record(1, "a"), "id,name\r\n1,a\r\n"),
        (Pair(1, "a"), "id,name\r\n1,a\r\n"),
        ([1, "a"], "1,a\r\n"),
        ((1, "a"), "1,a\r\n"),
        (range(1, 3), "1,2\r\n"),
        (RootModel([1, "a"]), "1,a\r\n"),
    ],
)
def test_what_has_names_gets_a_header(item: object, wire: str) -> None:
    assert written([item]) == wire


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        (Level.HIGH, "3"),
        (1.5, "1.5"),
        (decimal.Decimal("1.10"), "1.10"),
        (fractions.Fraction(1, 4), "1/4"),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        (datetime.datetime(2026, 1, 31, 8, tzinfo=datetime.UTC), "2026-01-31T08:00:00Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"bytes", "bytes"),
        ([1, {"a": None}], '[1,{"a":null}]'),
        (Model(id=1, name=None), '{"id":1,"Name":null}'),
    ],
)
def test_a_cell_is_what_its_value_is_in_json_without_the_quotes(value: Any, cell: str) -> None:
    assert rows(written([[value, "x"]])) == [[cell, "x"]]


@pytest.mark.parametrize(
    ("cell", "wire"),
    [
        ("a,b", '"a,b"'),
        ('say "hi"', '"say ""hi"""'),
        ("a\r\nb", '"a\r\nb"'),
        ("a\nb", '"a\nb"'),
        ("a\rb", '"a\rb"'),
        (" a ", " a "),
    ],
)
def test_cells_are_quoted_by_rfc_4180(cell: str, wire: str) -> None:
    assert written([[cell, 1]]) == wire + ",1\r\n"


def test_a_missing_key_is_an_empty_cell() -> None:
    assert written([{"a": 1, "b": 2}, {"b": 3}]) == "a,b\r\n1,2\r\n,3\r\n"


def test_the_order_of_later_keys_does_not_matter() -> None:
    assert written([{"a": 1, "b": 2}, {"b": 4, "a": 3}]) == "a,b\r\n1,2\r\n3,4\r\n"


def test_reading_a_default_dict_adds_no_key_to_it() -> None:
    record = collections.defaultdict(int, a=1)
    assert written([record], CSV(columns=["a", "b"])) == "a,b\r\n1,\r\n"
    assert list(record) == ["a"]


def test_an_unknown_key_is_refused_by_name() -> None:
    framing = CSV()
    framing.frame({"a": 1})
    with pytest.raises(InvalidChunk, match=r"csv response gave dict.*'a' \(not 'b'\)"):
        framing.frame({"a": 1, "b": 2})


def test_given_columns_are_the_order_and_the_header() -> None:
    framing = CSV(columns=["b", "a"])
    assert written([{"a": 1, "b": 2}, (3, 4)], framing) == "b,a\r\n2,1\r\n3,4\r\n"


def test_given_columns_name_the_cells_of_lists() -> None:
    assert written([(1, 2)], CSV(columns=["a", "b"])) == "a,b\r\n1,2\r\n"


@pytest.mark.parametrize("item", [(1,), (1, 2, 3)])
def test_a_list_of_another_width_than_the_columns_is_refused(item: tuple[int, ...]) -> None:
    with pytest.raises(InvalidChunk, match=f"rows of 2 cells, not {len(item)}"):
        CSV(columns=["a", "b"]).frame(item)


def test_the_header_can_be_left_out() -> None:
    assert written([{"a": 1}, {"a": 2}], CSV(header=False)) == "1\r\n2\r\n"
    assert written([], CSV(columns=["a"], header=False)) == ""


def test_an_empty_source_gives_the_header_if_columns_were_given() -> None:
    assert written([], CSV(columns=["a", "b"])) == "a,b\r\n"
    assert written([]) == ""


@pytest.mark.parametrize(
    "item", ["text", b"bytes", bytearray(b"x"), memoryview(b"x"), 5, None, {1, 2}, RootModel(1)]
)
def test_what_is_no_row_is_refused_by_its_type(item: object) -> None:
    with pytest.raises(InvalidChunk, match=f"csv response gave .*{type(item).__name__}"):
        CSV().frame(item)


@pytest.mark.parametrize("item", [{}, [], ()])
def test_a_row_without_cells_is_refused(item: object) -> None:
    with pytest.raises(InvalidChunk, match="at least one"):
        CSV().frame(item)


def test_a_mapping_after_lists_is_refused() -> None:
    framing = CSV()
    framing.frame([1])
    with pytest.raises(InvalidChunk, match="lists or tuples, as its first row was"):
        framing.frame({"a": 1})


def test_a_cell_that_has_no_text_is_refused_by_its_type() -> None:
    with pytest.raises(InvalidChunk, match="gave object in column 1: give it cells"):
        CSV().frame([object()])


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidChunk, match=r"column 2: .* utf-8 can carry, without '\\ud800'"):
        CSV().frame(["a", "\ud800"])


@pytest.mark.parametrize("charset", ["iso-8859-1", "cp1252", "utf-16", "iso-2022-jp", "utf-8"])
def test_rows_are_written_in_the_charset(charset: str) -> None:
    rows = [{"ü": "Zoë"}, {"ü": "Köln"}] if charset != "iso-2022-jp" else [{"日": "本"}]
    framing = CSV(charset=charset)
    wire = b"".join([*map(framing.frame, rows), framing.closing()])
    assert wire.decode(charset).split() == [
        *rows[0],
        *(cell for row in rows for cell in row.values()),
    ]


def test_what_the_charset_cannot_carry_is_refused_by_its_cell() -> None:
    framing = CSV(charset="latin-1")
    with pytest.raises(InvalidChunk, match=r"column 'b': .*iso8859-1 can carry, without '€'"):
        framing.frame({"a": "é", "b": "5 €"})
    with pytest.raises(InvalidChunk, match="columns that iso8859-1 can carry"):
        CSV(charset="latin-1").frame({"€": 5})


def test_a_failure_in_another_charset_says_all_that_it_can() -> None:
    framing = CSV(charset="latin-1")
    assert framing.failure(Problem("x", "é 5 €")) == b"#error,x,\xe9 5 \\u20ac\r\n"


def test_a_charset_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidOption, match="charset='klingon'"):
        CSV(charset="klingon")


def test_a_byte_order_mark_is_written_once_in_front() -> None:
    assert written([{"é": 1}, {"é": 2}], CSV(bom=True)) == "\ufeffé\r\n1\r\n2\r\n"
    assert written([], CSV(columns=["a"], bom=True)) == "\ufeffa\r\n"


def test_a_byte_order_mark_is_for_utf_8() -> None:
    with pytest.raises(InvalidOption, match="bom=True"):
        CSV(charset="utf-16", bom=True)


def test_an_end_mark_is_a_row_that_begins_like_a_comment() -> None:
    assert written([{"a": 1}], CSV(end_mark=True)) == "a\r\n1\r\n#end\r\n"
    assert written([], CSV(columns=["a"], end_mark=True)) == "a\r\n#end\r\n"
    assert written([], CSV(end_mark=True)) == "#end\r\n"
    with pytest.raises(InvalidOption, match="end_mark="):
        CSV(end_mark="end")  # type: ignore[arg-type] # the mistake


@pytest.mark.parametrize("name", ["header", "neutralise", "bom", "end_mark"])
def test_a_setting_that_is_no_bool_is_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match=f"{name}='no'"):
        CSV(**{name: "no"})  # type: ignore[arg-type] # the mistake


def test_nan_is_an_empty_cell_and_an_infinity_is_written() -> None:
    nan = float("nan")
    assert written([[nan, "finance", float("-inf")]]) == ",finance,-inf\r\n"
    assert written([["nan", "finance"]]) == "nan,finance\r\n"


@pytest.mark.parametrize("columns", ["id", [], ["a", "a"], [1], b"id"])
def test_columns_that_are_no_list_of_names_are_refused(columns: Any) -> None:
    with pytest.raises(InvalidOption, match="columns="):
        CSV(columns=columns)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\0"])
def test_a_formula_is_made_text(start: str) -> None:
    wire = written([{start + "k": start + "1+1"}], CSV(neutralise=True))
    assert rows(wire) == [["'" + start + "k"], ["'" + start + "1+1"]]


class Sum(BaseModel):
    total: decimal.Decimal
    rest: str = "x"


def test_a_number_of_a_model_is_no_formula() -> None:
    wire = written([Sum(total=decimal.Decimal("-1.10"))], CSV(neutralise=True))
    assert rows(wire) == [["total", "rest"], ["-1.10", "x"]]


@pytest.mark.parametrize("value", [-5, -1.5, decimal.Decimal("-1.10"), "plain", None, "-1e-5"])
def test_numbers_and_plain_text_are_not_changed(value: Any) -> None:
    assert written([[value, 1]], CSV(neutralise=True)) == written([[value, 1]])


def test_nothing_is_changed_unless_asked_for() -> None:
    assert written([["=1+1", "-x"]]) == "=1+1,-x\r\n"


def test_a_failure_is_a_row_of_its_own() -> None:
    framing = CSV()
    framing.frame({"a": 1})
    tail = framing.failure(Problem("stream_failed", 'it "broke", \ud800')).decode()
    assert rows(tail) == [["#error", "stream_failed", 'it "broke", \\ud800']]


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(text, min_size=width, max_size=width), max_size=5)
    )
)
def test_lists_come_back_from_a_csv_reader(table: list[list[str]]) -> None:
    assert rows(written(table)) == table


@given(st.lists(st.dictionaries(st.sampled_from("abc"), text | st.integers()), min_size=1))
def test_mappings_come_back_from_a_csv_reader(records: list[dict[str, Any]]) -> None:
    wire = written(records, CSV(columns=["a", "b", "c"]))
    found = list(csv.DictReader(io.StringIO(wire, newline="")))
    assert found == [{key: str(record.get(key, "")) for key in "abc"} for record in records]


@given(st.lists(text, min_size=1))
def test_neutralising_only_ever_puts_a_quote_in_front(row: list[str]) -> None:
    (found,) = rows(written([row], CSV(neutralise=True)))
    for before, after in zip(row, found, strict=True):
        assert after in (before, "'" + before)
        is_number = re.fullmatch(r"-[0-9.]+([eE][+-]?[0-9]+)?", after)
        assert is_number or not after.startswith(("=", "+", "-", "@", "\t", "\r", "\0"))
