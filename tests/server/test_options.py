from __future__ import annotations

import pytest

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.server import ServerOptions


def test_without_settings_there_are_defaults() -> None:
    options = ServerOptions.from_environment({})
    assert options == ServerOptions()
    assert options.send_timeout == limits.SEND_TIMEOUT
    assert options.drain_timeout == limits.DRAIN_TIMEOUT


def test_the_environment_gives_seconds() -> None:
    environment = {"TAILRACE_SEND_TIMEOUT": "2.5", "TAILRACE_DRAIN_TIMEOUT": " 0 "}
    assert ServerOptions.from_environment(environment) == ServerOptions(
        send_timeout=2.5, drain_timeout=0
    )


def test_none_is_no_time_limit() -> None:
    assert ServerOptions.from_environment({"TAILRACE_SEND_TIMEOUT": "none"}).send_timeout is None


@pytest.mark.parametrize(
    "environment",
    [
        {"TAILRACE_SEND_TIMEOUT": "soon"},
        {"TAILRACE_SEND_TIMEOUT": "0"},
        {"TAILRACE_SEND_TIMEOUT": "-1"},
        {"TAILRACE_SEND_TIMEOUT": "inf"},
        {"TAILRACE_DRAIN_TIMEOUT": "-1"},
        {"TAILRACE_DRAIN_TIMEOUT": "nan"},
        {"TAILRACE_DRAIN_TIMEOUT": "none"},
    ],
)
def test_what_is_no_time_is_refused_by_the_variables_name(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(environment))):
        ServerOptions.from_environment(environment)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("name", ["send_timeout", "drain_timeout"])
def test_a_bool_is_no_time(name: str, value: bool) -> None:
    with pytest.raises(InvalidOption, match=name):
        ServerOptions(**{name: value})
