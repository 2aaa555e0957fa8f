"""Which media type a name has, and which charset a media type names."""

from __future__ import annotations

import mimetypes

import pytest

from tailrace.semantics import MediaTypes, charset_of, is_utf8

TYPES = {
    "a.txt": "text/plain",
    "a.HTML": "text/html",
    "a.md": "text/markdown",
    "a.js": "text/javascript",
    "a.mjs": "text/javascript",
    "a.wasm": "application/wasm",
    "a.woff2": "font/woff2",
    "a.webp": "image/webp",
    "a.mp4": "video/mp4",
    "a.jsonl": "application/jsonl",
    "a.csv": "text/csv",
    "a.log": "text/plain",
    "a.tar.gz": "application/gzip",
    "a.csv.gz": "application/gzip",
    "a.tgz": "application/gzip",
    "a.csv.zst": "application/zstd",
    "README": "application/octet-stream",
    "a.unknown": "application/octet-stream",
    ".txt": "application/octet-stream",
    "bad\udcff.txt": "text/plain",
}


@pytest.mark.parametrize(("name", "expected"), TYPES.items())
def test_a_name_has_its_type(name: str, expected: str) -> None:
    assert MediaTypes({}).of(name) == expected


def test_types_of_ones_own_come_first() -> None:
    types = MediaTypes({".txt": "text/x-own", "": "text/plain"})
    assert types.of("a.txt") == "text/x-own"
    assert types.of("README") == "text/plain"


def test_a_type_that_the_machine_knows_is_not_taken() -> None:
    mimetypes.add_type("text/x-of-this-machine", ".of-this-machine")
    assert MediaTypes({}).of("a.of-this-machine") == "application/octet-stream"


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("text/csv", None),
        ("text/csv; charset=utf-8", "utf-8"),
        ('text/csv;CHARSET = "ISO-8859-1"', "ISO-8859-1"),
        ("text/csv; header=present; charset=latin1; x=y", "latin1"),
        ("text/csv; xcharset=latin1", None),
        ("", None),
    ],
)
def test_a_content_type_names_its_charset(content_type: str, charset: str | None) -> None:
    assert charset_of(content_type) == charset


@pytest.mark.parametrize(
    ("charset", "is_it"),
    [("utf-8", True), ("UTF8", True), ("utf-8-sig", False), ("latin-1", False), ("klingon", False)],
)
def test_utf_8_is_known_by_each_of_its_names(charset: str, is_it: bool) -> None:
    assert is_utf8(charset) is is_it
