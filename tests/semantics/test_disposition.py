"""Content-Disposition: every client gets the name, and no name breaks out of the header."""

from __future__ import annotations

import re
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.semantics import content_disposition


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ("my report.pdf", 'attachment; filename="my report.pdf"'),
        (
            "naïve.txt",
            "attachment; filename=\"naive.txt\"; filename*=UTF-8''na%C3%AFve.txt",
        ),
        (
            "€ rates.txt",
            "attachment; filename=\"_ rates.txt\"; filename*=UTF-8''%E2%82%AC%20rates.txt",
        ),
        (
            'say "hi".txt',
            "attachment; filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt",
        ),
        ("100%41.txt", "attachment; filename=\"100_41.txt\"; filename*=UTF-8''100%2541.txt"),
        ("你好.txt", "attachment; filename=\"__.txt\"; filename*=UTF-8''%E4%BD%A0%E5%A5%BD.txt"),
        ("it's (1)*.txt", 'attachment; filename="it\'s (1)*.txt"'),
    ],
)
def test_a_name_is_written_for_old_clients_and_for_new_ones(name: str, expected: str) -> None:
    assert content_disposition("attachment", name) == expected


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a\r\nSet-Cookie: b=c", "a__Set-Cookie: b=c"),
        ("a\0b", "a_b"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\Windows\\evil.exe", "C:_Windows_evil.exe"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("line\u2028break", "line_break"),
        ("undecodable\udcff", "undecodable_"),
        ("..", "download"),
        ("", "download"),
        ("   ", "download"),
    ],
)
def test_what_could_do_harm_is_replaced(name: str, kept: str) -> None:
    assert content_disposition("inline", name) == f'inline; filename="{kept}"'


def test_a_wide_slash_does_not_become_a_slash_in_the_plain_form() -> None:
    assert 'filename="a_b"' in content_disposition("attachment", "a\uff0fb")


def test_a_long_name_keeps_its_suffix() -> None:
    value = content_disposition("attachment", "x" * 1000 + ".tar.gz")
    name = value.partition('"')[2][:-1]
    assert len(name) == limits.MAX_FILENAME_CHARS
    assert name.endswith("x.gz")
    assert len(content_disposition("attachment", "." + "y" * 1000)) < 300


@pytest.mark.parametrize("kind", ["", "a b", "inline; x", "inline\r\nx: y", 'a"b'])
def test_a_kind_that_is_no_token_is_refused(kind: str) -> None:
    with pytest.raises(InvalidOption, match="content_disposition_type"):
        content_disposition(kind, "a.txt")


HEADER = re.compile(
    r'attachment; filename="[\x20\x21\x23-\x5b\x5d-\x7e]+"'
    r"(?:; filename\*=UTF-8''(?:%[0-9A-F]{2}|[!#$&+\-.^_`|~0-9A-Za-z])+)?"
)
HOSTILE = (
    st.text(st.sampled_from("ab.\r\n\"\\/%;=' \0\u202e\u2028é€\udcff\U0001f600\uff0f")) | st.text()
)


@given(HOSTILE)
@example("\u2215")
@example("\u037e")  # NFKD makes a semicolon of it
def test_no_name_breaks_out_of_the_header(name: str) -> None:
    value = content_disposition("attachment", name)
    assert HEADER.fullmatch(value), value
    assert "/" not in value
    message = Message()
    message["content-disposition"] = value
    parameters = dict(message.get_params(header="content-disposition") or ())
    assert set(parameters) <= {"attachment", "filename"}


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=50))
def test_a_name_of_letters_and_digits_comes_whole(name: str) -> None:
    value = content_disposition("attachment", name)
    _, found, encoded = value.partition("filename*=UTF-8''")
    assert (unquote(encoded) if found else value.partition('"')[2][:-1]) == name
