"""Heads of answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.download.answer import Answer, read_answer
from tailrace.cli.download.span import Span

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = "Wed, 31 Dec 2025 12:00:00 GMT"
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


def answer(status: int = 200, **headers: str) -> Answer:
    return read_answer(status, {k.replace("_", "-"): v for k, v in headers.items()}, NOW)


def test_the_length_of_a_whole_file_is_its_content_length() -> None:
    assert answer(content_length="42").total == 42


def test_the_length_of_a_part_is_not_the_files() -> None:
    told = answer(206, content_length="10", content_range="bytes 5-14/100")
    assert (told.part, told.total, told.length) == (Span(5, 15), 100, 10)


@pytest.mark.parametrize(
    ("value", "part", "total"),
    [
        ("bytes 0-0/1", Span(0, 1), 1),
        ("bytes 0-9/*", Span(0, 10), None),
        ("bytes */100", None, 100),
        ("bytes 9-0/100", None, None),
        ("bytes 0-100/100", None, None),
        ("bytes 0-/100", None, None),
        ("items 0-9/100", None, None),
        ("", None, None),
        ("bytes " + "9" * 400 + "-1/2", None, None),
    ],
)
def test_content_range(value: str, part: Span | None, total: int | None) -> None:
    told = answer(206, content_range=value)
    assert (told.part, told.total) == (part, total)


@pytest.mark.parametrize("value", ["-1", "1e3", "", "12, 12", "9" * 400, "٣"])
def test_a_length_that_is_none_counts_as_not_sent(value: str) -> None:
    assert answer(content_length=value).total is None


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"v1"'}, '"v1"'),
        ({"etag": '""'}, '""'),
        ({"etag": 'W/"v1"'}, None),
        ({"etag": "v1"}, None),
        ({"etag": '"a"b"'}, None),
        ({"last_modified": OLD, "date": DATE}, OLD),
        ({"last_modified": OLD}, None),
        ({"last_modified": DATE, "date": DATE}, None),
        ({"last_modified": "yesterday", "date": DATE}, None),
        ({"etag": '"v1"', "last_modified": OLD, "date": DATE}, '"v1"'),
        ({"etag": 'W/"v1"', "last_modified": OLD, "date": DATE}, None),
        ({}, None),
    ],
)
def test_only_what_is_strong_is_a_validator(headers: dict[str, str], validator: str | None) -> None:
    assert answer(**headers).validator == validator


def test_retry_after_in_seconds() -> None:
    assert answer(429, retry_after="120").retry_after == 120.0


def test_retry_after_as_a_date() -> None:
    later = format_datetime(NOW + timedelta(seconds=90), usegmt=True)
    assert answer(503, retry_after=later).retry_after == 90.0
    assert answer(503, retry_after=OLD).retry_after == 0.0


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "", "9" * 400])
def test_a_retry_after_that_cannot_be_read_is_none(value: str) -> None:
    assert answer(503, retry_after=value).retry_after is None


NAMES = ["content-length", "content-range", "date", "etag", "last-modified", "retry-after"]


@given(st.dictionaries(st.sampled_from(NAMES), st.text()))
def test_no_head_raises(headers: dict[str, str]) -> None:
    read_answer(206, headers, NOW)
