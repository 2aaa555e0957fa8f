"""The settings of subscriptions."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.subscriptions import SubscriptionOptions


@pytest.mark.parametrize(
    "given",
    [
        {"public_url": "api.example.org"},
        {"public_url": "ftp://api.example.org"},
        {"public_url": "https://a b"},
        {"signing_key": b"short"},
        {"signing_key": bytes(33)},
        {"signing_key": "short" + 27 * "k"},
        {"public_url": 5},
        {"ssl_context": True},
        {"allow_localhost": "no"},
        {"patterns": "no"},
        {"webhook_timeout": "1"},
        {"webhook_timeout": 0},
        {"webhook_timeout": True},
        {"webhook_timeout": float("nan")},
        {"sweep": -1},
        {"sweep": float("inf")},
    ],
)
def test_a_value_out_of_its_range_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as caught:
        SubscriptionOptions(**given)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("name", ["webhook_timeout", "sweep"])
def test_the_longest_time_is_named(name: str) -> None:
    with pytest.raises(InvalidOption, match=f"at most {limits.MAX_TTL}"):
        SubscriptionOptions(**{name: limits.MAX_TTL + 1})  # type: ignore[arg-type] # either is one


def test_unless_it_is_said_otherwise() -> None:
    options = SubscriptionOptions()
    assert options.webhook_timeout == limits.WEBHOOK_TIMEOUT
    assert options.sweep == limits.SUBSCRIPTION_SWEEP


def test_what_is_in_range_is_taken() -> None:
    options = SubscriptionOptions(public_url="https://api.example.org/v1", signing_key=bytes(32))
    assert options.signing_key == bytes(32)
    assert "x00" not in repr(options)
