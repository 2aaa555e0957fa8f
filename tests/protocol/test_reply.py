from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from tailrace import errors, limits
from tailrace.errors import (
    AccessRefused,
    BodyStalled,
    ContentTypeMismatch,
    ForkRefused,
    InvalidBody,
    InvalidOffset,
    InvalidProducer,
    InvalidRequest,
    OffsetGone,
    OriginRefused,
    Overloaded,
    ProducerFenced,
    ProducerGap,
    SequenceConflict,
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
)
from tailrace.protocol.options import ProtocolOptions
from tailrace.protocol.reply import METHODS, Replies, Reply, etag_of, replies_by_origin
from tailrace.store import (
    START,
    Appended,
    Chunk,
    Created,
    Mark,
    Offset,
    Producer,
    Retention,
    Slice,
    StreamInfo,
    Where,
)

TAIL = Offset(7_000_000, 5)
REPLIES = Replies(ProtocolOptions(), "*")


def info(**changes: Any) -> StreamInfo:
    values: dict[str, Any] = {
        "path": "s",
        "content_type": "text/plain",
        "first": START,
        "tail": TAIL,
        "closed": False,
        "ttl": None,
        "expires_at": None,
        "retention": Retention(),
        "forked_from": None,
        "created_at": 7_000,
        "generation": 7_000_000,
    }
    return StreamInfo(**{**values, **changes})


WHOLE = Slice(info(), START, (Chunk(b"hello", TAIL),))
NOTHING = Slice(info(), TAIL, ())
CLOSED = Slice(info(closed=True), START, (Chunk(b"hello", TAIL),))
END = Slice(info(closed=True), TAIL, ())
PART = Slice(info(), START, (Chunk(b"he", Offset(7_000_000, 2)),))
MORE = Slice(info(), Offset(7_000_000, 2), (Chunk(b"llo", TAIL),))
JSON = Slice(info(content_type="application/json"), START, (Chunk(b"1,22,", TAIL),))


def fields(reply: Reply) -> dict[str, str]:
    names = [name for name, _ in reply.headers]
    assert len(names) == len(set(names))
    return {name.decode(): value.decode() for name, value in reply.headers}


ALL = {
    "append": REPLIES.appended(Appended(TAIL)),
    "close": REPLIES.closed(Appended(TAIL, closed=True)),
    "create": REPLIES.created(Created(info(), True), b"/s"),
    "delete": REPLIES.deleted(),
    "head": REPLIES.head(info()),
    "read": REPLIES.read(WHOLE),
    "not modified": REPLIES.read(WHOLE, condition="*"),
    "tail": REPLIES.tail(NOTHING),
    "waited": REPLIES.waited(NOTHING, 5),
    "finished": REPLIES.finished(END),
    "problem": REPLIES.problem(StreamNotFound("s")),
    "not allowed": REPLIES.not_allowed("PATCH"),
    "options": REPLIES.options(),
}


