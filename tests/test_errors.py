from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from tailrace import errors
from tailrace.errors import (
    AccessRefused,
    ArchiveTooLarge,
    BodyStalled,
    ContentTypeMismatch,
    FileChanged,
    FileUnavailable,
    ForkRefused,
    InvalidBody,
    InvalidChunk,
    InvalidEvent,
    InvalidItem,
    InvalidOffset,
    InvalidOption,
    InvalidProducer,
    InvalidRequest,
    OffsetGone,
    OriginRefused,
    Overloaded,
    PathRefused,
    Problem,
    ProducerFenced,
    ProducerGap,
    RunEnded,
    SequenceConflict,
    SourceBusy,
    SourceExited,
    SourceSpent,
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
    StoreVersion,
    StreamClosed,
    StreamDamaged,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    SubscriptionRefused,
    TailraceError,
    TooLarge,
    TransferFailed,
    WrongLength,
    problem_of,
)

EXAMPLES: list[TailraceError] = [
    TailraceError("something"),
    InvalidOption("send_timeout", -1, "seconds, more than 0"),
    InvalidChunk(5, "raw", "str or bytes"),
    InvalidEvent("id", "a\0", "NUL"),
    InvalidItem("prices", [{"msg": "Field required", "loc": ("item", "name")}]),
    SourceBusy(5),
    SourceExited("SystemExit(3)"),
    SourceSpent(iter([])),
    FileChanged("/srv/film.mp4", "was truncated"),
    FileUnavailable("/srv/film.mp4", "does not exist"),
    WrongLength(0, 10, 5),
    TransferFailed("/srv/film.mp4", "it became shorter", 7),
    PathRefused("../secret", "leads out of the directory"),
    ArchiveTooLarge(100_000),
    RunEnded("reports/a", "failed", "stream_failed", "the stream failed before its end"),
    StoreUnavailable("sqlite:///streams.db", "does not answer"),
    StoreCorrupt("sqlite:///streams.db", "is damaged"),
    StoreFull("sqlite:///streams.db", "has no room left on its disk"),
    StoreLocked("sqlite:///streams.db", "is locked by another program"),
    StoreReadOnly("sqlite:///streams.db", "cannot be written"),
    StoreVersion("sqlite:///streams.db", "has version 2, and this Tailrace can read 1"),
    StreamError("something"),
    BodyStalled(30.0),
    AccessRefused(),
    OriginRefused("https://foreign.example"),
    Overloaded(1000),
    ContentTypeMismatch("text/plain", "application/json"),
    ForkRefused("a", "it does not exist", 404),
    InvalidBody("the body is not JSON"),
    InvalidOffset("x"),
    InvalidProducer(2, 5),
    InvalidRequest("Stream-TTL", "+1", "whole seconds"),
    OffsetGone("0000000000000001_0000000000000005", "0000000000000001_0000000000000010"),
    ProducerFenced(3),
    ProducerGap(4, 7),
    SequenceConflict("b", "a"),
    StreamClosed("a", "0000000000000001_0000000000000005"),
    StreamDamaged("no comma follows a message, at byte 5 of an append"),
    StreamExists("a", "has another TTL"),
    StreamNotFound("a"),
    StreamGone("a"),
    SubscriptionRefused("FENCED", 409, "another worker has it"),
    TooLarge(16_777_216),
]

STATUS = {
    PathRefused: 404,
    SourceBusy: 503,
    ArchiveTooLarge: 403,
    StoreFull: 507,
    BodyStalled: 408,
    AccessRefused: 403,
    OriginRefused: 403,
    Overloaded: 503,
    ContentTypeMismatch: 409,
    ForkRefused: 404,  # as the example is made: the status is an argument
    OffsetGone: 410,
    ProducerFenced: 403,
    ProducerGap: 409,
    SequenceConflict: 409,
    StreamClosed: 409,
    StreamDamaged: 500,
    StreamExists: 409,
    StreamNotFound: 404,
    StreamGone: 410,
    SubscriptionRefused: 409,  # as the example is made: the status is an argument
    TooLarge: 413,
}
"""The errors whose status is not the usual one of `usual_status`."""


