"""Whether a client's conditions hold: the If-* headers, in the order that RFC 9110 gives them.

A condition that cannot be read is treated as the RFC says, or so that it does no harm: a date that
is not valid is ignored, and a tag that is not valid matches nothing.

Source: RFC 9110 sections 8.8 and 13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from tailrace.limits import MAX_CONDITION_BYTES, MAX_RANGES
from tailrace.semantics.dates import parse_date
from tailrace.semantics.ranges import ByteRange, parse_ranges

__all__ = ["Answer", "Outcome", "Validators", "answer", "is_entity_tag", "tag_as_named"]

_TAG = re.compile(r'(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\xff]*")')
_BLANK = " \t"
_STRONG_AFTER = 1.0
"""Seconds after which a modification date is a strong validator: from then on no change can come
within the second that it names (section 8.8.2.2)."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a representation from another.

    Args:
        etag: With its quotes, and `W/` if it is weak; None if there is no tag.
        last_modified: Seconds since the epoch; None if it is not known.
    """

    etag: str | None
    last_modified: float | None

    @property
    def date(self) -> int | None:
        """The modification date in HTTP's whole seconds."""
        return None if self.last_modified is None else int(self.last_modified)


class Outcome(Enum):
    """The result of a request's conditions; the value is the status of the answer."""

    WHOLE = 200
    PARTIAL = 206
    NOT_MODIFIED = 304
    FAILED = 412
    UNSATISFIABLE = 416


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent: all of a representation, parts of it, or nothing.

    Args:
        outcome: Which of these.
        ranges: The parts, if parts are sent.
    """

    outcome: Outcome
    ranges: tuple[ByteRange, ...] = ()


def answer(
    method: str,
    headers: Mapping[str, str],
    validators: Validators,
    size: int,
    *,
    now: float,
    max_ranges: int = MAX_RANGES,
) -> Answer:
    """What is sent to a GET or HEAD request, by its conditions and its Range.

    Args:
        method: In capitals. Other methods than GET and HEAD have been carried out by now, so their
            conditions come too late and are ignored. HEAD has no ranges (section 14.2).
        headers: By lower-case name; several lines of one are joined with commas.
        validators: Of the representation as it is now.
        size: Bytes of the representation.
        now: Seconds since the epoch.
        max_ranges: A Range with more is ignored.

    Source: RFC 9110 section 13.2.2.
    """
    if method not in ("GET", "HEAD"):
        return Answer(Outcome.WHOLE)
    failed = _precondition(headers, validators, now)
    if failed is not None:
        return Answer(failed)
    if method == "HEAD" or not _range_holds(headers.get("if-range"), validators, now):
        return Answer(Outcome.WHOLE)
    ranges = parse_ranges(headers.get("range"), size, max_ranges=max_ranges)
    if ranges is None:
        return Answer(Outcome.WHOLE)
    return Answer(Outcome.PARTIAL if ranges else Outcome.UNSATISFIABLE, ranges)


def is_entity_tag(text: str) -> bool:
    """Whether a text is a valid ETag: in quotes, with `W/` or without."""
    return _TAG.fullmatch(text) is not None


def tag_as_named(etag: str, none_match: str | None) -> str:
    """The tag for a 304, as the client has it: weak, if the client names it only as weak.

    Such a client got the same bytes with a content coding. A 304 with the strong tag would not
    match what it has stored.

    Args:
        etag: Of the representation as it is now.
        none_match: The request's `If-None-Match`, which has this tag.

    Source: RFC 9111 section 4.3.4.
    """
    named = [tag["weak"] for tag in _tags(none_match or "") if tag["opaque"] == etag]
    return f"W/{etag}" if named and None not in named else etag


def _precondition(headers: Mapping[str, str], validators: Validators, now: float) -> Outcome | None:
    """The outcome of the first condition that does not hold; None if all hold."""
    if (match := headers.get("if-match")) is not None:
        if not _matches(match, validators.etag, weakly=False):
            return Outcome.FAILED
    elif _is_later(validators.date, headers.get("if-unmodified-since"), now) is True:
        return Outcome.FAILED
    if (none_match := headers.get("if-none-match")) is not None:
        if _matches(none_match, validators.etag, weakly=True):
            return Outcome.NOT_MODIFIED
    elif _is_later(validators.date, headers.get("if-modified-since"), now) is False:
        return Outcome.NOT_MODIFIED
    return None


def _range_holds(if_range: str | None, validators: Validators, now: float) -> bool:
    """Whether parts may be sent: only if what the client has is certainly of this version.

    Source: RFC 9110 section 13.1.5.
    """
    if if_range is None:
        return True
    if_range = if_range.strip(_BLANK)
    if is_entity_tag(if_range):
        return if_range == validators.etag and not if_range.startswith("W/")
    date = validators.date
    # Exactly the date that was sent, not a later one: a clock may have been set back.
    if date is None or parse_date(if_range, now=now) != date:
        return False
    return now - date >= _STRONG_AFTER


def _matches(condition: str, etag: str | None, *, weakly: bool) -> bool:
    if condition.strip(_BLANK) == "*":
        return True
    if etag is None or (not weakly and etag.startswith("W/")):
        return False
    opaque = etag.removeprefix("W/")
    return any(
        tag["opaque"] == opaque and (weakly or tag["weak"] is None) for tag in _tags(condition)
    )


def _tags(condition: str) -> Iterator[re.Match[str]]:
    """The tags of a list, up to the first thing that is not a tag."""
    at, end = 0, min(len(condition), MAX_CONDITION_BYTES)
    while at < end:
        if condition[at] in ", \t":
            at += 1
        elif (tag := _TAG.match(condition, at, end)) is not None:
            yield tag
            at = tag.end()
        else:
            return


def _is_later(date: int | None, condition: str | None, now: float) -> bool | None:
    """Whether the representation changed after a date; None if either date is not known."""
    if date is None or condition is None:
        return None
    since = parse_date(condition, now=now)
    return None if since is None else date > since
