"""Which URLs a webhook may have, and to which addresses it may be sent.

A client that may create a subscription makes this server send requests from inside its network. So
the URL is checked when it is given. Before each delivery, every address of its host is checked; the
connection then goes to an address that was checked, and the name is not resolved again.

Only addresses that are known to be public are allowed. Of IPv4: what the registries call global. Of
IPv6: global unicast without the ranges that contain an IPv4 address (6to4, Teredo). An address of
NAT64 is allowed if the IPv4 address in it is.

Source: Durable Streams 6.2, 12.8; RFC 6890, RFC 6052, RFC 3056, RFC 6598.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tailrace import limits
from tailrace.errors import SubscriptionRefused

__all__ = ["Target", "is_allowed_address", "parse_target"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_URL: Final = re.compile(r"[!-~]+", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_LOCAL_NAMES: Final = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "arpa")
"""Last labels of names that no public resolver knows."""

_LOWEST_FREE_PORT: Final = 1024
_LOOPBACK: Final = ipaddress.IPv4Network("127.0.0.0/8")
_LOOPBACK_6: Final = ipaddress.IPv6Address("::1")

_BAD_4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            # In addition to `is_global`, which knows fewer of them in older Pythons:
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # Oracle's metadata
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
            "168.63.129.16/32",  # Azure's own services, in a public range
        ),
    )
)
_UNICAST_6: Final = ipaddress.IPv6Network("2000::/3")
_BAD_6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # Teredo, and others that carry another address or are not for hosts
            "2001:db8::/32",
            "2002::/16",  # 6to4 carries an IPv4 address
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook is sent.

    Args:
        scheme: "https"; "http" only to this machine, in development.
        host: A name in lower case, or an address without brackets.
        port: 1 to 65535.
        is_local: It is sent to this machine, which is allowed.
    """

    scheme: str
    host: str
    port: int
    is_local: bool

    def allows(self, address: str) -> bool:
        """Whether the webhook may be sent to `address`, which is one of its host's."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # not an address
            return False
        if self.is_local:
            return parsed in _LOOPBACK if parsed.version == 4 else parsed == _LOOPBACK_6
        return is_allowed_address(parsed)


def is_allowed_address(address: Address) -> bool:
    """Whether an address is on the public Internet, not in this network or on this machine."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _BAD_4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_allowed_address(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _UNICAST_6 and not any(address in network for network in _BAD_6)


def parse_target(url: str, *, allow_localhost: bool) -> Target:
    """Where webhooks for a URL are sent, if a webhook may have this URL.

    Args:
        url: As the client gave it.
        allow_localhost: `http://localhost` and `http://127.x.y.z` are allowed, for development.

    Raises:
        SubscriptionRefused: A webhook may not have it (400, `WEBHOOK_URL_REJECTED`).

    Source: Durable Streams 6.2.
    """
    # Only what every parser reads in the same way: no spaces, backslashes, control characters.
    if len(url) > limits.MAX_WEBHOOK_URL_BYTES or not _URL.fullmatch(url) or "\\" in url:
        raise _rejected(
            f"it must be printable ASCII, at most {limits.MAX_WEBHOOK_URL_BYTES:,} characters"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _rejected("it is not a URL") from None
    if "@" in parts.netloc:
        raise _rejected("it must not have a user or a password")
    if "#" in url:
        raise _rejected("it must not have a fragment")
    host = parts.hostname or ""
    if host.startswith("[") or "%" in host:
        raise _rejected("its host is not valid")
    if parts.scheme == "http":
        return _local(host, port, allow_localhost=allow_localhost)
    if parts.scheme != "https":
        raise _rejected("it must be https")
    _check_public(host, is_bracketed="[" in parts.netloc)
    if port is not None and port != 443 and port < _LOWEST_FREE_PORT:
        raise _rejected(f"port {port} belongs to another service: use 443, or 1024 and more")
    return Target("https", host, port or 443, is_local=False)


def _local(host: str, port: int | None, *, allow_localhost: bool) -> Target:
    if not allow_localhost:
        raise _rejected("it must be https")
    if host != "localhost" and not _is_loopback(host):
        raise _rejected("http is for localhost and 127.x.y.z only")
    return Target("http", host, port or 80, is_local=True)


def _check_public(host: str, *, is_bracketed: bool) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if is_bracketed:
            raise _rejected("its host is not an IPv6 address") from None
        _check_name(host)
        return
    if not is_allowed_address(address):
        raise _rejected(f"{address} is not an address of the public Internet")


def _check_name(host: str) -> None:
    # A name with a dot at its end is the same name.
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _rejected("its host is not a name (write other scripts as xn--...)")
    # Resolvers read 127.1, 0x7f000001 and 2130706433 as addresses.
    if _NUMBER.fullmatch(labels[-1]):
        raise _rejected("its host is a number, or an address in another spelling")
    if len(labels) < 2 or labels[-1] in _LOCAL_NAMES:
        raise _rejected("its host is a name of the local network")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in _LOOPBACK
    except ValueError:
        return False


def _rejected(why: str) -> SubscriptionRefused:
    return SubscriptionRefused("WEBHOOK_URL_REJECTED", 400, f"not a valid webhook.url: {why}")
