"""The subscription APIs over HTTP: what is below `__ds/`.

A refusal has the protocol's `{"error": {"code": ...}}`, and beside it the fields of a problem
document (RFC 9457), as all our refusals do. It is `application/json`, as the protocol says.

There is no CORS here: pages of other origins cannot use subscriptions.

Source: Durable Streams 6, 7.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.errors import AccessRefused, StreamNotFound, SubscriptionRefused, TailraceError
from tailrace.protocol import (
    Authorize,
    Body,
    Fields,
    Reply,
    Right,
    ask_scope,
    fields_of,
    fields_of_refusal,
    path_below,
    send_small,
)
from tailrace.semantics import SANDBOX_HEADERS, detail_of, problem_document
from tailrace.subscriptions.keys import Keys, make_token, read_token
from tailrace.subscriptions.options import SubscriptionOptions
from tailrace.subscriptions.request import (
    Route,
    ack_request_of,
    base_url_of,
    bearer_of,
    config_of,
    json_of,
    route_of,
    streams_of,
    wake_of,
    worker_of,
)
from tailrace.subscriptions.service import SubscriptionService
from tailrace.subscriptions.state import SubscriptionState, link_type
from tailrace.subscriptions.transitions import TokenClaims
from tailrace.subscriptions.webhook import Webhooks

__all__ = ["Control"]

_HEADERS: Final = (
    *((name.encode(), value.encode()) for name, value in SANDBOX_HEADERS),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_WITH_BODY: Final = ("PUT", "POST")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Request:
    scope: Scope
    fields: Fields
    route: Route
    body: bytes

    @property
    def name(self) -> str:
        """The subscription's id."""
        return self.route.name

    def json(self) -> dict[str, Any]:
        return json_of(self.body, self.fields)


