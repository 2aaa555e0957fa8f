"""What HTTP's headers mean. Pure: text in, a decision out."""

from __future__ import annotations

from tailrace.semantics.accept import choose_encoding, choose_media_type
from tailrace.semantics.conditional import (
    Answer,
    Outcome,
    Validators,
    answer,
    is_entity_tag,
    tag_as_named,
)
from tailrace.semantics.dates import format_date, parse_date
from tailrace.semantics.disposition import content_disposition
from tailrace.semantics.headers import (
    DIGESTS,
    LIVE_HEADERS,
    SANDBOX_HEADERS,
    ResponseFields,
)
from tailrace.semantics.media_types import MediaTypes, charset_of, is_utf8
from tailrace.semantics.problem import PROBLEM, detail_of, problem_document
from tailrace.semantics.ranges import (
    ByteRange,
    ByteRanges,
    coalesce,
    content_range,
    parse_ranges,
    unsatisfied,
)
from tailrace.semantics.request import foreign_origin, mounted

__all__ = [
    "DIGESTS",
    "LIVE_HEADERS",
    "PROBLEM",
    "SANDBOX_HEADERS",
    "Answer",
    "ByteRange",
    "ByteRanges",
    "MediaTypes",
    "Outcome",
    "ResponseFields",
    "Validators",
    "answer",
    "charset_of",
    "choose_encoding",
    "choose_media_type",
    "coalesce",
    "content_disposition",
    "content_range",
    "detail_of",
    "foreign_origin",
    "format_date",
    "is_entity_tag",
    "is_utf8",
    "mounted",
    "parse_date",
    "parse_ranges",
    "problem_document",
    "tag_as_named",
    "unsatisfied",
]
