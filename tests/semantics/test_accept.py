from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.limits import MAX_ACCEPT_BYTES
from tailrace.semantics import choose_encoding, choose_media_type

SSE = "text/event-stream"
LINES = "application/jsonl"
ARRAY = "application/json"
CSV = "text/csv"
FORMATS = [SSE, LINES, ARRAY, CSV]
CODINGS = ["zstd", "br", "gzip"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        # no preference
        (None, SSE),
        ("", SSE),
        ("  ,, ", SSE),
        ("*/*", SSE),
        # one of them
        ("application/json", ARRAY),
        ("TEXT/CSV", CSV),
        ("text/csv, application/json", ARRAY),  # a tie: the server's order
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", SSE),  # a browser
        # weights
        ("text/csv;q=0.9, application/json;q=0.8", CSV),
        ("text/csv; q=0.5 , application/json ; q=0.8", ARRAY),
        ("text/*;q=0.2, application/json;q=0.1", SSE),
        ("application/*, text/*;q=0.9", LINES),
        ("text/csv;q=0.001, */*;q=0", CSV),
        # the most specific range counts, whatever its weight
        ("*/*, text/event-stream;q=0.1, application/jsonl;q=0.2", ARRAY),
        ("text/*;q=1, text/event-stream;q=0", CSV),
        ("*/*;q=0.1, text/csv;q=0", SSE),
        # refused
        ("image/png", None),
        ("application/json;q=0", None),
        ("*/*;q=0", None),
        ("text/csv;q=0, */*;q=0.0", None),
        # what cannot be read is skipped
        ("text/csv;q=2, application/json;q=0.1", ARRAY),
        ("text/csv;q=, application/json;q=0.1", ARRAY),
        ("text/csv;q=-1, application/json;q=0.1", ARRAY),
        ("text/csv;q=abc, application/json;q=0.1", ARRAY),
        ("text, /, text/, /csv, */csv, text/c sv, application/json", ARRAY),
        ("text/csv;=1, application/json", ARRAY),
        ('text/csv;a="unclosed, application/json', SSE),  # nothing was readable
        ("garbage", SSE),
        # parameters and quoting
        ("text/csv;header=present", None),
        ("text/csv;charset=utf-8", CSV),
        ('text/html;a="x, text/csv;q=1", application/json;q=0.5', ARRAY),
        ('text/html;a="\\", text/csv, \\"", application/json;q=0.5', ARRAY),
        ("text/csv;;q=0.5;", CSV),
        ("text/csv;q=0.5;extension=1", CSV),
        # old Java
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", SSE),
        ("text/csv;q=.3, */*;q=.2", CSV),
    ],
)
def test_the_media_type_that_the_client_likes_best(accept: str | None, chosen: str | None) -> None:
    assert choose_media_type(accept, FORMATS) == chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        # RFC 9110 section 12.5.1, its table of weights
        ("text/html;level=1", "text/html;level=1"),
        ("text/*;q=0.3, text/html;q=0.7, text/html;level=1, */*;q=0.5", "text/html;level=1"),
        ("text/*;q=0.3, text/html;q=0.7, text/html;level=1;q=0.1, */*;q=0.5", "text/html;level=3"),
        ("text/plain, text/html;q=0.7", "text/plain"),
        ('text/html;level="3", */*;q=0.1', "text/html;level=3"),
        ("text/html;LEVEL=3, */*;q=0.1", "text/html;level=3"),
    ],
)
def test_parameters_make_a_range_more_specific(accept: str, chosen: str) -> None:
    offered = ["text/html;level=1", "text/html;level=3", "text/plain", "image/jpeg"]
    assert choose_media_type(accept, offered) == chosen


def test_an_offer_comes_back_as_it_was_spelt() -> None:
    offered = ["Text/CSV; Charset=UTF-8"]
    assert choose_media_type("text/csv;charset=utf-8", offered) == offered[0]
    assert choose_media_type("text/csv;charset=latin1", offered) is None


def test_with_nothing_on_offer_nothing_is_chosen() -> None:
    assert choose_media_type(None, []) is None
    assert choose_media_type("*/*", []) is None
    assert choose_encoding("gzip", []) is None


@pytest.mark.parametrize(
    ("accept_encoding", "chosen"),
    [
        # identity
        (None, None),
        ("", None),
        ("identity", None),
        ("deflate", None),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("identity;q=0", None),
        ("identity;q=0, deflate", None),
        # the server's order among equals
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("*", "zstd"),
        # weights
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("zstd;q=0.1, br;q=0.9, gzip;q=0.8", "br"),
        ("zstd;q=0, *", "br"),
        ("*;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=0.5, *;q=0.6", "zstd"),
        # identity with a weight of its own
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity;q=0.5, *;q=0", None),
        ("identity;q=0, *;q=0.1", "zstd"),
        # what cannot be read is skipped
        ("gzip;q=x, br", "br"),
        ("g zip, ;q=1, br;q=0.2", "br"),
        ("zstd;q=1.001, gzip", "gzip"),
    ],
)
def test_the_coding_that_the_client_likes_best(
    accept_encoding: str | None, chosen: str | None
) -> None:
    assert choose_encoding(accept_encoding, CODINGS) == chosen


def test_what_is_beyond_the_limit_is_not_looked_at() -> None:
    filler = "a/b," * (MAX_ACCEPT_BYTES // 4)
    assert choose_media_type(filler + "text/csv", FORMATS) is None
    assert choose_encoding("a,bc" + filler + ",gzip", CODINGS) is None


def test_a_member_that_the_limit_cuts_is_dropped() -> None:
    filler = "a/b," * (MAX_ACCEPT_BYTES // 4 - 2)
    header = filler + "text/csv;q=0"  # cut behind "text/csv", it would say the opposite
    assert choose_media_type(header, FORMATS) is None
    assert choose_media_type(filler[4:] + "text/csv", FORMATS) == CSV


header_like = st.text(st.sampled_from('abq*/;,=."\\ \t01-x')) | st.text()


@given(header_like)
def test_no_text_makes_it_raise(header: str) -> None:
    assert choose_media_type(header, FORMATS) in [*FORMATS, None]
    assert choose_encoding(header, CODINGS) in [*CODINGS, None]


@given(header_like)
def test_an_offer_that_cannot_be_read_is_never_chosen_over_one_that_can(offer: str) -> None:
    assert choose_media_type("text/csv", [offer, CSV]) is not None


@given(st.lists(st.sampled_from(FORMATS), min_size=1, unique=True), st.data())
def test_the_highest_weight_wins(ranges: list[str], data: st.DataObject) -> None:
    weights = {kind: data.draw(st.integers(0, 1000)) for kind in ranges}
    header = ", ".join(f"{kind};q={weight / 1000:.3f}" for kind, weight in weights.items())
    chosen = choose_media_type(header, FORMATS)
    highest = max(weights.values())
    first = next(kind for kind in FORMATS if weights.get(kind) == highest)
    assert chosen == (first if highest else None)
