"""A file's name, written where others read it."""

from __future__ import annotations

import os
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.files.names import archived, href, natural_key, shown, text

# Any name that a Linux file system can hold.
names = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda raw: b"\0" not in raw and b"/" not in raw and raw not in (b".", b".."))
    .map(os.fsdecode)
)


@given(names)
def test_a_reference_leads_to_the_very_name(name: str) -> None:
    there = urlsplit(urljoin("http://host/files/", href(name)))
    assert (there.scheme, there.netloc, there.query, there.fragment) == ("http", "host", "", "")
    assert unquote_to_bytes(there.path) == b"/files/" + os.fsencode(name)


@given(names)
def test_every_form_is_text_that_can_be_sent(name: str) -> None:
    for form in (text(name), shown(name), archived(name), href(name)):
        form.encode("utf-8")


@given(names)
def test_a_shown_name_has_nothing_invisible_that_controls(name: str) -> None:
    assert not any(ord(char) < 32 or char in "\x7f\u202e\u2066\u200f" for char in shown(name))


@given(names)
def test_an_archived_name_is_one_name_everywhere(name: str) -> None:
    form = archived(name)
    assert form not in ("", ".", "..")
    assert not set(form) & set("/\\:\0\r\n")


@given(names, names)
@example("a\\b", "a%5Cb")
@example("a%5Cb", "a%255Cb")
@example("\udcff", "%FF")
@example("\x01", "%01")
def test_two_names_stay_two_in_an_archive(one: str, other: str) -> None:
    if one != other:
        assert archived(one) != archived(other)


def test_a_name_that_was_taken_from_a_url_is_archived_as_it_is() -> None:
    assert archived("my%20file, 100%.txt") == "my%20file, 100%.txt"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("invoice_\u202egpj.exe", "invoice_\ufffdgpj.exe"),
        ("two\nlines", "two\ufffdlines"),
        ("bad\udcff", "bad\ufffd"),
        ("日本語 👩‍🚀.txt", "日本語 👩‍🚀.txt"),
    ],
)
def test_a_name_is_shown_as_it_is_but_for_what_deceives(name: str, expected: str) -> None:
    assert shown(name) == expected


def test_numbers_in_names_are_counted() -> None:
    mixed = ["File 10", "file 2", "file 1", "file", "10", "9", "a", "B", "c", "file 2"]
    expected = ["9", "10", "a", "B", "c", "file", "file 1", "file 2", "file 2", "File 10"]
    assert sorted(mixed, key=natural_key) == expected


@given(st.lists(names))
def test_any_names_can_be_sorted(several: list[str]) -> None:
    assert sorted(sorted(several, key=natural_key)) == sorted(several)
