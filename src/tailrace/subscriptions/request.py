"""What a request to the subscription APIs asks for. Pure: path, header fields and JSON to values.

Source: Durable Streams 6, 7.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tailrace import limits
from tailrace.errors import InvalidRequest, SubscriptionRefused
from tailrace.protocol import Fields, is_reserved, stream_path
from tailrace.subscriptions.pattern import Pattern
from tailrace.subscriptions.state import PULL_WAKE, WEBHOOK, Config
from tailrace.subscriptions.transitions import Ack, AckRequest, Wake

__all__ = [
    "Route",
    "ack_request_of",
    "base_url_of",
    "bearer_of",
    "config_of",
    "json_of",
    "route_of",
    "streams_of",
    "wake_of",
    "worker_of",
]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_HOST: Final = re.compile(
    r"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?"
)
_ACTIONS: Final = ("streams", "callback", "claim", "ack", "release")
_JSON: Final = re.compile(rb"application/json[ \t]*(;.*)?", re.IGNORECASE | re.DOTALL)

Document = Mapping[str, Any]
"""The JSON object in a request's body."""


@dataclass(frozen=True, slots=True)
class Route:
    """Which of the APIs a path names.

    Args:
        action: "jwks", "subscription", "streams", "stream", "callback", "claim", "ack", "release".
        name: The subscription's id; empty for "jwks".
        path: The stream, for "stream".
    """

    action: str
    name: str = ""
    path: str = ""


def route_of(below: str) -> Route | None:
    """The API that a path names; None if there is no such API.

    Args:
        below: The path below the mount path: `__ds/...`.

    Raises:
        SubscriptionRefused: Not a valid id of a subscription, or name of a stream (400).
    """
    if below == "__ds/jwks.json":
        return Route("jwks")
    root, _, rest = below.partition("/subscriptions/")
    name, _, action = rest.partition("/")
    if root != "__ds" or not name:
        return None
    if len(name.encode(errors="surrogatepass")) > limits.MAX_SUBSCRIPTION_ID_BYTES:
        raise _invalid(f"an id may have at most {limits.MAX_SUBSCRIPTION_ID_BYTES} bytes")
    if _CONTROL.search(name):
        raise _invalid("an id may not have control characters")
    if not action:
        return Route("subscription", name)
    if action in _ACTIONS:
        return Route(action, name)
    kind, _, path = action.partition("/")
    return Route("stream", name, _stream(path)) if kind == "streams" and path else None


