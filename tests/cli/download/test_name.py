"""File names that servers choose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.cli.download.name import name_from_header, name_from_url, safe_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment; filename=film.mp4", "film.mp4"),
        ('attachment; filename="two words.txt"', "two words.txt"),
        (r'attachment; filename="a \"b\".txt"', 'a "b".txt'),
        ("inline; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("attachment; filename=\"plain.txt\"; filename*=utf-8''%e2%82%ac.txt", "€.txt"),
        ("attachment; filename*=iso-8859-1'en'%A3.txt", "£.txt"),
        ("attachment; filename=fallback.txt; filename*=utf-8''%ff", "fallback.txt"),
        ("attachment; filename=fallback.txt; filename*=klingon''x", "fallback.txt"),
        ("attachment; FileName=x.txt", "x.txt"),
        ("filename=typeless.txt", "typeless.txt"),
        ("attachment; size=3; filename=x.txt", "x.txt"),
        ('attachment; filename="semi;colon.txt"', "semi;colon.txt"),
        ("attachment; filename=100%25.txt", "100%25.txt"),
    ],
)
def test_the_name_in_a_header(header: str, name: str) -> None:
    assert name_from_header(header) == name


@pytest.mark.parametrize(
    "header", [None, "", "attachment", "inline; size=4", 'attachment; filename=""', ";;;", "="]
)
def test_a_header_without_a_name_gives_none(header: str | None) -> None:
    assert name_from_header(header) is None


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="/etc/passwd"', "passwd"),
        ('attachment; filename="../../x"', "x"),
        (r'attachment; filename="..\\..\\evil.exe"', "evil.exe"),
        ("attachment; filename*=utf-8''..%2F..%2Fetc%2Fcron.d%2Fjob", "job"),
        ("attachment; filename*=utf-8''%2e%2e%5Cx", "x"),
        ('attachment; filename=".bashrc"', "_bashrc"),
        ("attachment; filename*=utf-8''a%00b%0a.txt", "ab.txt"),
        ("attachment; filename*=utf-8''x%E2%80%AEgpj.exe", "xgpj.exe"),  # right-to-left override
        ("attachment; filename*=utf-8''%1b%5B31mred", "[31mred"),
    ],
)
def test_a_name_in_a_header_leads_nowhere_else(header: str, name: str) -> None:
    assert name_from_header(header) == name


@pytest.mark.parametrize("header", ['a; filename=".."', 'a; filename="../"', 'a; filename="."'])
def test_a_name_of_which_nothing_is_left_is_none(header: str) -> None:
    assert name_from_header(header) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://host/a/film.mp4?key=1#t", "film.mp4"),
        ("http://host/two%20words", "two words"),
        ("http://host/a%2Fb", "b"),
        ("http://host/..%2F..%2Fx", "x"),
        ("http://host/%2e%2e", "download"),
        ("http://host/", "download"),
        ("http://host", "download"),
        ("http://host/dir/", "download"),
        ("http://host/%ff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_the_name_in_a_url(url: str, name: str) -> None:
    assert name_from_url(url) == name


@given(st.text())
def test_no_name_leaves_its_directory_or_is_too_long(text: str) -> None:
    name = safe_name(text)
    if name is not None:
        assert "/" not in name
        assert "\\" not in name
        assert not name.startswith(".")
        assert name.isprintable()
        assert 0 < len(name.encode()) <= limits.MAX_FILE_NAME_BYTES


def test_a_long_name_keeps_its_suffix() -> None:
    name = safe_name("ü" * 500 + ".tar.gz")
    assert name is not None
    assert name.endswith(".gz")
    assert len(name.encode()) <= limits.MAX_FILE_NAME_BYTES


@given(st.text())
def test_any_header_is_a_name_or_none(text: str) -> None:
    name = name_from_header(text)
    assert name is None or name == safe_name(name)