@pytest.mark.parametrize("name", ALL)
def test_every_answer_is_safe_in_a_browser_and_sets_no_cookie(name: str) -> None:
    got = fields(ALL[name])
    assert got["x-content-type-options"] == "nosniff"
    assert got["content-security-policy"] == "sandbox"
    assert got["cross-origin-resource-policy"] == "cross-origin"
    assert got["access-control-allow-origin"] == "*"
    assert got["access-control-expose-headers"] == "*"
    assert not {"set-cookie", "vary"} & got.keys()


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"read", "not modified", "options"}))
def test_what_is_true_only_now_is_not_stored(name: str) -> None:
    assert fields(ALL[name])["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ALL)
def test_the_length_is_told_where_there_is_a_body(name: str) -> None:
    reply = ALL[name]
    length = fields(reply).get("content-length")
    if reply.status in (204, 304):
        assert length is None
        assert not reply.body
    elif name != "head":
        assert length == str(len(reply.body))


def test_each_answer_has_a_list_of_headers_of_its_own() -> None:
    one, other = REPLIES.deleted(), REPLIES.deleted()
    one.headers.append((b"x", b"y"))
    assert (b"x", b"y") not in other.headers
    assert (b"x", b"y") not in REPLIES.deleted().headers


# Writing -----------------------------------------------------------------------------------------


def test_an_append() -> None:
    reply = REPLIES.appended(Appended(TAIL))
    assert reply.status == 204
    assert fields(reply)["stream-next-offset"] == str(TAIL)
    assert "stream-closed" not in fields(reply)


def test_a_producers_append_is_200_and_a_second_time_204() -> None:
    for duplicate, status in ((False, 200), (True, 204)):
        reply = REPLIES.appended(Appended(TAIL, True, duplicate, Producer("p", 3, 4)))
        assert reply.status == status
        got = fields(reply)
        assert (got["producer-epoch"], got["producer-seq"]) == ("3", "4")
        assert got["stream-closed"] == "true"


@pytest.mark.parametrize("producer", [None, Producer("p", 3, 4)])
def test_closing_alone_is_204(producer: Producer | None) -> None:
    reply = REPLIES.closed(Appended(TAIL, True, False, producer))
    assert reply.status == 204
    got = fields(reply)
    assert got["stream-closed"] == "true"
    assert "content-length" not in got
    assert ("producer-seq" in got) == (producer is not None)


def test_a_creation() -> None:
    reply = REPLIES.created(Created(info(closed=True), True), b"http://h/s")
    assert reply.status == 201
    got = fields(reply)
    assert got["location"] == "http://h/s"
    assert got["content-type"] == "text/plain"
    assert got["stream-next-offset"] == str(TAIL)
    assert got["stream-closed"] == "true"


def test_a_creation_of_what_is_there() -> None:
    reply = REPLIES.created(Created(info(), False), b"http://h/s")
    assert reply.status == 200
    assert "location" not in fields(reply)


# Reading -----------------------------------------------------------------------------------------


def test_what_is_known_of_a_stream() -> None:
    first = Offset(7_000_000, 2)
    keep = Retention(max_bytes=1, max_records=2, max_age=3)
    reply = REPLIES.head(info(ttl=60, first=first, retention=keep, closed=True))
    assert reply.status == 200
    got = fields(reply)
    assert got["stream-ttl"] == "60"
    assert got["stream-first-offset"] == str(first)
    assert got["stream-retain-bytes"] == "1"
    assert got["stream-retain-records"] == "2"
    assert got["stream-retain-age"] == "3"
    assert got["stream-closed"] == "true"


def test_a_forks_source_is_not_told() -> None:
    got = fields(REPLIES.head(info(forked_from="secret")))
    assert "secret" not in str(got)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (1795356000123, "2026-11-22T14:00:00.123Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (253402300799999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_the_time_of_expiry_is_told_as_it_is_given(milliseconds: int, text: str) -> None:
    assert fields(REPLIES.head(info(expires_at=milliseconds)))["stream-expires-at"] == text


def test_a_read_of_everything() -> None:
    reply = REPLIES.read(WHOLE)
    assert (reply.status, reply.body) == (200, b"hello")
    got = fields(reply)
    assert got["content-type"] == "text/plain"
    assert got["stream-up-to-date"] == "true"
    assert got["cache-control"] == "private, no-cache"
    assert got["etag"] == etag_of(WHOLE)
    assert not {"stream-closed", "stream-cursor", "stream-first-offset"} & got.keys()


def test_nothing_in_a_stream_runs_as_a_page() -> None:
    assert fields(REPLIES.read(WHOLE))["content-security-policy"] == "sandbox"


def test_a_read_of_a_part_says_neither_up_to_date_nor_closed() -> None:
    got = fields(REPLIES.read(Slice(info(closed=True), START, PART.chunks)))
    assert got["stream-next-offset"] == str(PART.end)
    assert not {"stream-up-to-date", "stream-closed"} & got.keys()


def test_a_read_to_the_end_of_a_closed_stream_says_both() -> None:
    got = fields(REPLIES.read(CLOSED))
    assert got["stream-up-to-date"] == got["stream-closed"] == "true"


def test_json_is_an_array() -> None:
    assert REPLIES.read(JSON).body == b"[1,22]"
    assert REPLIES.tail(Slice(JSON.info, TAIL, ())).body == b"[]"


def test_a_live_answer_has_a_cursor_unless_the_stream_is_closed() -> None:
    assert fields(REPLIES.read(WHOLE, cursor=5))["stream-cursor"] == "5"
    assert fields(REPLIES.waited(NOTHING, 5))["stream-cursor"] == "5"
    assert "stream-cursor" not in fields(REPLIES.waited(END, 5))


def test_the_beginning_is_named_where_it_is_not_the_first_byte() -> None:
    later = Slice(info(first=Offset(7_000_000, 2)), Offset(7_000_000, 2), WHOLE.chunks)
    got = fields(REPLIES.read(later, where=Mark.BEGINNING))
    assert got["stream-first-offset"] == str(later.start)
    assert "stream-first-offset" not in fields(REPLIES.read(WHOLE, where=Mark.BEGINNING))


def test_a_shared_stream_may_be_kept_by_caches_between() -> None:
    shared = Replies(ProtocolOptions(shared=True), "*")
    got = fields(shared.read(MORE, where=MORE.start))
    assert got["cache-control"] == "public, max-age=60, stale-while-revalidate=300"


@pytest.mark.parametrize("where", [START, Mark.BEGINNING, Offset(6_000_000, 2)], ids=str)
def test_what_the_next_stream_of_the_path_has_as_well_is_asked_again(where: Where) -> None:
    """The beginning; of a fork also what it has of its source."""
    assert fields(REPLIES.read(MORE, where=where))["cache-control"] == "private, no-cache"


def test_nothing_yet_is_asked_again_each_time() -> None:
    assert fields(REPLIES.read(NOTHING, where=TAIL))["cache-control"] == "private, no-cache"


def test_nothing_more_ever_is_kept() -> None:
    assert "max-age=60" in fields(REPLIES.read(END, where=TAIL))["cache-control"]


def test_no_cache_keeps_what_will_be_gone() -> None:
    short = Slice(info(ttl=5), MORE.start, WHOLE.chunks)
    got = fields(REPLIES.read(short, where=MORE.start))["cache-control"]
    assert got == "private, max-age=5, stale-while-revalidate=0"


def test_what_the_client_has_is_not_sent_again() -> None:
    reply = REPLIES.read(WHOLE, condition=f'"other", {etag_of(WHOLE)}')
    assert (reply.status, reply.body) == (304, b"")
    got = fields(reply)
    assert got["etag"] == etag_of(WHOLE)
    assert got["stream-next-offset"] == str(TAIL)
    assert REPLIES.read(WHOLE, condition='"other"').status == 200


def test_etags_tell_apart_whatever_differs() -> None:
    again = info(tail=START, created_at=8_000)
    pieces = [
        *(WHOLE, CLOSED, NOTHING, END, PART),
        Slice(info(), Offset(7_000_000, 2), WHOLE.chunks),
        Slice(info(), START, (Chunk(b"hello", Offset(8_000_000, 5)),)),
        Slice(info(tail=START), START, ()),
        Slice(again, START, ()),
    ]
    assert len({etag_of(piece) for piece in pieces}) == len(pieces)


# Refusing ----------------------------------------------------------------------------------------

REFUSALS: list[tuple[TailraceError, dict[str, Any], dict[str, str]]] = [
    (AccessRefused(403, "", {"X-Why": "because"}), {}, {"x-why": "because"}),
    (BodyStalled(30.0), {"seconds": 30.0}, {}),
    (Overloaded(1000), {"most": 1000}, {"retry-after": "1"}),
    (ContentTypeMismatch("a/b", "c/d"), {"given": "a/b", "wanted": "c/d"}, {}),
    (ForkRefused("s", "why", 404), {}, {}),
    (InvalidBody("why"), {}, {}),
    (InvalidOffset("x"), {}, {}),
    (InvalidProducer(1, 2), {}, {}),
    (InvalidRequest("live", "x", "sse"), {"name": "live", "allowed": "sse"}, {}),
    (OriginRefused("null"), {}, {}),
    (OffsetGone("a", "b"), {"offset": "a", "first": "b"}, {"stream-first-offset": "b"}),
    (ProducerFenced(5), {"epoch": 5}, {"producer-epoch": "5"}),
    (
        ProducerGap(1, 3),
        {"expected": 1, "received": 3},
        {"producer-expected-seq": "1", "producer-received-seq": "3"},
    ),
    (SequenceConflict("b", "a"), {"last": "b"}, {}),
    (StreamClosed("s", "t"), {"tail": "t"}, {"stream-closed": "true", "stream-next-offset": "t"}),
    (StreamDamaged("why"), {}, {}),
    (StreamExists("s", "why"), {}, {}),
    (StreamGone("s"), {}, {}),
    (StreamNotFound("s"), {}, {}),
    (TooLarge(10), {"most": 10}, {}),
    *(
        (kind("/secret/file", "is /secret/file"), {}, {"retry-after": str(limits.RETRY_AFTER)})
        for kind in (StoreCorrupt, StoreFull, StoreLocked, StoreReadOnly, StoreVersion)
    ),
    (StoreUnavailable("/secret/file", "why"), {}, {"retry-after": "1"}),
]


ELSEWHERE = {StreamError, SubscriptionRefused}
"""Those that no verb raises: the root, and one of the subscriptions' own answers."""


def test_every_error_of_a_stream_and_of_a_store_is_here() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    kinds = {kind for kind in public if inspect.isclass(kind)}
    asked = {kind for kind in kinds if issubclass(kind, (StreamError, StoreUnavailable))}
    assert {type(error) for error, _, _ in REFUSALS} == asked - ELSEWHERE


@pytest.mark.parametrize(
    ("error", "facts", "headers"), REFUSALS, ids=lambda each: getattr(each, "code", "")
)
def test_a_refusal_is_a_problem_with_a_stable_code_and_its_facts(
    error: TailraceError, facts: dict[str, Any], headers: dict[str, str]
) -> None:
    reply = REPLIES.problem(error)
    assert reply.status == error.status
    got = fields(reply)
    assert got["content-type"] == "application/problem+json"
    problem = json.loads(reply.body)
    assert problem.pop("type") == "about:blank"
    assert problem.pop("title")
    assert problem.pop("status") == error.status
    assert problem.pop("code") == error.code
    detail = problem.pop("detail")
    assert problem == facts
    assert headers.items() <= got.items()
    assert "secret" not in detail
    assert b"secret" not in reply.body


def test_a_method_that_is_not_there() -> None:
    reply = REPLIES.not_allowed("BREW\r\n")
    assert reply.status == 405
    assert fields(reply)["allow"] == METHODS.decode()
    assert json.loads(reply.body)["code"] == "method_not_allowed"


# Other origins -----------------------------------------------------------------------------------


def test_what_pages_of_other_origins_may_do() -> None:
    reply = REPLIES.options()
    assert reply.status == 204
    got = fields(reply)
    assert got["access-control-allow-methods"] == METHODS.decode()
    assert got["access-control-max-age"] == str(limits.PREFLIGHT_MAX_AGE)
    allowed = got["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "producer-id", "stream-seq", "*"} <= set(allowed)


def test_one_origin_is_the_same_answer_for_all() -> None:
    makers = replies_by_origin(ProtocolOptions(cors_origins=("https://a.example",)))
    assert set(makers) == {None}
    got = fields(makers[None].read(WHOLE))
    assert got["access-control-allow-origin"] == "https://a.example"
    assert got["cross-origin-resource-policy"] == "same-origin"
    assert "vary" not in got


def test_of_several_origins_each_is_told_its_own() -> None:
    makers = replies_by_origin(
        ProtocolOptions(cors_origins=("https://a.example", "https://b.example"))
    )
    for origin in ("https://a.example", "https://b.example"):
        got = fields(makers[origin.encode()].read(WHOLE))
        assert got["access-control-allow-origin"] == origin
        assert got["vary"] == "Origin"
    other = fields(makers[None].read(WHOLE))
    assert "access-control-allow-origin" not in other
    assert other["vary"] == "Origin"


def test_without_origins_nothing_is_said_of_them() -> None:
    makers = replies_by_origin(ProtocolOptions(cors_origins=()))
    for reply in (makers[None].read(WHOLE), makers[None].options()):
        assert not any(name.startswith("access-control") for name in fields(reply))


def test_with_cookies_each_header_is_exposed_by_name() -> None:
    options = ProtocolOptions(cors_origins=("https://a.example",), cors_credentials=True)
    got = fields(Replies(options, "https://a.example").read(WHOLE))
    assert got["access-control-allow-credentials"] == "true"
    exposed = set(got["access-control-expose-headers"].lower().split(", "))
    assert {"stream-next-offset", "stream-closed", "stream-sse-data-encoding", "etag"} <= exposed
    assert "*" not in exposed
