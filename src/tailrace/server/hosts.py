"""Whether a request names one host, and what it names is one.

A proxy, an application and its guard may each read another of two hosts, and then what one of them
allowed is done under the name that another would refuse. So a request that names two, or something
that is no host, ends before anybody reads it.

Source: RFC 9112 3.2 (Host, 400); RFC 3986 3.2.2 (host), 3.2.3 (port). Stricter than these: no
comma, by which proxies join two fields to one (RFC 9110 5.3), and no address of a future version of
IP. A target with an authority must agree with Host, where RFC 9112 3.2.2 would take the target's:
applications read Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from tailrace import limits

__all__ = ["why_no_host"]

_NAME = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+(?::[0-9]*)?")
_IPV6 = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


def why_no_host(version: str, target: bytes, hosts: Sequence[bytes]) -> str | None:
    """Why a request is refused for the host that it names; None if it is not.

    Args:
        version: Of HTTP: "1.1".
        target: The request's target, as it was sent.
        hosts: The values of all its Host fields.
    """
    if len(hosts) != 1:
        if hosts:
            return "more than one Host"
        return None if version < "1.1" else "no Host"
    host = hosts[0].strip(b" \t")
    # Before the cache, which keeps what it was asked for.
    if len(host) > limits.MAX_HOST_BYTES or not _is_host(host):
        return "a Host that is none"
    if target[:1] != b"/":
        absolute = _ABSOLUTE.match(target)
        if absolute is not None and absolute[1].lower() != host.lower():
            return "a Host that is not the target's"
    return None


@lru_cache(maxsize=256)
def _is_host(host: bytes) -> bool:
    # Empty is what a client sends whose URL has no host.
    if not host or _NAME.fullmatch(host):
        return True
    literal = _IPV6.fullmatch(host)
    if literal is None:
        return False
    try:
        ipaddress.IPv6Address(literal[1].decode())
    except ValueError:
        return False
    return True
