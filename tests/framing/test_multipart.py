from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidChunk, InvalidOption, Problem
from tailrace.framing import MultipartMixedReplace, Part


def parts_of(wire: bytes, boundary: str) -> tuple[list[tuple[dict[str, str], bytes]], bool]:
    """The complete parts of a stream (headers, body), and whether the stream was closed.

    Content-Length is ignored. A part at the end that has headers but no body yet is left out.
    """
    opening, *pieces = (b"\r\n" + wire).split(b"\r\n--" + boundary.encode())
    assert opening == b""
    last = pieces.pop()
    closed = last == b"--\r\n"
    if closed and pieces:
        last = pieces.pop()
    assert last == b"" or last.endswith(b"\r\n")
    found = []
    for piece in pieces:
        assert piece.startswith(b"\r\n")
        head, body = piece[2:].split(b"\r\n\r\n", 1)
        fields: dict[str, str] = {}
        for line in head.decode().split("\r\n"):
            name, value = line.split(": ", 1)
            fields[name] = value
        found.append((fields, body))
    return found, closed


def test_a_part_is_followed_at_once_by_the_boundary_and_the_headers_of_the_next() -> None:
    framing = MultipartMixedReplace(boundary="b")
    assert framing.frame(b"one") == (
        b"--b\r\nContent-Type: image/jpeg\r\n\r\none\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    assert framing.frame(b"two") == b"two\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n"
    assert framing.closing() == b"\r\n--b--\r\n"


def test_a_part_may_have_a_type_and_headers_of_its_own() -> None:
    framing = MultipartMixedReplace("image/png", boundary="b")
    first = framing.frame(Part(b"x", "text/plain", {"X-Frame": "7"}))
    second = framing.frame(Part(bytearray(b"y"), None, {"X-Frame": "8"}))
    assert first == (
        b"--b\r\nContent-Type: text/plain\r\nX-Frame: 7\r\nContent-Length: 1\r\n\r\nx\r\n--b\r\n"
    )
    assert second == (
        b"Content-Type: image/png\r\nX-Frame: 8\r\nContent-Length: 1\r\n\r\ny\r\n--b\r\n"
    )
    assert framing.closing() == b"--b--\r\n"


def test_a_part_without_a_type_and_headers_of_its_own_is_a_plain_one() -> None:
    plain, part = MultipartMixedReplace(boundary="b"), MultipartMixedReplace(boundary="b")
    assert part.frame(Part(b"x")) == plain.frame(b"x")
    assert part.frame(Part(b"x", "image/jpeg")) == plain.frame(b"x")


def test_a_part_that_was_opened_for_another_kind_shows_the_last_body_again() -> None:
    framing = MultipartMixedReplace("image/png", boundary="b")
    items = [b"one", Part(b"two", "image/jpeg"), Part(b"three", "image/jpeg"), b"four"]
    parts, closed = parts_of(b"".join(map(framing.frame, items)) + framing.closing(), "b")
    assert [(head["Content-Type"], body) for head, body in parts] == [
        ("image/png", b"one"),
        ("image/png", b"one"),
        ("image/jpeg", b"two"),
        ("image/jpeg", b"three"),
        ("image/png", b"four"),
    ]
    assert closed


@pytest.mark.parametrize("empty", [b"", bytearray(), Part(b""), Part(b"", "image/png")])
def test_an_empty_item_writes_no_part(empty: Any) -> None:
    framing = MultipartMixedReplace(boundary="b")
    assert framing.frame(empty) == b""
    framing.frame(b"x")
    assert framing.frame(empty) == b""


def test_the_media_type_names_the_boundary() -> None:
    framing = MultipartMixedReplace(boundary="frame")
    assert framing.media_type == "multipart/x-mixed-replace; boundary=frame"


def test_each_stream_draws_a_boundary_of_128_bits() -> None:
    drawn = {MultipartMixedReplace().media_type.partition("boundary=")[2] for _ in range(20)}
    assert len(drawn) == 20
    assert {len(bytes.fromhex(boundary)) for boundary in drawn} == {16}


@pytest.mark.parametrize("item", ["text", None, {"a": 1}, 5])
def test_what_is_no_bytes_is_refused_by_its_type(item: Any) -> None:
    with pytest.raises(InvalidChunk, match=f"multipart response gave {type(item).__name__}"):
        MultipartMixedReplace().frame(item)
    with pytest.raises(InvalidChunk, match=f"multipart response gave {type(item).__name__}"):
        Part(item)


@pytest.mark.parametrize("value", ["a\r\nX: forged", "a\nb", "a\rb", "a\0b", "é"])
def test_a_header_that_would_leave_its_line_is_refused(value: str) -> None:
    with pytest.raises(InvalidOption, match="content_type="):
        Part(b"", value)
    with pytest.raises(InvalidOption, match="headers="):
        Part(b"", None, {"X-Name": value})
    with pytest.raises(InvalidOption, match="part_type="):
        MultipartMixedReplace(value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "Content-Length", "content-type"])
def test_a_header_name_that_cannot_be_written_is_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match="headers="):
        Part(b"", None, {name: "x"})


@pytest.mark.parametrize("boundary", ["", "a b", 'a"b', "a\r\nb", "x" * 71, "a;b"])
def test_a_boundary_that_needs_quotes_is_refused(boundary: str) -> None:
    with pytest.raises(InvalidOption, match="boundary="):
        MultipartMixedReplace(boundary=boundary)


def test_a_failed_stream_has_no_closing_boundary() -> None:
    framing = MultipartMixedReplace(boundary="b")
    wire = framing.frame(b"x") + framing.failure(Problem("stream_failed", "it broke"))
    assert b"--b--" not in wire


def test_an_empty_source_is_only_closed() -> None:
    assert MultipartMixedReplace(boundary="b").closing() == b"--b--\r\n"


bodies = st.binary(max_size=50) | st.sampled_from([b"\r\n", b"--", b"\r\n--", b"\r"])
special = st.builds(Part, bodies, st.just("text/plain"), st.sampled_from([{}, {"X-A": "1"}]))


@given(st.lists(bodies))
def test_plain_parts_come_back(items: list[bytes]) -> None:
    framing = MultipartMixedReplace()
    wire = b"".join(map(framing.frame, items)) + framing.closing()
    parts, closed = parts_of(wire, framing.boundary)
    assert [body for _, body in parts] == [item for item in items if item]
    assert closed


@given(st.lists(bodies | special))
def test_mixed_parts_come_back_with_no_more_than_repeats_between(items: list[Any]) -> None:
    framing = MultipartMixedReplace()
    wire = b"".join(map(framing.frame, items)) + framing.closing()
    parts, closed = parts_of(wire, framing.boundary)
    shown = [(head["Content-Type"], body) for head, body in parts]
    given = [
        (item.content_type, item.data) if isinstance(item, Part) else ("image/jpeg", item)
        for item in items
    ]
    wanted = [(kind, body) for kind, body in given if body]
    assert [key for key, _ in groupby(shown)] == [key for key, _ in groupby(wanted)]
    assert closed
