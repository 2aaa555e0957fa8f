"""The ASGI scope of a request, as a server would write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

__all__ = ["Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for.

    Args:
        method: In capitals.
        target: Path and query, escaped as on the wire: "/a%20b?c=d".
        headers: Names and values, by the order given.
        body: The chunks of the body.
        http_version: "1.0", "1.1" or "2".
        spec_version: Of ASGI's HTTP scope: "2.3", "2.4".
        extensions: What the server offers.
    """

    method: str
    target: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    body: tuple[bytes, ...] = ()
    http_version: str = "1.1"
    spec_version: str = "2.3"
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def scope(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The scope.

        Args:
            state: What the application's lifespan has left for its requests.
        """
        raw_path, _, query = self.target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self.spec_version},
            "http_version": self.http_version,
            "method": self.method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": self._raw_headers(),
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 80),
            "state": dict(state),
            "extensions": dict(self.extensions),
        }

    def _raw_headers(self) -> list[tuple[bytes, bytes]]:
        given = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given]
        names = {name for name, _ in raw}
        if b"host" not in names:
            raw.insert(0, (b"host", b"testserver"))
        if self.body and not names & {b"content-length", b"transfer-encoding"}:
            raw.append((b"content-length", b"%d" % sum(map(len, self.body))))
        return raw
