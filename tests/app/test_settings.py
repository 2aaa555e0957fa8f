"""The settings of what `tailrace serve` serves, and their way through the environment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tailrace import limits
from tailrace.app import Settings
from tailrace.errors import InvalidOption


def test_they_come_through_the_environment_as_they_were(tmp_path: Path) -> None:
    settings = Settings(
        directory=tmp_path,
        store="sqlite:////somewhere/with blanks/streams.db",
        long_poll_timeout=0.5,
        send_timeout=None,
        cors_origins=("https://a.example", "https://b.example:8443"),
        allowed_hosts=("a.example", "[::1]"),
        public_url="https://a.example/v1/stream",
        webhooks_to_localhost=True,
    )
    assert Settings.from_environment(settings.environment()) == settings


def test_defaults_come_through_with_the_place_of_the_store(tmp_path: Path) -> None:
    settings = Settings.from_environment(Settings(directory=tmp_path).environment())
    assert settings.store_url == f"sqlite:///{tmp_path}/.tailrace/streams.db"
    assert settings.long_poll_timeout == limits.LONG_POLL_TIMEOUT
    assert settings.send_timeout == limits.SEND_TIMEOUT
    assert settings.cors_origins == ()
    assert settings.allowed_hosts == ("*",)
    assert settings.public_url is None
    assert not settings.webhooks_to_localhost


def test_a_directory_is_all_that_is_needed(tmp_path: Path) -> None:
    settings = Settings.from_environment({"TAILRACE_DIRECTORY": str(tmp_path)})
    assert settings == Settings(directory=tmp_path)


@pytest.mark.parametrize("name", ["a b", "what?#", "%41", "ü"])
def test_any_directory_has_its_store_within(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    assert Settings(directory=directory).store_url == f"sqlite:///{directory}/.tailrace/streams.db"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TAILRACE_DIRECTORY", ""),
        ("TAILRACE_DIRECTORY", "/no/such/directory"),
        ("TAILRACE_LONG_POLL_TIMEOUT", "soon"),
        ("TAILRACE_SEND_TIMEOUT", "never"),
    ],
)
def test_a_variable_that_cannot_be_is_named(tmp_path: Path, name: str, value: str) -> None:
    environment = {"TAILRACE_DIRECTORY": str(tmp_path), name: value}
    with pytest.raises(InvalidOption) as caught:
        Settings.from_environment(environment)
    assert caught.value.name in (name, "directory")


@pytest.mark.parametrize(
    "given",
    [
        {"long_poll_timeout": 0},
        {"long_poll_timeout": math.inf},
        {"send_timeout": -1.0},
        {"cors_origins": ("a.example",)},
        {"allowed_hosts": ("https://a.example",)},
        {"allowed_hosts": ("a.example:80",)},
        {"allowed_hosts": ("a.example\n",)},
        {"allowed_hosts": ("",)},
        {"public_url": "a.example"},
    ],
)
def test_a_value_that_cannot_be_is_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Settings(directory=tmp_path, **given)
