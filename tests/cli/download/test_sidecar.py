"""What is remembered beside a partial file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.download.digest import read_digest
from tailrace.cli.download.resume import Record
from tailrace.cli.download.sidecar import parse_record, write_record
from tailrace.cli.download.span import Span
from tests.cli.download.test_digest import SHA256

URL = "https://user:secret@host/film.mp4?token=secret"
RECORD = Record(
    validator='"v1"',
    total=100,
    missing=(Span(10, 20), Span(50, 100)),
    digest=read_digest(SHA256),
)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        Record(validator="Wed, 31 Dec 2025 12:00:00 GMT", total=None, missing=(Span(5, None),)),
        Record(validator=None, total=100, missing=()),
    ],
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert parse_record(write_record(record, URL), URL, size=100) == record


def test_no_secret_of_the_url_is_written() -> None:
    assert "secret" not in write_record(RECORD, URL)


def test_a_record_of_another_url_is_none() -> None:
    assert parse_record(write_record(RECORD, URL), URL + "2", size=100) is None


def test_the_part_of_a_url_that_stays_here_makes_no_difference() -> None:
    assert parse_record(write_record(RECORD, URL), URL + "#chapter-2", size=100) == RECORD


def test_a_file_that_is_shorter_than_its_record_is_not_continued() -> None:
    text = write_record(RECORD, URL)
    assert parse_record(text, URL, size=50) == RECORD
    assert parse_record(text, URL, size=49) is None


@pytest.mark.parametrize(
    "change",
    [
        {"tailrace_get": 2},
        {"total": -1},
        {"total": "100"},
        {"total": True},
        {"total": 99},
        {"total": None},
        {"validator": 1},
        {"validator": '"v1"\r\nx: y'},
        {"missing": None},
        {"missing": [[50, 20]]},
        {"missing": [[-5, 20]]},
        {"missing": [[50, 100], [10, 20]]},
        {"missing": [[10, 60], [50, 100]]},
        {"missing": [[10, 20, 30]]},
        {"missing": [[10, None]]},
        {"missing": [[None, 20]]},
        {"missing": [10]},
        {"missing": [[20, 20]]},
        {"repr_digest": 5},
    ],
)
def test_what_we_would_not_write_is_none(change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(write_record(RECORD, URL)), **change})
    assert parse_record(text, URL, size=100) is None


@given(st.text() | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_any_text_is_a_record_or_none(text: str) -> None:
    assert parse_record(text, URL, size=100) is None


def test_a_deep_nest_is_none() -> None:
    assert parse_record("[" * 60_000, URL, size=100) is None
