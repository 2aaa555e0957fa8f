from __future__ import annotations

import array
import enum

import pytest

from tailrace.errors import InvalidChunk, InvalidOption
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


def test_a_charset_that_nobody_knows_is_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="charset='klingon'"):
        Raw("klingon")


def test_it_has_no_ends() -> None:
    raw = Raw()
    assert raw.closing() == b""
    assert raw.heartbeat == b""
    assert raw.farewell(1.0) is None