class Control:
    """Answers requests to the subscription APIs.

    Args:
        service: Changes subscriptions.
        keys: Sign tokens.
        webhooks: Check the URLs of webhooks.
        options: The settings.
        clock: Milliseconds since the epoch.
        authorize: Asked for each stream and pattern of a subscription; None: everybody may do
            everything. It is not asked when a worker shows the token of a wake: the worker got that
            by a claim, for which `authorize` was asked, or in a webhook of this server.
    """

    def __init__(
        self,
        service: SubscriptionService,
        keys: Keys,
        webhooks: Webhooks,
        options: SubscriptionOptions,
        clock: Callable[[], int],
        authorize: Authorize | None = None,
    ) -> None:
        self._authorize = authorize
        self._service = service
        self._keys = keys
        self._webhooks = webhooks
        self._options = options
        self._clock = clock
        self._handlers: dict[str, dict[str, Callable[[_Request], Awaitable[Reply]]]] = {
            "jwks": {"GET": self._jwks},
            "subscription": {"PUT": self._put, "GET": self._get, "DELETE": self._delete},
            "streams": {"POST": self._link},
            "stream": {"DELETE": self._unlink},
            "callback": {"POST": self._callback},
            "claim": {"POST": self._claim},
            "ack": {"POST": self._ack},
            "release": {"POST": self._release},
        }

    async def serve(self, scope: Scope, receive: Receive, send: Send, *, is_running: bool) -> None:
        """Answer one request.

        Args:
            scope: Of HTTP.
            receive: ASGI's.
            send: ASGI's.
            is_running: Whether wakes are delivered; if not, every request to a known path gets 503.
        """
        body = Body(receive, dict(scope["headers"]))
        try:
            reply = await self._answer(scope, body, is_running=is_running)
        except TailraceError as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # a fault of ours, which the server must log
            reply = _refusal(error)
        finally:
            body.release()
        if reply is not None:
            await send_small(reply, scope, body, send)

    async def _answer(self, scope: Scope, body: Body, *, is_running: bool) -> Reply | None:
        fields = fields_of(scope["headers"])
        below = path_below(scope) or ""
        method: str = scope["method"]
        route = route_of(below)
        if route is None:
            raise StreamNotFound(below)
        handlers = self._handlers[route.action]
        if method not in handlers:
            return _not_allowed(method, handlers)
        if not is_running:
            raise SubscriptionRefused(
                "SUBSCRIPTIONS_NOT_RUNNING",
                503,
                "subscriptions are not running in this server now: try again later",
            )
        data: bytes | None = b""
        if method in _WITH_BODY:
            data = await body.read(limits.MAX_SUBSCRIPTION_BODY_BYTES, limits.BODY_TIMEOUT)
        if data is None:
            return None  # the client has left
        return await handlers[method](_Request(scope, fields, route, data))

    async def _jwks(self, request: _Request) -> Reply:
        keys = await self._keys.jwks()
        return _json(200, keys, b"application/jwk-set+json", b"public, max-age=300")

    async def _put(self, request: _Request) -> Reply:
        config = config_of(request.json())
        if config.pattern is not None and not self._options.patterns:
            raise SubscriptionRefused(
                "PATTERNS_NOT_ALLOWED",
                403,
                "patterns are turned off on this server: name the streams one by one",
            )
        await ask_scope(self._authorize, request.scope, config.rights)
        if config.webhook_url is not None:
            self._webhooks.check(config.webhook_url)
            await self._keys.signing()  # refuses now: no webhook goes out without a key
        base_url = self._base_url(request)
        state, is_new = await self._service.create(request.name, config, base_url)
        if not is_new:
            await ask_scope(self._authorize, request.scope, state.rights)
        return _json(201 if is_new else 200, await self._document(state, base_url))

    async def _get(self, request: _Request) -> Reply:
        state = await self._permitted(request)
        return _json(200, await self._document(state, self._base_url(request)))

    async def _delete(self, request: _Request) -> Reply:
        try:
            state = await self._service.get(request.name)
        except SubscriptionRefused:
            return _no_content()  # it does not exist
        await ask_scope(self._authorize, request.scope, state.rights)
        await self._service.delete(state)
        return _no_content()

    async def _link(self, request: _Request) -> Reply:
        streams = streams_of(request.json())
        rights = (Right("subscribe", path) for path in streams)
        await ask_scope(self._authorize, request.scope, rights)
        await self._service.link(await self._permitted(request), streams)
        return _no_content()

    async def _unlink(self, request: _Request) -> Reply:
        path = request.route.path
        await ask_scope(self._authorize, request.scope, (Right("subscribe", path),))
        await self._service.unlink(await self._permitted(request), path)
        return _no_content()

    async def _claim(self, request: _Request) -> Reply:
        worker = worker_of(request.json())
        permitted = await self._permitted(request)
        while True:
            state = await self._service.claim(request.name, worker, permitted.rights)
            if state.rights == permitted.rights:
                break
            # Streams were added since, or another subscription has the id: nothing was claimed.
            permitted = state
            await ask_scope(self._authorize, request.scope, permitted.rights)
        document = {
            "wake_id": state.wake_id,
            "generation": state.generation,
            "token": make_token(self._keys.secret, state, self._clock()),
            "streams": state.snapshot,
            "lease_ttl_ms": state.config.lease_ms,
        }
        return _json(200, document)

    async def _callback(self, request: _Request) -> Reply:
        return await self._acknowledge(request, by_webhook=True)

    async def _ack(self, request: _Request) -> Reply:
        return await self._acknowledge(request, by_webhook=False)

    async def _acknowledge(self, request: _Request, *, by_webhook: bool) -> Reply:
        token = self._token(request)
        asked = ack_request_of(request.json())
        next_wake = await self._service.acknowledge(
            request.name, token, asked, by_webhook=by_webhook
        )
        return _json(200, {"ok": True, "next_wake": next_wake})

    async def _release(self, request: _Request) -> Reply:
        token = self._token(request)
        await self._service.release(request.name, token, wake_of(request.json()))
        return _no_content()

    def _token(self, request: _Request) -> TokenClaims:
        token = bearer_of(request.fields)
        return read_token(self._keys.secret, token, request.name, self._clock())

    async def _permitted(self, request: _Request) -> SubscriptionState:
        """The subscription that a request names, if the request may see and change it.

        Raises:
            SubscriptionRefused: It does not exist (404).
            AccessRefused: The request may not (403, or the status that `authorize` gave).
        """
        state = await self._service.get(request.name)
        await ask_scope(self._authorize, request.scope, state.rights)
        return state

    def _base_url(self, request: _Request) -> str:
        return base_url_of(request.scope, request.fields, self._options.public_url)

    async def _document(self, state: SubscriptionState, base_url: str) -> dict[str, Any]:
        """A subscription as its clients see it.

        `jwks_url` is at the URL by which this client reached the server, never at the one that the
        creator of the subscription gave: there could be a server with the creator's own keys.
        """
        config = state.config
        document: dict[str, Any] = {
            "id": state.id,
            "subscription_id": state.id,
            "type": config.type,
            "pattern": config.pattern,
            "streams": [
                {"path": path, "link_type": link_type(link), "acked_offset": str(link.acked)}
                for path, link in sorted(state.links.items())
            ],
            "wake_stream": config.wake_stream,
            "lease_ttl_ms": config.lease_ms,
            "created_at": _time(state.created_at),
            "status": state.status,
            "description": config.description,
        }
        if config.webhook_url is not None:
            document["webhook"] = {
                "url": config.webhook_url,
                "signing": {
                    "alg": "ed25519",
                    "kid": (await self._keys.signing()).kid,
                    "jwks_url": f"{base_url}/__ds/jwks.json",
                },
            }
        if state.attempts and state.retry_at is not None:
            document["next_attempt_at"] = _time(state.retry_at)
        if state.full:
            document["streams_left_out"] = True
        return document


def _refusal(error: TailraceError) -> Reply:
    code, facts = error.code.upper(), {}
    if isinstance(error, SubscriptionRefused):
        code, facts = error.wire_code, error.facts
    reply = _problem(error.status, code, detail_of(error), facts)
    if isinstance(error, AccessRefused):
        reply.headers.extend(fields_of_refusal(error))
    elif error.status == HTTPStatus.UNAUTHORIZED:
        reply.headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
    elif error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        reply.headers.append((b"retry-after", b"%d" % limits.RETRY_AFTER))
    return reply


def _not_allowed(method: str, handlers: Mapping[str, Any]) -> Reply:
    allowed = ", ".join(handlers)
    detail = f"{method[:20]!a} is not one of {allowed}"
    reply = _problem(405, "METHOD_NOT_ALLOWED", detail, {})
    reply.headers.append((b"allow", allowed.encode()))
    return reply


def _problem(status: int, code: str, detail: str, facts: Mapping[str, Any]) -> Reply:
    error = {"code": code, "message": detail, **facts}
    return _json(status, {"error": error, **problem_document(status, code.lower(), detail)})


def _json(
    status: int,
    document: Mapping[str, Any],
    media_type: bytes = b"application/json",
    caching: bytes = b"no-store",
) -> Reply:
    body = json.dumps(document).encode()
    headers = [
        *_HEADERS,
        (b"cache-control", caching),
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
    ]
    return Reply(status, headers, body)


def _no_content() -> Reply:
    return Reply(204, [*_HEADERS, (b"cache-control", b"no-store")])


def _time(milliseconds: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
