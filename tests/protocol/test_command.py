from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import InvalidOffset, InvalidRequest, StreamError
from tailrace.protocol.command import (
    Command,
    Delete,
    Get,
    Head,
    Live,
    Post,
    Put,
    command_of,
)
from tailrace.store import START, Fork, Mark, NewStream, Offset, Producer, Retention

TOKEN = "0000000000000007_0000000000000042"


def asked(method: str, query: str = "", **headers: str) -> Command | None:
    """Headers by keyword, `_` for `-`."""
    fields = {
        name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()
    }
    return command_of(method, "s", query.encode(), fields, "/v1")


# POST --------------------------------------------------------------------------------------------


def test_an_append() -> None:
    assert asked("POST", content_type="text/plain") == Post("s", "text/plain", None, None, False)


def test_an_append_with_everything() -> None:
    command = asked(
        "POST",
        content_type="text/plain",
        producer_id="p",
        producer_epoch="1",
        producer_seq="2",
        stream_seq="a",
        stream_closed="true",
    )
    assert command == Post("s", "text/plain", Producer("p", 1, 2), "a", True)


@pytest.mark.parametrize("headers", [{}, {"content_type": ""}])
def test_an_append_may_be_without_a_content_type(headers: dict[str, str]) -> None:
    assert asked("POST", **headers) == Post("s", None, None, None, False)


def test_a_stream_seq_may_have_so_many_bytes_and_not_one_more() -> None:
    longest = "x" * limits.MAX_STREAM_SEQ_BYTES
    assert asked("POST", stream_seq=longest) == Post("s", None, None, longest, False)
    for bad in ("", longest + "x"):
        with pytest.raises(InvalidRequest, match="Stream-Seq"):
            asked("POST", stream_seq=bad)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_is_not_compressed_for_readers_would_not_learn_of_it(method: str) -> None:
    assert asked(method, content_encoding="identity") is not None
    for encoding in ("gzip", "br, gzip", "nonsense"):
        with pytest.raises(InvalidRequest, match="Content-Encoding"):
            asked(method, content_encoding=encoding)


# PUT ---------------------------------------------------------------------------------------------


def test_a_creation() -> None:
    assert asked("PUT") == Put("s", NewStream())
    assert asked("PUT", content_type="text/plain", stream_closed="TRUE") == Put(
        "s", NewStream(content_type="text/plain", closed=True)
    )


def test_a_ttl_may_have_so_many_seconds_and_not_one_more() -> None:
    for ttl in (0, 3600, limits.MAX_TTL):
        assert asked("PUT", stream_ttl=str(ttl)) == Put("s", NewStream(ttl=ttl))
    with pytest.raises(InvalidRequest, match="Stream-TTL"):
        asked("PUT", stream_ttl=str(limits.MAX_TTL + 1))


@pytest.mark.parametrize("value", ["abc", "-1", "00060", "+60", "60.5", "1e3", "", " 60"])
def test_a_ttl_that_is_none(value: str) -> None:
    with pytest.raises(InvalidRequest, match="Stream-TTL"):
        asked("PUT", stream_ttl=value)


def test_a_time_of_expiry() -> None:
    assert asked("PUT", stream_expires_at="2026-11-22T14:00:00Z") == Put(
        "s", NewStream(expires_at=1795356000000)
    )


def test_not_both_ways_to_expire() -> None:
    with pytest.raises(InvalidRequest, match="not both"):
        asked("PUT", stream_ttl="1", stream_expires_at="2026-11-22T14:00:00Z")


def test_a_retention() -> None:
    assert asked(
        "PUT", stream_retain_bytes="1", stream_retain_records="2", stream_retain_age="3"
    ) == Put("s", NewStream(retention=Retention(max_bytes=1, max_records=2, max_age=3)))


@pytest.mark.parametrize("name", ["stream_retain_bytes", "stream_retain_records"])
def test_a_bound_of_the_retention_is_at_least_one(name: str) -> None:
    assert asked("PUT", **{name: str(limits.MAX_SEQUENCE)}) is not None
    for bad in ("0", "-1", str(limits.MAX_SEQUENCE + 1)):
        with pytest.raises(InvalidRequest, match="Stream-Retain"):
            asked("PUT", **{name: bad})


