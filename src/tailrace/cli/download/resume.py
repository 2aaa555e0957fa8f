"""What to ask for, and what an answer means for the bytes that are there already. Pure.

A part of a file may only be continued with bytes of the same version of it. So a question for the
rest carries If-Range with the validator of what is there: the server then sends the rest (206), or,
where the file has changed, the new file whole (200). Servers that get this wrong are caught by the
answer's own words: another entity tag, another length, another place.

Source: RFC 9110 sections 13.1.5, 14.2, 15.3.7, 15.5.17.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus

from tailrace import limits
from tailrace.cli.download.answer import Answer
from tailrace.cli.download.digest import Digest
from tailrace.cli.download.span import Span, bytes_in

__all__ = [
    "Again",
    "Question",
    "Record",
    "Refuse",
    "Step",
    "Take",
    "Wait",
    "ask_first",
    "ask_for",
    "begun_by",
    "continued_by",
    "decide",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a file of which a part is there.

    Args:
        validator: What If-Range says; None: the part cannot be continued.
        total: Bytes of the whole file; None where the server did not say.
        missing: What is not there yet, in order.
        digest: Of the whole file, if the server sent one.
    """

    validator: str | None
    total: int | None
    missing: tuple[Span, ...]
    digest: Digest | None = None

    @property
    def have(self) -> int:
        """Bytes that are there."""
        missing = bytes_in(self.missing)
        if missing is None or self.total is None:
            # Only one connection can be at work on a file without a known end.
            return self.missing[0].start if self.missing else 0
        return self.total - missing

    @property
    def can_continue(self) -> bool:
        return self.validator is not None and self.have > 0

    @property
    def can_split(self) -> bool:
        return self.validator is not None and self.total is not None


@dataclass(frozen=True, slots=True)
class Question:
    """One request: a span, or the whole file, and the version that the span must be of."""

    span: Span | None = None
    validator: str | None = None

    def headers(self) -> dict[str, str]:
        asked = {} if self.span is None else {"range": self.span.range_header()}
        return asked if self.validator is None else {**asked, "if-range": self.validator}


@dataclass(frozen=True, slots=True)
class Take:
    """Write what follows at `span.start`; `fresh`: it is a new file, what is there is void."""

    span: Span
    fresh: bool


@dataclass(frozen=True, slots=True)
class Again:
    """Ask again from the start; `ranges`: whether ranges may still be asked for."""

    reason: str
    ranges: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """The server cannot answer now; `after` is its Retry-After."""

    reason: str
    after: float | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """The server will not give the file."""

    reason: str


Step = Take | Again | Wait | Refuse

_PASSING = {408, 425, 429}
"""Of the 4xx those that may be gone the next time; of the 5xx all may."""


def ask_first(record: Record | None, *, jobs: int, ranges: bool) -> Question:
    """The question that begins an attempt.

    With one connection it asks for all that is missing up to the next gap. With more it asks for
    one piece: the answer tells whether the server can serve parts at all.
    """
    if not ranges:
        return Question()
    if record is None or not record.can_continue:
        return Question() if jobs == 1 else Question(Span(0, limits.MIN_PIECE_BYTES))
    if not record.missing:
        # All is there, but was it checked? The last byte comes again, to ask for the version.
        assert record.total
        return ask_for(Span(record.total - 1, record.total), record)
    first = record.missing[0]
    if jobs > 1 and first.stop is not None:
        first = Span(first.start, min(first.stop, first.start + limits.MIN_PIECE_BYTES))
    return ask_for(first, record)


def ask_for(span: Span, record: Record) -> Question:
    """The question for a part of the file that the record is of."""
    # An end that is the file's own is left open: it is what every server understands.
    open_end = span.stop is not None and span.stop == record.total and span.start > 0
    return Question(Span(span.start, None) if open_end else span, record.validator)


def decide(question: Question, record: Record | None, answer: Answer) -> Step:
    """What to do with an answer.

    Args:
        question: What was asked.
        record: What is there; only looked at where the question has a validator.
        answer: The head of the answer.
    """
    if answer.status == 206 and question.span is not None:
        return _decide_part(question.span, record if question.validator else None, answer)
    if answer.status == 200:
        return Take(Span(0, answer.total), fresh=True)
    if answer.status == 416 and question.span is not None:
        return Again(
            "the server has no such part of the file", ranges=question.validator is not None
        )
    reason = f"the server answered {answer.status}{_phrase(answer.status)}"
    if answer.status in _PASSING or answer.status >= 500:
        return Wait(reason, answer.retry_after)
    return Refuse(reason)


def _decide_part(asked: Span, record: Record | None, answer: Answer) -> Step:
    part = answer.part
    if part is None or part.start != asked.start or _goes_beyond(part, asked):
        return Again("the server answered another part than was asked for", ranges=False)
    if record is None:
        if answer.validator is None or answer.total is None:
            return Again("the server's parts cannot be told from those of another file", False)
        return Take(part, fresh=True)
    if _has_changed(record, answer):
        return Again("the file has changed on the server", ranges=True)
    return Take(part, fresh=False)


def _goes_beyond(part: Span, asked: Span) -> bool:
    return asked.stop is not None and part.stop is not None and part.stop > asked.stop


def _has_changed(record: Record, answer: Answer) -> bool:
    mine = record.validator or ""
    theirs = answer.tag if mine.startswith('"') else answer.validator
    # A tag cannot be compared with a date; then the server's own comparison has to do.
    if theirs is not None and mine.startswith('"') == theirs.endswith('"') and theirs != mine:
        return True
    totals = (record.total, answer.total)
    return None not in totals and totals[0] != totals[1]


def begun_by(answer: Answer) -> Record:
    """The record of a file of which nothing is there, from the answer that begins it."""
    digest = answer.whole_digest
    if digest is None and answer.status == 200:
        digest = answer.content_digest  # of the same bytes: RFC 9530 section 2
    missing = () if answer.total == 0 else (Span(0, answer.total),)
    return Record(validator=answer.validator, total=answer.total, missing=missing, digest=digest)


def continued_by(record: Record, answer: Answer) -> Record:
    """The record with what a further answer adds: an end that was not known, a checksum."""
    digest = record.digest or answer.whole_digest
    if record.total is not None or answer.total is None:
        return replace(record, digest=digest)
    missing = tuple(Span(span.start, answer.total) for span in record.missing)
    return replace(record, total=answer.total, missing=missing, digest=digest)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
