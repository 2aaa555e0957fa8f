from __future__ import annotations

from tailrace.errors import RunEnded, StoreUnavailable, StreamNotFound
from tailrace.semantics import detail_of, problem_document


def test_a_problem_has_the_standard_members_and_its_own() -> None:
    assert problem_document(409, "stream_closed", "it is closed", tail="7") == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "code": "stream_closed",
        "detail": "it is closed",
        "tail": "7",
    }


def test_a_client_reads_the_message_of_an_error_that_is_about_its_request() -> None:
    error = StreamNotFound("a/b")
    assert detail_of(error) == str(error)


def test_a_client_does_not_read_the_message_of_a_store() -> None:
    assert "/var/lib" not in detail_of(StoreUnavailable("/var/lib/streams.db", "is locked"))


def test_a_client_reads_how_a_run_ended() -> None:
    assert "failed" in detail_of(RunEnded("reports/a", "failed", "boom", "it failed"))
