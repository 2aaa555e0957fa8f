"""The subscription APIs over HTTP: what is below `__ds/`.

Refusals carry the protocol's `{"error": {"code": ...}}`, and beside it the fields of a problem
(RFC 9457) that every refusal of ours has. They are `application/json`, as the protocol says.

There is no CORS here: pages of other origins have no business with subscriptions.

Source: Durable Streams 6, 7.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.errors import AccessRefused, StreamNotFound, SubscriptionRefused, TailraceError
from tailrace.protocol.authorize import Authorize, Right, ask_scope
from tailrace.protocol.body import Body
from tailrace.protocol.fields import Fields, fields_of
from tailrace.protocol.path import path_below
from tailrace.protocol.reply import Reply, fields_of_refusal
from tailrace.protocol.sending import send_last
from tailrace.semantics import SANDBOX_HEADERS, detail_of, problem_document
from tailrace.subscriptions.delivery import snapshot_of
from tailrace.subscriptions.keys import Keys
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
from tailrace.subscriptions.state import SubscriptionState
from tailrace.subscriptions.token import make_token, read_token
from tailrace.subscriptions.webhook import Webhooks

__all__ = ["Control"]

_HEADERS: Final = (
    *((name.encode(), value.encode()) for name, value in SANDBOX_HEADERS),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_UNSTORED: Final = (b"cache-control", b"no-store")
_METHODS: Final = {
    "jwks": ("GET",),
    "subscription": ("PUT", "GET", "DELETE"),
    "streams": ("POST",),
    "stream": ("DELETE",),
    "callback": ("POST",),
    "claim": ("POST",),
    "ack": ("POST",),
    "release": ("POST",),
}
_WITH_BODY: Final = ("PUT", "POST")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Asked:
    """One request."""

    __slots__ = ("body", "fields", "route", "scope")

    def __init__(self, scope: Scope, fields: Fields, route: Route, body: bytes) -> None:
        self.scope = scope
        self.fields = fields
        self.route = route
        self.body = body

    def json(self) -> dict[str, Any]:
        return json_of(self.body, self.fields)


class Control:
    """Answers requests to the subscription APIs.

    Args:
        service: What changes subscriptions.
        keys: What signs.
        webhooks: What judges URLs.
        options: The settings.
        clock: Milliseconds since the epoch.
        authorize: Asked for what a subscription is about; None: everybody may do everything. A
            worker that has a wake's token has been asked, or was called by us: the token is its
            right to answer for that wake.
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
        self._verbs: dict[tuple[str, str], Callable[[_Asked], Awaitable[Reply]]] = {
            ("GET", "jwks"): self._jwks,
            ("PUT", "subscription"): self._put,
            ("GET", "subscription"): self._get,
            ("DELETE", "subscription"): self._delete,
            ("POST", "streams"): self._link,
            ("DELETE", "stream"): self._unlink,
            ("POST", "callback"): self._callback,
            ("POST", "claim"): self._claim,
            ("POST", "ack"): self._ack,
            ("POST", "release"): self._release,
        }

    async def serve(self, scope: Scope, receive: Receive, send: Send, *, is_running: bool) -> None:
        """Answer one request.

        Args:
            scope: Of HTTP.
            receive: ASGI's.
            send: ASGI's.
            is_running: Wakes are delivered; without, nothing is snapshot to anybody.
        """
        fields = dict(scope["headers"])
        body = Body(receive, fields)
        try:
            fields = fields_of(scope["headers"])
            reply = await self._answer(scope, fields, body, is_running=is_running)
        except TailraceError as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # a fault to be seen
            reply = _refusal(error)
        finally:
            body.release()
        if reply is None:
            return
        if scope["method"] in _WITH_BODY and body.is_much:
            await send_last(reply, scope, body, send, linger=True)
            return
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(
        self, scope: Scope, fields: Fields, body: Body, *, is_running: bool
    ) -> Reply | None:
        below = path_below(scope) or ""
        method: str = scope["method"]
        route = route_of(below)
        if route is None:
            raise StreamNotFound(below)
        verb = self._verbs.get((method, route.action))
        if verb is None:
            return _not_allowed(method, route)
        if not is_running:
            raise SubscriptionRefused(
                "SUBSCRIPTIONS_NOT_RUNNING", 503, "subscriptions do not run in this server"
            )
        data: bytes | None = b""
        if method in _WITH_BODY:
            data = await body.read(limits.MAX_SUBSCRIPTION_BODY_BYTES, limits.BODY_TIMEOUT)
        if data is None:
            return None  # the client has left
        return await verb(_Asked(scope, fields, route, data))

    async def _jwks(self, asked: _Asked) -> Reply:
        keys = json.dumps(await self._keys.jwks()).encode()
        headers = [
            *_HEADERS,
            (b"cache-control", b"public, max-age=300"),
            (b"content-type", b"application/jwk-set+json"),
            (b"content-length", b"%d" % len(keys)),
        ]
        return Reply(200, headers, keys)

    async def _put(self, asked: _Asked) -> Reply:
        config = config_of(asked.json())
        if config.pattern is not None and not self._options.patterns:
            raise SubscriptionRefused("PATTERNS_NOT_ALLOWED", 403, "name the streams one by one")
        await ask_scope(self._authorize, asked.scope, config.rights)
        if config.webhook_url is not None:
            self._webhooks.check(config.webhook_url)
            await self._keys.signing()  # or it could never be delivered
        base_url = self._base_url(asked)
        state, is_new = await self._service.create(asked.route.name, config, base_url)
        if not is_new:
            await ask_scope(self._authorize, asked.scope, state.rights)
        return _json(201 if is_new else 200, await self._document(state, base_url))

    async def _get(self, asked: _Asked) -> Reply:
        state = await self._permitted(asked)
        return _json(200, await self._document(state, self._base_url(asked)))

    async def _delete(self, asked: _Asked) -> Reply:
        try:
            state = await self._service.get(asked.route.name)
        except SubscriptionRefused:
            return _nothing()  # there is none
        await ask_scope(self._authorize, asked.scope, state.rights)
        await self._service.delete(state)
        return _nothing()

    async def _link(self, asked: _Asked) -> Reply:
        streams = streams_of(asked.json())
        rights = (Right("subscribe", path) for path in streams)
        await ask_scope(self._authorize, asked.scope, rights)
        await self._permitted(asked)
        await self._service.link(asked.route.name, streams)
        return _nothing()

    async def _unlink(self, asked: _Asked) -> Reply:
        rights = (Right("subscribe", asked.route.path),)
        await ask_scope(self._authorize, asked.scope, rights)
        await self._permitted(asked)
        await self._service.unlink(asked.route.name, asked.route.path)
        return _nothing()

    async def _claim(self, asked: _Asked) -> Reply:
        worker = worker_of(asked.json())
        permitted = await self._permitted(asked)
        state = await self._service.claim(asked.route.name, worker)
        if state.rights != permitted.rights:  # streams were added since, or it is another one
            await ask_scope(self._authorize, asked.scope, state.rights)
        told = {
            "wake_id": state.wake_id,
            "generation": state.generation,
            "token": make_token(self._keys.secret, state, self._clock()),
            "streams": snapshot_of(state),
            "lease_ttl_ms": state.config.lease_ms,
        }
        return _json(200, told)

    async def _callback(self, asked: _Asked) -> Reply:
        return await self._answered(asked, by_webhook=True)

    async def _ack(self, asked: _Asked) -> Reply:
        return await self._answered(asked, by_webhook=False)

    async def _answered(self, asked: _Asked, *, by_webhook: bool) -> Reply:
        name = asked.route.name
        token = read_token(self._keys.secret, bearer_of(asked.fields), name, self._clock())
        told = ack_request_of(asked.json())
        next_wake = await self._service.answered(name, token, told, by_webhook=by_webhook)
        return _json(200, {"ok": True, "next_wake": next_wake})

    async def _release(self, asked: _Asked) -> Reply:
        name = asked.route.name
        token = read_token(self._keys.secret, bearer_of(asked.fields), name, self._clock())
        await self._service.release(name, token, wake_of(asked.json()))
        return _nothing()

    async def _permitted(self, asked: _Asked) -> SubscriptionState:
        """The subscription that a request names, if it may see and change it.

        Raises:
            SubscriptionRefused: There is none (404).
            AccessRefused: It may not.
        """
        state = await self._service.get(asked.route.name)
        await ask_scope(self._authorize, asked.scope, state.rights)
        return state

    def _base_url(self, asked: _Asked) -> str:
        return base_url_of(asked.scope, asked.fields, self._options.public_url)

    async def _document(self, state: SubscriptionState, base_url: str) -> dict[str, Any]:
        """A subscription as its clients see it.

        Where the keys are is said of the server that the client has asked, never of the one that
        the subscription's creator named: that could be a server of the creator's own keys.
        """
        config = state.config
        document: dict[str, Any] = {
            "id": state.id,
            "subscription_id": state.id,
            "type": config.type,
            "pattern": config.pattern,
            "streams": [
                {
                    "path": path,
                    "link_type": "explicit" if link.explicit else "glob",
                    "acked_offset": str(link.acked),
                }
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
    reply = _refused(error.status, code, detail_of(error), facts)
    if isinstance(error, AccessRefused):
        reply.headers.extend(fields_of_refusal(error))
        return reply
    if error.status == HTTPStatus.UNAUTHORIZED:
        reply.headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        reply.headers.append((b"retry-after", b"%d" % limits.RETRY_AFTER))
    return reply


def _not_allowed(method: str, route: Route) -> Reply:
    allowed = ", ".join(_METHODS[route.action])
    detail = f"{method[:20]!a} is not one of {allowed}"
    reply = _refused(405, "METHOD_NOT_ALLOWED", detail, {})
    reply.headers.append((b"allow", allowed.encode()))
    return reply


def _refused(status: int, code: str, detail: str, facts: Mapping[str, Any]) -> Reply:
    error = {"code": code, "message": detail, **facts}
    return _json(status, {"error": error, **problem_document(status, code.lower(), detail)})


def _json(status: int, told: Mapping[str, Any]) -> Reply:
    body = json.dumps(told).encode()
    headers = [
        *_HEADERS,
        _UNSTORED,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    return Reply(status, headers, body)


def _nothing() -> Reply:
    return Reply(204, [*_HEADERS, _UNSTORED])


def _time(milliseconds: int) -> str:
    context = _EPOCH + timedelta(milliseconds=milliseconds)
    return context.isoformat(timespec="milliseconds").replace("+00:00", "Z")
