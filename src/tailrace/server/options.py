"""The settings of the server protocol, checked when they are made."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from tailrace import limits
from tailrace.errors import InvalidOption

__all__ = ["ServerOptions"]

_VARIABLES = {
    "send_timeout": "TAILRACE_SEND_TIMEOUT",
    "drain_timeout": "TAILRACE_DRAIN_TIMEOUT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How the server protocol behaves, where uvicorn has no option for it.

    Args:
        send_timeout: Seconds without progress, more than 0, after which a client is cut off while
            the server sends it a file; None: never. A streaming response has its own
            `send_timeout`.
        drain_timeout: Seconds that open responses may take to end at shutdown, 0 or more.

    Raises:
        InvalidOption: A value is out of its range; the error names the option, value and range.
    """

    send_timeout: float | None = limits.SEND_TIMEOUT
    drain_timeout: float = limits.DRAIN_TIMEOUT

    def __post_init__(self) -> None:
        if self.send_timeout is not None and not _is_number(self.send_timeout, above=0):
            allowed = "seconds, more than 0, or None"
            raise InvalidOption("send_timeout", self.send_timeout, allowed)
        # `False == 0`, but it is a mistake, not no time.
        none = self.drain_timeout == 0 and not isinstance(self.drain_timeout, bool)
        if not none and not _is_number(self.drain_timeout, above=0):
            raise InvalidOption("drain_timeout", self.drain_timeout, "seconds, 0 or more")

    def drain_within(self, given: float | None) -> float:
        """Seconds that open responses have at shutdown: less than the server's own limit.

        At that limit uvicorn cancels every task, and a stream could not send its farewell.

        Args:
            given: The server's own limit in seconds; None: no limit.
        """
        return self.drain_timeout if given is None else min(self.drain_timeout, max(0, given - 0.2))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ServerOptions:
        """The settings from the variables `TAILRACE_SEND_TIMEOUT` and `TAILRACE_DRAIN_TIMEOUT`.

        Both are in seconds; `none` turns `send_timeout` off. What is not set has its default.

        Args:
            environment: Variables by name.

        Raises:
            InvalidOption: A value is not a number, or out of range; the error names the variable.
        """
        given: dict[str, float | None] = {}
        for name, variable in _VARIABLES.items():
            text = environment.get(variable, "").strip().lower()
            if text:
                given[name] = _number(variable, text)
        try:
            return cls(**given)  # type: ignore[arg-type] # the check refuses None
        except InvalidOption as error:
            variable = _VARIABLES[error.name]
            raise InvalidOption(variable, environment[variable], error.allowed) from None


def _number(variable: str, text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidOption(variable, text, "a number of seconds") from None


def _is_number(value: object, *, above: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value > above
