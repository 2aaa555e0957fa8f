from __future__ import annotations

import math
from typing import Any

import pytest

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.protocol import ProtocolOptions
from tailrace.types import StreamOptions


def test_the_defaults_are_those_of_the_limits() -> None:
    options = ProtocolOptions()
    assert options.long_poll_timeout == limits.LONG_POLL_TIMEOUT
    assert options.sse_lifetime == limits.SSE_LIFETIME
    assert options.body_timeout == limits.BODY_TIMEOUT
    assert options.max_append_bytes == limits.MAX_APPEND_BYTES
    assert options.read_bytes == limits.READ_BYTES
    assert options.cors_origins == ()
    assert not options.shared
    assert not options.cors_credentials


def options(name: str, value: Any) -> ProtocolOptions:
    return ProtocolOptions(**{name: value})


@pytest.mark.parametrize("name", ["long_poll_timeout", "sse_lifetime", "body_timeout"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, True, "1"])
def test_a_time_is_a_number_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=name):
        options(name, value)


@pytest.mark.parametrize("name", ["max_append_bytes", "read_bytes"])
def test_a_size_is_within_what_a_store_takes(name: str) -> None:
    sizes: dict[str, Any] = {name: limits.MAX_APPEND_BYTES}
    assert getattr(ProtocolOptions(**sizes), name) == limits.MAX_APPEND_BYTES
    for value in (0, limits.MAX_APPEND_BYTES + 1, 1.0, True):
        with pytest.raises(InvalidOption, match=name):
            options(name, value)


@pytest.mark.parametrize("name", ["shared", "cors_credentials"])
def test_a_switch_is_true_or_false(name: str) -> None:
    with pytest.raises(InvalidOption, match=name):
        options(name, 1)


def test_an_sse_answer_may_last_for_ever() -> None:
    assert ProtocolOptions(sse_lifetime=None).sse_lifetime is None


@pytest.mark.parametrize(
    "origins", [(), ("*",), ("null",), ("https://a.example", "http://localhost:3000")]
)
def test_origins_that_can_be(origins: tuple[str, ...]) -> None:
    assert ProtocolOptions(cors_origins=origins).cors_origins == origins


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        ["https://a.example"],
        ("*", "https://a.example"),
        ("https://a.example/",),
        ("https://a.example/path",),
        ("a.example",),
        ("https://a.example\r\nx: y",),
        ("",),
        (5,),
    ],
)
def test_origins_that_cannot_be(origins: Any) -> None:
    with pytest.raises(InvalidOption, match="cors_origins"):
        ProtocolOptions(cors_origins=origins)


def test_any_origin_may_not_send_cookies() -> None:
    with pytest.raises(InvalidOption, match="cors_credentials"):
        ProtocolOptions(cors_origins=("*",), cors_credentials=True)
    named = ProtocolOptions(cors_origins=("https://a.example",), cors_credentials=True)
    assert named.cors_credentials


def test_the_settings_of_streams_are_stream_options() -> None:
    assert ProtocolOptions(stream=StreamOptions(heartbeat=5)).stream.heartbeat == 5
    with pytest.raises(InvalidOption, match="stream"):
        ProtocolOptions(stream={"heartbeat": 5})  # type: ignore[arg-type] # what is refused
