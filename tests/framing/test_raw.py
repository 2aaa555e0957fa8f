from __future__ import annotations

import array
import enum
from typing import Any

import pytest

from tailrace.errors import InvalidChunk, InvalidOption, Problem
from tailrace.framing import Raw


class Colour(str, enum.Enum):  # noqa: UP042 - the old way, whose str() is not its value
    RED = "red"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("héllo", "héllo".encode()),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc"), b"abc"),
        (Colour.RED, b"red"),
        ("", b""),
        (b"", b""),
    ],
)
def test_text_and_bytes_go_out_as_they_are(item: object, expected: bytes) -> None:
    framed = Raw().frame(item)
    assert framed == expected
    assert type(framed) is bytes


def test_exact_bytes_are_not_copied() -> None:
    item = b"x" * 1000
    assert Raw().frame(item) is item


def test_a_bytearray_is_copied_for_its_source_may_fill_it_again() -> None:
    item = bytearray(b"first")
    framed = Raw().frame(item)
    item[:] = b"other"
    assert framed == b"first"


def test_a_memoryview_of_another_format_gives_its_bytes() -> None:
    numbers = array.array("I", [1, 2, 3])
    assert Raw().frame(memoryview(numbers)) == numbers.tobytes()


def test_a_memoryview_with_gaps_gives_what_it_shows() -> None:
    assert Raw().frame(memoryview(b"abcdef")[::2]) == b"ace"


def test_a_memoryview_of_two_dimensions_gives_its_bytes() -> None:
    assert Raw().frame(memoryview(b"abcdef").cast("B", (2, 3))) == b"abcdef"


def test_text_is_encoded_in_the_charset() -> None:
    assert Raw("latin-1").frame("é") == b"\xe9"


@pytest.mark.parametrize("item", [None, 1, 1.5, {"a": 1}, ["a"], object()])
def test_anything_else_is_refused_by_its_type_and_the_format(item: object) -> None:
    with pytest.raises(InvalidChunk, match=f"raw response gave {type(item).__name__}") as caught:
        Raw().frame(item)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(("charset", "item"), [("utf-8", "\ud800"), ("ascii", "é")])
def test_text_that_the_charset_cannot_carry_is_refused_by_name(charset: str, item: str) -> None:
    with pytest.raises(InvalidChunk, match=f"text that {charset} can carry"):
        Raw(charset).frame(item)


@pytest.mark.parametrize("charset", ["klingon", "base64", "no\0name"])
def test_a_charset_that_nobody_knows_labels_bytes_and_refuses_text(charset: str) -> None:
    assert Raw(charset).frame(b"\xf8") == b"\xf8"
    with pytest.raises(InvalidChunk, match="give it bytes: Python knows no charset"):
        Raw(charset).frame("text")


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "iso-2022-jp", "utf-8-sig", "utf-7", "hz"])
def test_chunks_are_one_text_in_a_charset_that_has_a_start_or_an_end(charset: str) -> None:
    raw = Raw(charset)
    wire = b"".join([raw.frame("日"), raw.frame("本"), raw.closing()])
    assert wire.decode(charset) == "日本"


@pytest.mark.parametrize(("mark", "wire"), [("-- é\n", b"-- \xe9\n"), (b"\xff", b"\xff")])
def test_an_end_mark_follows_the_last_item(mark: str | bytes, wire: bytes) -> None:
    raw = Raw("latin-1", end_mark=mark)
    assert raw.frame("a") + raw.closing() == b"a" + wire
    assert Raw("latin-1", end_mark=mark).failure(Problem("stream_failed", "it broke")) == b""


@pytest.mark.parametrize("mark", [True, 1, "€", bytearray(b"x")])
def test_an_end_mark_that_cannot_be_sent_is_refused_at_once(mark: Any) -> None:
    with pytest.raises(InvalidOption, match="end_mark="):
        Raw("latin-1", end_mark=mark)


def test_a_text_mark_in_a_charset_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidOption, match="end_mark="):
        Raw("klingon", end_mark="end")


def test_it_has_no_ends() -> None:
    raw = Raw()
    assert raw.closing() == b""
    assert raw.heartbeat == b""
    assert raw.farewell(1.0) is None
