"""The settings of the application that `tailrace serve` runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.protocol import ProtocolOptions
from tailrace.subscriptions import SubscriptionOptions
from tailrace.types import StreamOptions

__all__ = ["ANY_HOST", "Settings", "send_timeout_of"]

ANY_HOST: Final = "*"

_HOST = re.compile(r"\*|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)

_DIRECTORY = "TAILRACE_DIRECTORY"
_STORE = "TAILRACE_STORE"
_SEND_TIMEOUT = "TAILRACE_SEND_TIMEOUT"  # the server's own, for files
_LONG_POLL_TIMEOUT = "TAILRACE_LONG_POLL_TIMEOUT"
_CORS_ORIGINS = "TAILRACE_CORS_ORIGINS"
_ALLOWED_HOSTS = "TAILRACE_ALLOWED_HOSTS"
_PUBLIC_URL = "TAILRACE_PUBLIC_URL"
_WEBHOOKS_TO_LOCALHOST = "TAILRACE_WEBHOOKS_TO_LOCALHOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is served, and how; one frozen object, made once for each process.

    Args:
        directory: The directory that is served under /files/; it must exist.
        store: The URL of the store behind /v1/stream/; None is an SQLite file in the directory,
            which /files/ does not show.
        long_poll_timeout: Seconds that a long-poll waits for data, more than 0.
        send_timeout: Seconds without progress before a stream's client is cut off; None: never.
        cors_origins: Web origins whose pages may use the streams, beside the server's own; "*"
            allows any.
        allowed_hosts: Names by which clients may call the server, without a port; "*" allows any.
        public_url: The URL at which clients and receivers of webhooks reach the streams; None takes
            the URL that each client has called.
        webhooks_to_localhost: Webhooks may go to this machine: for development.

    Raises:
        InvalidOption: A value is not valid, or the directory does not exist.
    """

    directory: Path
    store: str | None = None
    long_poll_timeout: float = limits.LONG_POLL_TIMEOUT
    send_timeout: float | None = limits.SEND_TIMEOUT
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = (ANY_HOST,)
    public_url: str | None = None
    webhooks_to_localhost: bool = False

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            raise InvalidOption("directory", str(self.directory), "a directory that exists")
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise InvalidOption("allowed_hosts", host, "names without scheme and port, or *")
        self.protocol_options()
        self.subscription_options()

    def protocol_options(self) -> ProtocolOptions:
        """The settings of the streams' protocol."""
        return ProtocolOptions(
            long_poll_timeout=self.long_poll_timeout,
            cors_origins=self.cors_origins,
            forks=True,  # no secret is lost by a fork: every client may read everything
            stream=StreamOptions(send_timeout=self.send_timeout),
        )

    def subscription_options(self) -> SubscriptionOptions:
        """The settings of subscriptions."""
        return SubscriptionOptions(
            public_url=self.public_url, allow_localhost=self.webhooks_to_localhost
        )

    @property
    def store_url(self) -> str:
        """The URL of the store: `store`, or that of the SQLite file in the directory."""
        if self.store is not None:
            return self.store
        return f"sqlite:///{self.directory.absolute() / '.tailrace' / 'streams.db'}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings that a parent process has put into the environment.

        uvicorn's workers are other processes, which import the application by its name: nothing
        else reaches them.

        Raises:
            InvalidOption: A variable is missing or not valid; the error names it.
        """
        directory = environment.get(_DIRECTORY, "")
        if not directory:
            raise InvalidOption(_DIRECTORY, directory, "the path of a directory")
        return cls(
            directory=Path(directory),
            store=environment.get(_STORE) or None,
            long_poll_timeout=_seconds(environment, _LONG_POLL_TIMEOUT, limits.LONG_POLL_TIMEOUT),
            send_timeout=send_timeout_of(environment),
            cors_origins=tuple(environment.get(_CORS_ORIGINS, "").split()),
            allowed_hosts=tuple(environment.get(_ALLOWED_HOSTS, ANY_HOST).split()),
            public_url=environment.get(_PUBLIC_URL) or None,
            webhooks_to_localhost=bool(environment.get(_WEBHOOKS_TO_LOCALHOST)),
        )

    def environment(self) -> dict[str, str]:
        """The variables from which `from_environment` makes the same settings."""
        return {
            _DIRECTORY: str(self.directory.absolute()),
            _STORE: self.store_url,
            _LONG_POLL_TIMEOUT: str(self.long_poll_timeout),
            _SEND_TIMEOUT: str(self.send_timeout).lower(),
            _CORS_ORIGINS: " ".join(self.cors_origins),
            _ALLOWED_HOSTS: " ".join(self.allowed_hosts),
            _PUBLIC_URL: self.public_url or "",
            _WEBHOOKS_TO_LOCALHOST: "1" if self.webhooks_to_localhost else "",
        }


def send_timeout_of(environment: Mapping[str, str]) -> float | None:
    """The seconds in `TAILRACE_SEND_TIMEOUT`, which the server uses for files; None for `none`.

    Raises:
        InvalidOption: The value is not a number.
    """
    if environment.get(_SEND_TIMEOUT, "").strip().lower() == "none":
        return None
    return _seconds(environment, _SEND_TIMEOUT, limits.SEND_TIMEOUT)


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "").strip()
    try:
        return float(text or default)
    except ValueError:
        raise InvalidOption(name, text, "seconds, more than 0") from None
