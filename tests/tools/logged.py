"""The lines of a server's access log."""

from __future__ import annotations

from typing import Any

from tests.cli.running_serve import Running
from tests.rawhttp import request

__all__ = ["logged"]


def logged(server: Running) -> list[dict[str, Any]]:
    """The lines of the access log since the last call, of all responses that are over."""
    assert request("127.0.0.1", server.port, "/healthz").status == 200
    entries = []
    while (entry := server.entry())["path"] != "/healthz":
        entries.append(entry)
    return entries