def usual_status(error: TailraceError) -> int:
    if isinstance(error, StreamError):
        return 400
    return 503 if isinstance(error, StoreUnavailable) else 500


def test_every_error_has_an_example_here() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    raised = {kind for kind in public if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert {type(example) for example in EXAMPLES} == raised


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_of_the_one_tree_and_names_itself(error: TailraceError) -> None:
    assert isinstance(error, TailraceError)
    assert error.status == STATUS.get(type(error), usual_status(error))
    assert error.code == error.code.lower()
    assert error.code.isidentifier()


def test_codes_are_stable_and_tell_the_errors_apart() -> None:
    assert [example.code for example in EXAMPLES] == [
        "error",
        "invalid_option",
        "invalid_chunk",
        "invalid_event",
        "invalid_item",
        "source_busy",
        "source_exited",
        "source_spent",
        "file_changed",
        "file_unavailable",
        "wrong_length",
        "transfer_failed",
        "path_refused",
        "archive_too_large",
        "stream_failed",  # the error of a run has the code of what ended the run
        "store_unavailable",
        "store_corrupt",
        "store_full",
        "store_locked",
        "store_read_only",
        "store_version",
        "stream_error",
        "body_stalled",
        "access_refused",
        "origin_not_allowed",
        "overloaded",
        "content_type_mismatch",
        "fork_refused",
        "invalid_body",
        "invalid_offset",
        "invalid_producer",
        "invalid_request",
        "offset_gone",
        "producer_fenced",
        "producer_gap",
        "sequence_conflict",
        "stream_closed",
        "stream_damaged",
        "stream_exists",
        "stream_not_found",
        "stream_gone",
        "fenced",
        "too_large",
    ]


@pytest.mark.parametrize("kind", [type(example) for example in EXAMPLES])
def test_every_error_is_drawn_in_the_tree(kind: type) -> None:
    assert errors.__doc__
    assert kind.__name__ in errors.__doc__
    assert getattr(errors, kind.__name__) is kind


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InvalidOption, ValueError),
        (InvalidChunk, TypeError),
        (InvalidEvent, ValueError),
        (InvalidItem, ValueError),
        (SourceExited, RuntimeError),
        (SourceSpent, RuntimeError),
        (FileChanged, RuntimeError),
        (FileUnavailable, RuntimeError),
        (WrongLength, RuntimeError),
    ],
)
def test_each_is_also_what_python_would_have_raised(kind: type, builtin: type) -> None:
    assert issubclass(kind, builtin)


def test_an_option_tells_its_name_its_value_and_the_range() -> None:
    error = InvalidOption("send_timeout", -1, "seconds, more than 0")
    assert str(error) == "send_timeout=-1 is not valid: give seconds, more than 0"
    assert (error.name, error.value, error.allowed) == ("send_timeout", -1, "seconds, more than 0")


class Own:
    """A type that is not a built-in one."""


@pytest.mark.parametrize(
    ("item", "name"), [(5, "int"), (None, "NoneType"), (Own(), "tests.test_errors.Own")]
)
def test_a_chunk_tells_its_type_and_the_format_but_never_itself(item: Any, name: str) -> None:
    error = InvalidChunk(item, "raw", "str or bytes")
    assert str(error) == f"a source of a raw response gave {name}: give it str or bytes"
    assert (error.item_type, error.format, error.wanted) == (type(item), "raw", "str or bytes")


def test_an_event_tells_the_field_and_why() -> None:
    error = InvalidEvent("id", "a\0b", "clients ignore an id that holds NUL")
    assert str(error) == "event id='a\\x00b' cannot be sent: clients ignore an id that holds NUL"
    assert (error.field, error.value) == ("id", "a\0b")
    assert error.reason == "clients ignore an id that holds NUL"
    assert error.number is None
    error.count(3)
    assert str(error) == (
        "event id='a\\x00b' of item 3 cannot be sent: clients ignore an id that holds NUL"
    )


