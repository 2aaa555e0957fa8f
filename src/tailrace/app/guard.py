"""Which requests a server serves that has no authentication.

What listens on 127.0.0.1 is reached by every page that a browser on this machine shows. Two things
stand between: a page of another site may not write (a `POST` of plain text needs no permission, so
the browser's CORS does not stop it), and a name that somebody else's DNS leads to 127.0.0.1 is not
ours, or that page would be of our own site.

Source: RFC 6454 7 (Origin); RFC 9110 7.2 (Host), 15.5.20 (421).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from starlette.types import Scope

from tailrace.app.settings import ANY_HOST
from tailrace.protocol import Reply
from tailrace.semantics import PROBLEM, foreign_origin, problem_document

__all__ = ["HEALTH", "LOOPBACK_HOSTS", "READINESS", "HostGuard", "Refusal"]

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

HEALTH = "/healthz"
READINESS = "/readyz"

_FOR_PROBES = frozenset({HEALTH, READINESS})
"""What is answered whatever host was asked for: a health check names an address, a pod or nothing
(HAProxy's speaks HTTP/1.0 without a Host). There is nothing to read in it but whether we serve."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served.

    Args:
        status: The HTTP status.
        code: For programs.
        detail: For people.
    """

    status: int
    code: str
    detail: str

    def reply(self) -> Reply:
        """The answer that says so."""
        body = json.dumps(problem_document(self.status, self.code, self.detail)).encode()
        headers = [
            (b"content-type", PROBLEM.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        return Reply(self.status, headers, body)


class HostGuard:
    """Looks at each request's Host and Origin.

    Args:
        hosts: Names by which clients may call, without a port; "*" is any.
        origins: Web origins beside the server's own whose pages may write; "*" is any.
    """

    def __init__(self, hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request may not be served; None if it may."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1:  # our own protocol lets none through; other servers do
            return Refusal(400, "host_not_clear", "the request has more than one Host: send one")
        if _is_probe(scope):
            return None
        host = hosts[0] if hosts else b""
        if ANY_HOST not in self._hosts and _name(host) not in self._hosts:
            detail = (
                f"this server is not called {host.decode('latin-1')!a}: "
                "start it with --allowed-host and the name"
            )
            return Refusal(421, "host_not_allowed", detail)
        origin = foreign_origin(scope["method"], scope["headers"], self._origins)
        if origin is None:
            return None
        detail = (
            f"pages of {origin!a} may not write here: "
            "start the server with --cors-origin and the origin"
        )
        return Refusal(403, "origin_not_allowed", detail)


def _is_probe(scope: Scope) -> bool:
    below = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] in ("GET", "HEAD") and below in _FOR_PROBES


def _name(host: bytes) -> str:
    """A Host header's name without its port, in lower case."""
    text = host.decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdigit() else text
