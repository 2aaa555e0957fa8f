from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import ForkRefused, InvalidRequest
from tailrace.protocol.path import is_reserved, location, path_below, source_path, stream_path

MOST = limits.MAX_STREAM_PATH_BYTES


def scope(path: str, root: str = "") -> dict[str, Any]:
    return {"path": path, "root_path": root}


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/a/b", "", "a/b"),
        ("/v1/stream/a/b", "/v1/stream", "a/b"),
        ("/a", "/v1/stream", "a"),  # a server that leaves the root out of the path
        ("/v1/stream/", "/v1/stream", ""),
        ("/v1/stream", "/v1/stream", None),
        ("/v1/streams/a", "/v1/stream", None),
        ("", "", None),
        ("*", "", None),
    ],
)
def test_a_stream_is_what_follows_the_place_of_mounting(
    path: str, root: str, below: str | None
) -> None:
    assert path_below(scope(path, root)) == below


@pytest.mark.parametrize("path", ["/api/m/a", "/m/a"])
def test_what_a_proxy_has_taken_off_the_path_is_no_part_of_the_name(path: str) -> None:
    behind = {"path": path, "root_path": "/api/m", "app_root_path": "/api"}
    assert path_below(behind) == "a"
    assert location(behind, b"example.org") == b"http://example.org/api/m/a"


@pytest.mark.parametrize("below", ["__ds", "__ds/", "__ds/subscriptions/a"])
def test_what_is_below_ds_is_reserved(below: str) -> None:
    assert is_reserved(below)


@pytest.mark.parametrize("below", ["__dsx", "a/__ds", "_ds", "__DS", ""])
def test_nothing_else_is(below: str) -> None:
    assert not is_reserved(below)


@pytest.mark.parametrize(
    "name", ["a", "a/b/c", "...", "a..b", ".hidden", "Größe/日本", "a b", "a%b"]
)
def test_names_that_can_be(name: str) -> None:
    assert stream_path(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "a/..",
            "../a",
            "a/../b",
            "a/./b",
            "/a",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "\x7f",
        ),
        *("a\udc80", "a/\n", "..\n"),
    ],
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidRequest, match="the path"):
        stream_path(name)


@pytest.mark.parametrize("char", ["a", "ß", "日"])
def test_a_name_may_have_so_many_bytes_and_not_one_more(char: str) -> None:
    size = len(char.encode())
    longest = char * (MOST // size) + "x" * (MOST % size)
    assert stream_path(longest) == longest
    with pytest.raises(InvalidRequest):
        stream_path(longest + "x")


def test_an_escape_that_is_no_utf8_is_refused() -> None:
    raw = b"/a%FF"
    with pytest.raises(InvalidRequest):
        stream_path(unquote(raw.decode())[1:], raw)


def test_the_character_that_stands_for_it_can_be_meant() -> None:
    raw = b"/a%EF%BF%BD"
    assert stream_path("a\ufffd", raw) == "a\ufffd"
    assert stream_path("a\ufffd") == "a\ufffd"


@given(st.text(max_size=30))
def test_any_name_is_taken_or_refused(name: str) -> None:
    try:
        assert stream_path(name, quote(name, errors="surrogatepass").encode()) == name
    except InvalidRequest:
        return
    assert all(part not in ("", ".", "..") for part in name.split("/"))
    assert not any(ord(char) < 0x20 or char == "\x7f" for char in name)


# Forks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "root", "name"),
    [
        (b"/v1/stream/a/b", "/v1/stream", "a/b"),
        (b"/a/b", "", "a/b"),
        (b"a/b", "/v1/stream", "a/b"),
        (b"/v1/stream/Gr%C3%B6%C3%9Fe", "/v1/stream", "Größe"),
        ("/v1/stream/Größe".encode(), "/v1/stream", "Größe"),
        (b"/v1/stream/a%20b", "/v1/stream", "a b"),
    ],
)
def test_a_source_is_the_path_of_its_url(value: bytes, root: str, name: str) -> None:
    assert source_path(value, root) == name


@pytest.mark.parametrize("value", [b"/other/a", b"/v1/streams/a", b"/v1/stream", b"/"])
def test_a_source_elsewhere_does_not_exist(value: bytes) -> None:
    with pytest.raises(ForkRefused) as caught:
        source_path(value, "/v1/stream")
    assert caught.value.status == 404


@pytest.mark.parametrize("value", [b"/v1/stream/__ds/runs/a", b"__ds/runs/a", b"/v1/stream/__ds"])
def test_no_fork_reads_what_is_reserved(value: bytes) -> None:
    with pytest.raises(ForkRefused) as caught:
        source_path(value, "/v1/stream")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "value", [b"", b"/v1/stream/", b"/v1/stream/../a", b"a%00", b"%FF", b"\xff"]
)
def test_a_source_that_can_be_no_stream(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Stream-Forked-From"):
        source_path(value, "/v1/stream")


def test_a_source_may_be_as_long_as_a_stream() -> None:
    assert source_path(b"a" * MOST, "") == "a" * MOST
    with pytest.raises(InvalidRequest):
        source_path(b"a" * (MOST + 1), "")


@given(st.binary(max_size=40))
def test_any_source_is_taken_or_refused(value: bytes) -> None:
    with suppress(InvalidRequest, ForkRefused):
        name = source_path(value, "/v1/stream")
        assert stream_path(name) == name


# Location ----------------------------------------------------------------------------------------


def test_a_new_stream_is_at_the_url_it_was_put_to() -> None:
    asked = {"scheme": "https", "path": "/v1/a b", "raw_path": b"/v1/a%20b"}
    assert location(asked, b"example.org:8443") == b"https://example.org:8443/v1/a%20b"


def test_without_the_path_as_it_was_sent_it_is_escaped_again() -> None:
    asked = {"scheme": "http", "path": "/v1/a b/ö"}
    assert location(asked, b"[::1]:80") == b"http://[::1]:80/v1/a%20b/%C3%B6"
    assert location({**asked, "raw_path": b"/v1/a\r\nx: y"}, b"h") == b"http://h/v1/a%20b/%C3%B6"


@pytest.mark.parametrize("host", [b"", b"a/b", b"a\r\nx: y", b"a b", b"a@b", b"x" * 256])
def test_a_strange_host_is_left_out(host: bytes) -> None:
    asked = {"scheme": "http", "path": "/a", "raw_path": b"/a"}
    assert location(asked, host) == b"/a"
