"""Requests of the streams protocol, with a model that knows the right answer to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.fuzz.conversation import Request
from tests.fuzz.requests import Fields, head

__all__ = ["StreamsModel"]

_IS_TEXT: Final = (("Content-Type", "text/plain"),)
_NAMES: Final = ("a", "b", "c/d")

_VALUES: Final = ("", "0", "-1", "1", "9" * 30, "true", "maybe", "\xff", "a,b", "x" * 3000, "now")
_FIELDS: Final = (
    *("Stream-TTL", "Stream-Expires-At", "Stream-Seq", "Stream-Closed", "Stream-Forked-From"),
    *("Stream-Fork-Offset", "Producer-Id", "Producer-Epoch", "Producer-Seq", "If-None-Match"),
    *("Content-Type", "Accept", "Origin", "Last-Event-ID", "Access-Control-Request-Method"),
)
_QUERIES: Final = ("", "?offset=", "?offset=-1", "?offset=0_0", "?offset=%00", "?offset=1&offset=2")


@dataclass(slots=True)
class _Stream:
    data: bytes = b""
    closed: bool = False


@dataclass(slots=True)
class StreamsModel:
    """The streams of one connection, below its mark, as they are after all requests so far."""

    rng: Random
    mark: str
    streams: dict[str, _Stream] = field(default_factory=dict)

    def request(self, number: int) -> Request:
        """A random next request. The model applies it."""
        verbs: tuple[tuple[int, Callable[[str, int], Request]], ...] = (
            *((4, self._create), (6, self._append), (6, self._read), (1, self._close)),
            *((1, self._delete), (1, self._look), (4, self._odd)),
        )
        make = self.rng.choices([each for _, each in verbs], [often for often, _ in verbs])[0]
        return make(self.rng.choice(_NAMES), number)

    def _create(self, name: str, number: int) -> Request:
        data = self._data() if self.rng.random() < 0.5 else b""
        found = self.streams.get(name)
        if found is None:
            self.streams[name] = _Stream(data)
            return self._asked("create", "PUT", name, number, (201,), _IS_TEXT, data)
        return self._asked("create again", "PUT", name, number, (200, 409), _IS_TEXT, data)

    def _append(self, name: str, number: int) -> Request:
        found, data = self.streams.get(name), self._data()
        if self.rng.random() < 0.1:
            return self._asked("append nothing", "POST", name, number, (400, 404, 409), _IS_TEXT)
        if found is None:
            return self._asked("append", "POST", name, number, (404,), _IS_TEXT, data)
        if found.closed:
            return self._asked("append", "POST", name, number, (409,), _IS_TEXT, data)
        if self.rng.random() < 0.1:
            other = [("Content-Type", "text/csv")]
            return self._asked("append csv", "POST", name, number, (409,), other, data)
        found.data += data
        return self._asked("append", "POST", name, number, (204,), _IS_TEXT, data)

    def _read(self, name: str, number: int) -> Request:
        found = self.streams.get(name)
        live = self.rng.random() < 0.2 and found is not None and found.closed
        query = "?offset=-1&live=sse" if live else self.rng.choice(("", "?offset=-1"))
        if self.rng.random() < 0.1:
            return self._asked("read zzz", "GET", f"{name}?offset=zzz", number, (400, 404))
        status = 404 if found is None else 200
        body = None if found is None or live else found.data
        return self._asked("read", "GET", name + query, number, (status,), body=body)

    def _close(self, name: str, number: int) -> Request:
        found = self.streams.get(name)
        if found is not None:
            found.closed = True
        status = 404 if found is None else 204
        return self._asked("close", "POST", name, number, (status,), [("Stream-Closed", "true")])

    def _delete(self, name: str, number: int) -> Request:
        status = 404 if self.streams.pop(name, None) is None else 204
        return self._asked("delete", "DELETE", name, number, (status,))

    def _look(self, name: str, number: int) -> Request:
        status = 200 if name in self.streams else 404
        return self._asked("look", "HEAD", name, number, (status,))

    def _odd(self, _: str, number: int) -> Request:
        """A strange request, for a stream that no other request uses. Any 2xx, 3xx or 4xx is
        right."""
        verb = self.rng.choice(("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"))
        fields = [
            (name, self.rng.choice(_VALUES))
            for name in self.rng.sample(_FIELDS, self.rng.randrange(4))
        ]
        data = self.rng.choice((b"", self._data(), b"\xff", b"[" * 200, b'[{"a":1}]'))
        target = "odd" + self.rng.choice(_QUERIES)
        statuses = (*range(200, 207), *range(300, 309), *range(400, 432))
        return self._asked("odd", verb, target, number, statuses, fields, data)

    def _data(self) -> bytes:
        return self.mark.encode() * self.rng.choice((1, 1, 10, 100))

    def _asked(
        self,
        kind: str,
        method: str,
        target: str,
        number: int,
        statuses: tuple[int, ...],
        fields: Fields = (),
        data: bytes = b"",
        body: bytes | None = None,
    ) -> Request:
        given = [
            *fields,
            *([("Content-Length", str(len(data)))] if method != "GET" or data else []),
        ]
        raw = head(method, f"/v1/stream/{self.mark}/{target}", given) + data
        return Request(f"stream: {kind}", raw, method, number, frozenset(statuses), body)
