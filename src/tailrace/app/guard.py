"""Which requests are served by a server without authentication.

Every page in a browser on this machine can send requests to 127.0.0.1. Two rules protect the
server. A page of another site may not write: a `POST` of plain text needs no preflight, so the
browser's CORS does not stop it. And an unknown host is refused: by DNS, another site's name can
lead to 127.0.0.1, and its page would then be of our own origin.

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
"""Paths that are served for any Host: a health check names an address, a pod, or nothing (HAProxy's
speaks HTTP/1.0 without a Host). The answers say only whether we serve."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served.

    Args:
        status: The HTTP status.
        code: A stable name, for programs.
        detail: A sentence, for people.
    """

    status: int
    code: str
    detail: str

    def reply(self) -> Reply:
        """The answer, a problem document (RFC 9457)."""
        body = json.dumps(problem_document(self.status, self.code, self.detail)).encode()
        headers = [
            (b"content-type", PROBLEM.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        return Reply(self.status, headers, body)


class HostGuard:
    """Checks the Host and the Origin of each request.

    Args:
        hosts: Host names that requests may have, without a port; "*" allows any.
        origins: Web origins whose pages may write, beside the server's own; "*" allows any.
    """

    def __init__(self, hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request must be refused; None if it may be served."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1:  # our own server refuses it earlier; other servers do not
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
    """The name in a Host header, without its port and in lower case."""
    text = host.decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdigit() else text
