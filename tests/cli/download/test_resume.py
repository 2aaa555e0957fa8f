"""What is asked for, and what answers mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace import limits
from tailrace.cli.download.answer import Answer
from tailrace.cli.download.resume import (
    Again,
    Question,
    Record,
    Refuse,
    Take,
    Wait,
    ask_first,
    ask_for,
    begun_by,
    continued_by,
    decide,
)
from tailrace.cli.download.span import Span

TAG, OTHER_TAG = '"v1"', '"v2"'
DATE, OTHER_DATE = "Wed, 31 Dec 2025 12:00:00 GMT", "Wed, 31 Dec 2025 13:00:00 GMT"
HALF = Record(validator=TAG, total=100, missing=(Span(50, 100),))
REST = Question(Span(50, None), TAG)


def part(start: int = 50, stop: int = 100, total: int = 100, tag: str | None = TAG) -> Answer:
    return Answer(status=206, part=Span(start, stop), total=total, tag=tag, validator=tag)


# Questions ----------------------------------------------------------------------------------------


def test_a_new_file_is_asked_for_whole() -> None:
    assert ask_first(None, jobs=1, ranges=True) == Question()
    assert Question().headers() == {}


def test_a_new_file_for_several_connections_is_asked_for_by_a_piece() -> None:
    assert ask_first(None, jobs=4, ranges=True) == Question(Span(0, limits.MIN_PIECE_BYTES))


def test_the_rest_is_asked_for_of_the_same_version() -> None:
    question = ask_first(HALF, jobs=1, ranges=True)
    assert question.headers() == {"range": "bytes=50-", "if-range": TAG}


def test_a_gap_is_asked_for_up_to_its_end() -> None:
    gaps = replace(HALF, missing=(Span(10, 20), Span(50, 100)))
    assert ask_first(gaps, jobs=1, ranges=True).span == Span(10, 20)


def test_several_connections_continue_with_a_piece() -> None:
    large = Record(validator=TAG, total=1 << 30, missing=(Span(50, 1 << 30),))
    assert ask_first(large, jobs=4, ranges=True).span == Span(50, 50 + limits.MIN_PIECE_BYTES)


def test_where_all_is_there_the_last_byte_asks_for_the_version() -> None:
    whole = replace(HALF, missing=())
    assert ask_first(whole, jobs=1, ranges=True) == Question(Span(99, None), TAG)


@pytest.mark.parametrize(
    "record",
    [replace(HALF, validator=None), replace(HALF, missing=(Span(0, 100),))],
    ids=["nothing to tell its version by", "nothing there"],
)
def test_what_cannot_be_continued_is_asked_for_whole(record: Record) -> None:
    assert ask_first(record, jobs=1, ranges=True) == Question()


def test_a_server_that_knows_no_ranges_is_asked_for_none() -> None:
    assert ask_first(HALF, jobs=4, ranges=False) == Question()


def test_the_end_of_the_file_is_left_open() -> None:
    assert ask_for(Span(90, 100), HALF).span == Span(90, None)
    assert ask_for(Span(60, 90), HALF).span == Span(60, 90)


# Answers ------------------------------------------------------------------------------------------


def test_a_whole_file_is_taken_from_its_start() -> None:
    step = decide(Question(), None, Answer(status=200, total=100))
    assert step == Take(Span(0, 100), fresh=True)


def test_the_rest_of_the_same_file_is_taken_where_it_belongs() -> None:
    assert decide(REST, HALF, part()) == Take(Span(50, 100), fresh=False)


def test_less_than_was_asked_for_is_taken_too() -> None:
    assert decide(REST, HALF, part(stop=60)) == Take(Span(50, 60), fresh=False)


def test_a_whole_file_in_place_of_the_rest_is_a_new_file() -> None:
    step = decide(REST, HALF, Answer(status=200, total=120, tag=OTHER_TAG))
    assert step == Take(Span(0, 120), fresh=True)


@pytest.mark.parametrize(
    "answer",
    [part(tag=OTHER_TAG), part(tag="W/" + TAG), part(total=101, stop=101)],
    ids=["another tag", "a weak tag", "another length"],
)
def test_the_rest_of_another_file_is_not_taken(answer: Answer) -> None:
    assert isinstance(decide(REST, HALF, answer), Again)


def test_the_rest_without_a_tag_is_taken_on_the_servers_word() -> None:
    assert isinstance(decide(REST, HALF, part(tag=None)), Take)


@pytest.mark.parametrize(
    ("validator", "same"), [(DATE, True), (OTHER_DATE, False), (None, True), (TAG, True)]
)
def test_a_remembered_date_is_compared_with_a_date(validator: str | None, same: bool) -> None:
    record = replace(HALF, validator=DATE)
    answer = replace(part(tag=None), validator=validator)
    step = decide(Question(Span(50, None), DATE), record, answer)
    assert isinstance(step, Take if same else Again)


@pytest.mark.parametrize(
    "answer",
    [part(start=49), part(start=51), part(start=0), Answer(status=206, total=100, tag=TAG)],
    ids=["earlier", "later", "from the start", "no place"],
)
def test_another_place_than_was_asked_for_ends_the_use_of_ranges(answer: Answer) -> None:
    step = decide(REST, HALF, answer)
    assert isinstance(step, Again)
    assert not step.ranges


def test_more_than_was_asked_for_is_not_taken() -> None:
    step = decide(Question(Span(50, 60), TAG), HALF, part(stop=100))
    assert isinstance(step, Again)


def test_a_first_piece_is_taken_only_of_a_file_that_can_be_told_from_others() -> None:
    question = Question(Span(0, 10))
    assert decide(question, None, part(0, 10)) == Take(Span(0, 10), fresh=True)
    for answer in (part(0, 10, tag=None), replace(part(0, 10), total=None)):
        step = decide(question, None, answer)
        assert isinstance(step, Again)
        assert not step.ranges


def test_no_such_part_begins_anew() -> None:
    step = decide(REST, HALF, Answer(status=416))
    assert isinstance(step, Again)
    assert step.ranges


def test_no_such_part_of_a_new_file_is_an_empty_file() -> None:
    step = decide(Question(Span(0, 10)), None, Answer(status=416))
    assert isinstance(step, Again)
    assert not step.ranges


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_waited_for(status: int) -> None:
    step = decide(Question(), None, Answer(status=status, retry_after=3.0))
    assert isinstance(step, Wait)
    assert step.after == 3.0


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 401, 403, 404, 410, 412, 416])
def test_what_will_not_pass_is_final(status: int) -> None:
    step = decide(Question(), None, Answer(status=status))
    assert isinstance(step, Refuse)
    assert str(status) in step.reason


# Records ------------------------------------------------------------------------------------------


def test_a_record_begins_with_everything_missing() -> None:
    record = begun_by(Answer(status=200, total=100, validator=TAG))
    assert record == Record(validator=TAG, total=100, missing=(Span(0, 100),))
    assert record.have == 0


def test_an_empty_file_misses_nothing() -> None:
    assert begun_by(Answer(status=200, total=0)).missing == ()


def test_an_end_that_becomes_known_is_noted() -> None:
    record = Record(validator=TAG, total=None, missing=(Span(50, None),))
    known = continued_by(record, part())
    assert (known.total, known.missing, known.have) == (100, (Span(50, 100),), 50)


def test_what_is_there_is_counted_without_the_gaps() -> None:
    assert replace(HALF, missing=(Span(10, 20), Span(50, 100))).have == 40
    assert Record(validator=None, total=None, missing=(Span(7, None),)).have == 7