def test_an_item_tells_the_endpoint_and_the_first_thing_wrong() -> None:
    wrong = [{"msg": "Field required", "loc": ("item", "name")}, {"msg": "other", "loc": ()}]
    error = InvalidItem("prices", wrong)
    assert str(error) == (
        "prices yielded an item that does not fit its return annotation: "
        "Field required at ('item', 'name')"
    )
    assert (error.endpoint, error.errors) == ("prices", wrong)


def test_an_item_without_details_still_tells_the_endpoint() -> None:
    assert "prices yielded an item" in str(InvalidItem("prices", []))


def test_a_file_tells_its_path_without_making_lines_in_a_log() -> None:
    error = FileUnavailable("/srv/a\nb", "does not exist")
    assert str(error) == "File at path /srv/a\\nb does not exist."
    assert (error.path, error.reason) == ("/srv/a\nb", "does not exist")
    changed = FileChanged("/srv/\x1b[2J", "was truncated")
    assert str(changed) == (
        "File at path /srv/\\x1b[2J was truncated while it was being sent: "
        "to replace a file, write a new one and rename it."
    )
    assert (changed.path, changed.what) == ("/srv/\x1b[2J", "was truncated")


@pytest.mark.parametrize(("given", "than"), [(5, "fewer"), (15, "more")])
def test_a_wrong_length_tells_both_numbers(given: int, than: str) -> None:
    error = WrongLength(20, 30, given)
    assert str(error) == f"read(20, 30) gave {given} bytes, {than} than the 10 asked for"
    assert (error.start, error.stop, error.given) == (20, 30, given)


def test_what_a_client_sent_is_shown_short_and_printable() -> None:
    text = str(InvalidOffset("\x1b[2J\n" + "9" * 10_000))
    assert text.isprintable()
    assert text.isascii()
    assert len(text) < 500


def test_a_stream_tells_where_it_ends_and_a_reader_where_it_begins() -> None:
    closed = StreamClosed("a\nb", "0000000000000001_0000000000000005")
    assert str(closed) == r"the stream 'a\nb' is closed: nothing can be appended"
    assert (closed.path, closed.tail) == ("a\nb", "0000000000000001_0000000000000005")
    gone = OffsetGone("0000000000000001_0000000000000005", "0000000000000001_0000000000000010")
    assert (gone.offset, gone.first) == (
        "0000000000000001_0000000000000005",
        "0000000000000001_0000000000000010",
    )


def test_a_stream_that_is_gone_was_not_found() -> None:
    assert isinstance(StreamGone("a"), StreamNotFound)
    assert str(StreamGone("a")) == "the stream 'a' is gone: it was deleted or has expired"
    assert str(StreamNotFound("a")) == "the stream 'a' does not exist"


def test_a_spent_source_tells_its_type_and_what_to_do() -> None:
    text = str(SourceSpent(number for number in [1]))
    assert "its source, generator, can be read only once" in text
    assert "make a new response for each request" in text


# What the client is told -------------------------------------------------------------------------


def test_a_foreign_error_tells_the_client_nothing_of_itself() -> None:
    problem = problem_of(RuntimeError("postgres://user:secret@db"), expose=False)
    assert problem == Problem("stream_failed", "the stream failed before its end")


def test_an_error_of_ours_keeps_its_code_but_not_its_text() -> None:
    problem = problem_of(InvalidChunk(5, "raw", "str"), expose=False)
    assert problem == Problem("invalid_chunk", "the stream failed before its end")


def test_where_it_is_asked_for_the_client_is_told_type_and_text() -> None:
    assert problem_of(LookupError("no row"), expose=True) == Problem(
        "stream_failed", "LookupError: no row"
    )


def test_a_problem_is_a_value() -> None:
    problem = Problem("code", "message")
    with pytest.raises(AttributeError):
        problem.code = "other"  # type: ignore[misc] # that is what is tested
    assert pickle.loads(pickle.dumps(problem)) == problem