def json_of(body: bytes, fields: Fields) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises:
        SubscriptionRefused: The body is not a JSON object (400), or its Content-Type does not say
            so (415).
    """
    # A page of another origin can make a browser send any body, but not with this Content-Type.
    if not _JSON.fullmatch(fields.get(b"content-type", b"").strip()):
        raise SubscriptionRefused(
            "INVALID_REQUEST", 415, "send JSON with Content-Type: application/json"
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _invalid("the body is not JSON") from None
    if not isinstance(document, dict):
        raise _invalid("the body must be a JSON object")
    return document


def config_of(document: Document) -> Config:
    """The configuration of a new subscription.

    Raises:
        SubscriptionRefused: A field is missing or not valid (400).

    Source: Durable Streams 6.2.
    """
    kind = document.get("type")
    if kind not in (WEBHOOK, PULL_WAKE):
        raise _invalid('type must be "webhook" or "pull-wake"')
    pattern = _text(document, "pattern", limits.MAX_PATTERN_BYTES)
    if pattern is not None:
        # Checked as a path is: `a/../b` would match nothing, but an `authorize` that looks at the
        # beginning would take it for something below `a/`.
        pattern = Pattern(_stream(pattern)).text
    streams = streams_of(document) if document.get("streams") is not None else ()
    if pattern is None and not streams:
        raise _invalid("give a pattern, or streams")
    wake_stream = _text(document, "wake_stream", limits.MAX_STREAM_PATH_BYTES)
    config = Config(
        type=kind,
        pattern=pattern,
        streams=streams,
        webhook_url=_webhook_url(document) if kind == WEBHOOK else None,
        wake_stream=_stream(wake_stream or "") if kind == PULL_WAKE else None,
        lease_ms=_lease_ms(document),
        description=_text(document, "description", limits.MAX_DESCRIPTION_BYTES),
    )
    if config.wake_stream in config.streams:
        raise _invalid("a subscription cannot wake itself: wake_stream is one of its streams")
    return config


def streams_of(document: Document) -> tuple[str, ...]:
    """The paths of streams, sorted, each once.

    Raises:
        SubscriptionRefused: They are not paths of streams (400), or too many (413).
    """
    streams = document.get("streams")
    if not isinstance(streams, list) or not all(isinstance(each, str) for each in streams):
        raise _invalid("streams must be an array of paths")
    if len(streams) > limits.MAX_SUBSCRIPTION_STREAMS:
        raise SubscriptionRefused(
            "TOO_MANY_STREAMS", 413, f"{limits.MAX_SUBSCRIPTION_STREAMS:,} streams are the most"
        )
    return tuple(sorted({_stream(each) for each in streams}))


def worker_of(document: Document) -> str:
    """The worker that claims.

    Raises:
        SubscriptionRefused: Its name is missing or not valid (400).
    """
    worker = _text(document, "worker", limits.MAX_WORKER_NAME_BYTES)
    if worker is None:
        raise _invalid("worker must be a name")
    return worker


def wake_of(document: Document) -> Wake:
    """The wake that a worker answers for.

    Raises:
        SubscriptionRefused: The request does not name one (400).
    """
    wake_id, generation = document.get("wake_id"), document.get("generation")
    if not isinstance(wake_id, str) or type(generation) is not int:
        raise _invalid("give wake_id, a string, and generation, a number")
    return Wake(wake_id, generation)


def ack_request_of(document: Document) -> AckRequest:
    """A callback or an ack.

    Raises:
        SubscriptionRefused: A field is missing or not valid (400).

    Source: Durable Streams 7.1, 7.2.
    """
    acks, done = document.get("acks"), document.get("done")
    if acks is not None and not isinstance(acks, list):
        raise _invalid("acks must be an array")
    if done is not None and type(done) is not bool:
        raise _invalid("done must be true or false")
    return AckRequest(wake_of(document), tuple(_ack(each) for each in acks or ()), done is True)


def bearer_of(fields: Fields) -> str:
    """The bearer token of a request.

    Raises:
        SubscriptionRefused: The request has no token (401).

    Source: RFC 6750 2.1.
    """
    scheme, _, token = fields.get(b"authorization", b"").decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise SubscriptionRefused(
            "TOKEN_INVALID", 401, "send the wake's token as Authorization: Bearer ..."
        )
    return token.strip()


def base_url_of(scope: Any, fields: Fields, public_url: str | None) -> str:
    """The URL at which the client of a request reaches the streams.

    Args:
        scope: The request's.
        fields: Its header fields.
        public_url: `SubscriptionOptions.public_url`; if it is not None, it is the answer.

    Raises:
        SubscriptionRefused: `public_url` is None, and the request's Host is not valid (400).
    """
    if public_url is not None:
        return public_url.rstrip("/")
    host = fields.get(b"host", b"").decode("latin-1")
    if not _HOST.fullmatch(host):
        raise _invalid(
            "the request has no valid Host, and the server has no public_url: send a Host"
        )
    return f"{scope.get('scheme', 'http')}://{host}{scope.get('root_path', '')}"


def _webhook_url(document: Document) -> str:
    webhook = document.get("webhook")
    url = webhook.get("url") if isinstance(webhook, dict) else None
    if not isinstance(url, str) or not url:
        raise _invalid("a webhook subscription needs webhook.url")
    return url


def _lease_ms(document: Document) -> int:
    lease = document.get("lease_ttl_ms")
    if lease is None:
        return limits.LEASE_MS
    least, most = limits.MIN_LEASE_MS, limits.MAX_LEASE_MS
    if type(lease) is not int or not least <= lease <= most:
        raise _invalid(f"lease_ttl_ms must be a whole number from {least} to {most}")
    return lease


def _ack(fields: Any) -> Ack:
    stream = fields.get("stream") if isinstance(fields, dict) else None
    offset = fields.get("offset") if isinstance(fields, dict) else None
    if not isinstance(stream, str) or not isinstance(offset, str):
        raise _invalid("each ack must have a stream and an offset")
    return Ack(stream.strip("/"), offset)


def _text(document: Document, name: str, most: int) -> str | None:
    value = document.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or _has_surrogate(value) or len(value.encode()) > most:
        raise _invalid(f"{name} must be a string of at most {most:,} bytes")
    return value


def _stream(path: str) -> str:
    path = path.strip("/")
    try:
        if is_reserved(path):
            raise InvalidRequest("the path", path, "one that does not begin with __ds/")
        return stream_path(path)
    except InvalidRequest as error:
        raise _invalid(str(error)) from None


def _has_surrogate(text: str) -> bool:
    # JSON can escape half of a surrogate pair, which cannot be written in UTF-8.
    return any("\ud800" <= each <= "\udfff" for each in text)


def _invalid(reason: str) -> SubscriptionRefused:
    return SubscriptionRefused("INVALID_REQUEST", 400, reason)