def test_an_age_of_the_retention_is_no_longer_than_a_ttl() -> None:
    assert asked("PUT", stream_retain_age=str(limits.MAX_TTL)) is not None
    with pytest.raises(InvalidRequest, match="Stream-Retain-Age"):
        asked("PUT", stream_retain_age=str(limits.MAX_TTL + 1))


def test_a_fork() -> None:
    assert asked("PUT", stream_forked_from="/v1/a") == Put("s", NewStream(fork=Fork("a")))
    assert asked(
        "PUT",
        stream_forked_from="/v1/a",
        stream_fork_offset=TOKEN,
        stream_fork_sub_offset="3",
    ) == Put("s", NewStream(fork=Fork("a", Offset(7, 42), 3)))


@pytest.mark.parametrize("value", ["-1", "abc", "1.5", "05", "+1", ""])
def test_a_sub_offset_that_is_none(value: str) -> None:
    with pytest.raises(InvalidRequest, match="Stream-Fork-Sub-Offset"):
        asked("PUT", stream_forked_from="/v1/a", stream_fork_sub_offset=value)


@pytest.mark.parametrize("value", ["-1", "now", "", "x"])
def test_a_fork_begins_at_an_offset(value: str) -> None:
    with pytest.raises(InvalidOffset):
        asked("PUT", stream_forked_from="/v1/a", stream_fork_offset=value)


@pytest.mark.parametrize(
    "headers", [{"stream_fork_offset": TOKEN}, {"stream_fork_sub_offset": "0"}]
)
def test_a_fork_of_nothing(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="Stream-Forked-From is missing"):
        asked("PUT", **headers)


# GET ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("", Mark.BEGINNING),
        ("offset=-1", Mark.BEGINNING),
        ("offset=now", Mark.TAIL),
        (f"offset={TOKEN}", Offset(7, 42)),
        (f"foo=bar&offset={TOKEN}&baz", Offset(7, 42)),
        (f"offset={quote(TOKEN, safe='').replace('_', '%5F')}", Offset(7, 42)),
    ],
)
def test_a_read(query: str, where: Offset | Mark) -> None:
    assert asked("GET", query) == Get("s", where)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "0,1",
        "0 1",
        "\n",
        f"{TOKEN}\n",
        f"{TOKEN}\0",
        "../x",
        f" {TOKEN}",
        TOKEN[:-1],
        "\u0661" * 16,
    ],
)
def test_an_offset_that_was_never_given_out(token: str) -> None:
    with pytest.raises(InvalidOffset):
        asked("GET", urlencode({"offset": token}))


@pytest.mark.parametrize(
    "query",
    [
        *(
            f"offset={TOKEN}&offset={TOKEN}",
            "offset=-1&%6Fffset=now",
            "live=sse&live=sse&offset=-1",
        ),
        *("cursor=1&cursor=2",),
    ],
)
def test_a_parameter_stands_once(query: str) -> None:
    with pytest.raises(InvalidRequest, match="one value"):
        asked("GET", query)


@pytest.mark.parametrize("live", list(Live))
def test_a_live_read(live: Live) -> None:
    assert asked("GET", f"live={live.value}&offset=now&cursor=12") == Get(
        "s", Mark.TAIL, live, cursor=12
    )
    with pytest.raises(InvalidRequest, match="offset is missing"):
        asked("GET", f"live={live.value}")


@pytest.mark.parametrize("value", ["", "true", "SSE", "longpoll", "sse "])
def test_a_live_mode_that_is_none(value: str) -> None:
    with pytest.raises(InvalidRequest, match="long-poll or sse"):
        asked("GET", urlencode({"live": value, "offset": "-1"}))


def test_a_cursor_that_is_none_of_ours_does_no_harm() -> None:
    assert asked("GET", "live=sse&offset=-1&cursor=abc") == Get("s", Mark.BEGINNING, Live.SSE)


