from __future__ import annotations

import inspect
import math
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any

import pytest

from tailrace import StreamOptions, TailraceError, limits
from tailrace.errors import InvalidOption

TIMES = ["send_timeout", "heartbeat", "start_grace", "cleanup_timeout"]
OFF = ["send_timeout", "min_rate", "heartbeat", "start_grace"]
FLAGS = ["release_dependencies", "pin_thread", "expose_errors", "blank_lines", "compress"]


def test_the_defaults_are_the_limits() -> None:
    assert asdict(StreamOptions()) == {
        "send_timeout": limits.SEND_TIMEOUT,
        "min_rate": None,
        "heartbeat": limits.HEARTBEAT,
        "start_grace": None,
        "cleanup_timeout": limits.CLEANUP_TIMEOUT,
        "shutdown_grace": 0,
        "max_batch_bytes": limits.MAX_BATCH_BYTES,
        "release_dependencies": False,
        "pin_thread": False,
        "expose_errors": False,
        "blank_lines": False,
        "compress": False,
    }


@pytest.mark.parametrize(
    ("options", "heartbeat", "every"),
    [
        (StreamOptions(heartbeat=5), b":\n\n", 5),
        (StreamOptions(heartbeat=5), b"", math.inf),
        (StreamOptions(heartbeat=5), b"\n", math.inf),
        (StreamOptions(heartbeat=5, blank_lines=True), b"\n", 5),
        (StreamOptions(heartbeat=5, blank_lines=True), b"", math.inf),
        (StreamOptions(heartbeat=None, blank_lines=True), b"\n", math.inf),
    ],
)
def test_a_heartbeat_that_is_a_blank_line_is_asked_for(
    options: StreamOptions, heartbeat: bytes, every: float
) -> None:
    assert options.beat_every(heartbeat) == every


def test_each_option_is_documented() -> None:
    documented = inspect.getdoc(StreamOptions) or ""
    for field in fields(StreamOptions):
        assert f"    {field.name}: " in documented


def test_options_are_a_value_that_does_not_change() -> None:
    options = StreamOptions(send_timeout=5)
    assert options == StreamOptions(send_timeout=5)
    assert hash(options) == hash(StreamOptions(send_timeout=5))
    with pytest.raises(FrozenInstanceError):
        options.send_timeout = 6  # type: ignore[misc] # that is what is tested


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        StreamOptions(5)  # type: ignore[call-arg] # that is what is tested
    with pytest.raises(TypeError, match="send_time"):
        StreamOptions(send_time=5)  # type: ignore[call-arg] # that is what is tested


@pytest.mark.parametrize("name", OFF)
def test_what_can_be_off_is_off_with_none(name: str) -> None:
    options: Any = {name: None}
    assert getattr(StreamOptions(**options), name) is None


@pytest.mark.parametrize("name", [*TIMES, "min_rate"])
@pytest.mark.parametrize("value", [1, 0.001, 3600.0, 10**9])
def test_numbers_over_zero_are_taken_as_they_are(name: str, value: float) -> None:
    options: Any = {name: value}
    assert getattr(StreamOptions(**options), name) == value


def test_a_start_grace_of_zero_waits_for_nothing() -> None:
    assert StreamOptions(start_grace=0).start_grace == 0


@pytest.mark.parametrize(
    "size", [limits.MIN_BATCH_BYTES, limits.MAX_BATCH_BYTES, limits.LARGEST_BATCH_BYTES]
)
def test_a_batch_may_be_as_small_and_as_large_as_the_limits(size: int) -> None:
    assert StreamOptions(max_batch_bytes=size).max_batch_bytes == size


BAD_NUMBERS: list[Any] = [-1, -0.001, math.inf, -math.inf, math.nan, True, "5", [], 1j]

WRONG: list[tuple[str, Any, str]] = [
    *[("send_timeout", value, "seconds, more than 0, or None") for value in (0, *BAD_NUMBERS)],
    *[("min_rate", value, "bytes per second, more than 0, or None") for value in (0, *BAD_NUMBERS)],
    *[("heartbeat", value, "seconds, more than 0, or None") for value in (0, *BAD_NUMBERS)],
    *[("start_grace", value, "seconds, 0 or more, or None") for value in BAD_NUMBERS],
    *[("cleanup_timeout", value, "seconds, more than 0") for value in (0, None, *BAD_NUMBERS)],
    *[
        ("max_batch_bytes", value, "1024 to 16777216 bytes")
        for value in (0, 1023, 16 * 1024 * 1024 + 1, 65536.0, True, None, "64K")
    ],
    *[(name, value, "True or False") for name in FLAGS for value in (None, 0, 1, "yes")],
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_value_out_of_its_range_is_refused_with_its_name_itself_and_the_range(
    name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ValueError, match="is not valid") as caught:
        StreamOptions(**{name: value})
    error = caught.value
    assert isinstance(error, InvalidOption)
    assert isinstance(error, TailraceError)
    assert str(error) == f"{name}={value!r} is not valid: give {allowed}"
    assert (error.name, error.allowed) == (name, allowed)
    assert error.value is value


def test_false_is_no_start_grace() -> None:
    with pytest.raises(InvalidOption, match="start_grace=False"):
        StreamOptions(start_grace=False)