def test_what_an_event_source_got_last_wins_over_the_url_it_was_made_with() -> None:
    assert asked("GET", "live=sse&offset=-1", last_event_id=TOKEN) == Get(
        "s", Offset(7, 42), Live.SSE, resumed=True
    )
    assert asked("GET", "live=sse", last_event_id=TOKEN) == Get(
        "s", Offset(7, 42), Live.SSE, resumed=True
    )


def test_an_empty_last_event_id_is_none() -> None:
    assert asked("GET", "live=sse&offset=now", last_event_id="") == Get("s", Mark.TAIL, Live.SSE)


def test_the_place_of_the_url_is_kept_beside_it() -> None:
    assert asked("GET", "live=sse&offset=now", last_event_id=TOKEN) == Get(
        "s", Offset(7, 42), Live.SSE, resumed=True, otherwise=Mark.TAIL
    )


@pytest.mark.parametrize("last", ["5", "a3f1c2e0-0000-4000-8000-000000000000", "\xff", "9" * 5000])
def test_a_last_event_id_that_is_no_offset_is_as_none(last: str) -> None:
    assert asked("GET", "live=sse&offset=now", last_event_id=last) == Get("s", Mark.TAIL, Live.SSE)
    assert asked("GET", "live=sse", last_event_id=last) == Get("s", Mark.BEGINNING, Live.SSE)


@pytest.mark.parametrize("query", [f"offset={TOKEN}", f"offset={TOKEN}&live=long-poll"])
def test_only_an_event_source_has_one(query: str) -> None:
    command = asked("GET", query, last_event_id=str(START))
    assert isinstance(command, Get)
    assert command.where == Offset(7, 42)


def test_a_condition() -> None:
    assert asked("GET", if_none_match='"a"') == Get("s", Mark.BEGINNING, if_none_match='"a"')


def test_a_query_may_have_so_many_bytes_and_not_one_more() -> None:
    longest = "offset=now&x=" + "y" * (limits.MAX_QUERY_BYTES - 13)
    assert asked("GET", longest) == Get("s", Mark.TAIL)
    with pytest.raises(InvalidRequest, match="the query"):
        asked("GET", longest + "y")


# The rest ----------------------------------------------------------------------------------------


def test_the_verbs_without_parameters() -> None:
    assert asked("HEAD", "offset=x") == Head("s")
    assert asked("DELETE", "offset=x") == Delete("s")


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "CONNECT", "get", ""])
def test_methods_that_streams_do_not_have(method: str) -> None:
    assert asked(method) is None


NAMES = (
    *("content-type", "stream-ttl", "stream-expires-at", "stream-closed", "stream-seq"),
    *("stream-forked-from", "stream-fork-offset", "stream-fork-sub-offset", "stream-retain-age"),
    *("stream-retain-bytes", "stream-retain-records", "producer-id", "producer-epoch"),
    *("producer-seq", "last-event-id", "if-none-match"),
)
values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"1", b"0", b"true", TOKEN.encode(), b"text/plain", b"/v1/a", b"2026-11-22T14:00:00Z"]
    ),
)
words = st.sampled_from([TOKEN.encode(), b"-1", b"now", b"sse", b"long-poll"])
queries = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(
        st.sampled_from(["offset", "live", "cursor", "x"]), st.one_of(st.binary(max_size=40), words)
    ).map(lambda pairs: urlencode(pairs).encode()),
)


@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH"]),
    queries,
    st.dictionaries(st.sampled_from([name.encode() for name in NAMES]), values),
)
def test_any_request_is_understood_or_refused(
    method: str, query: bytes, fields: dict[bytes, bytes]
) -> None:
    command: Command | StreamError | None
    try:
        command = command_of(method, "s", query, fields, "/v1")
    except StreamError as error:
        command = error
    if isinstance(command, StreamError):
        assert command.status in (400, 404)
        assert str(command).isprintable()
    else:
        assert command is None or command.path == "s"
