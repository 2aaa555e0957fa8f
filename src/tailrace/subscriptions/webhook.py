"""Sends a webhook: resolve its host, check every address, connect to one, read a short answer.

The name is resolved here, and the request is made to an address, with the name in `Host` and in TLS
(SNI, certificate). If the HTTP client resolved the name again, it could get another address.
Connections are not kept: the client's pool knows them by address, and would send a request for one
host over a connection that has another host's certificate.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.runtime import call_in_thread
from tailrace.subscriptions.options import SubscriptionOptions
from tailrace.subscriptions.target import Target, parse_target

if TYPE_CHECKING:
    import httpx2

__all__ = ["Resolve", "Undeliverable", "Webhooks", "is_done", "resolve"]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host, for a port."""

_MOST_ADDRESSES: Final = 3
"""Addresses that are tried, one after the other."""


class Undeliverable(Exception):
    """A webhook was not accepted; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class _Request:
    target: Target
    path: str
    host: str
    body: bytes
    signature: str


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as the system's resolver gives them."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def is_done(answer: bytes) -> bool:
    """Whether a receiver answered that it has processed everything.

    Source: Durable Streams 7.1.
    """
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("done") is True


class Webhooks:
    """Sends webhooks.

    Args:
        options: What is allowed, and how certificates are checked.
        resolve: Finds the addresses of a host.
    """

    def __init__(self, options: SubscriptionOptions, resolve: Resolve = resolve) -> None:
        self._options = options
        self._resolve = resolve
        self._client: httpx2.AsyncClient | None = None
        self._open_lock = anyio.Lock()

    def check(self, url: str) -> None:
        """Refuse a URL to which no webhook could be delivered.

        Raises:
            SubscriptionRefused: A webhook may not have the URL (400), or the package that sends
                is not installed (503).
        """
        parse_target(url, allow_localhost=self._options.allow_localhost)
        if find_spec("httpx2") is None:
            raise _missing()

    async def aclose(self) -> None:
        """Close the HTTP client, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def post(self, url: str, body: bytes, signature: str) -> bytes:
        """Send a webhook; returns the answer's body, empty if it is too long.

        The caller limits the time.

        Raises:
            Undeliverable: No address could be reached, or the answer was not 2xx.
        """
        try:
            target = parse_target(url, allow_localhost=self._options.allow_localhost)
            client = await self._opened()
        except SubscriptionRefused as error:
            raise Undeliverable(error.reason) from error
        addresses = await self._addresses_of(target)
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = _Request(target, path, parts.netloc, body, signature)
        unreachable = ""
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return await _send(client, request, address)
            except ConnectionError as error:
                unreachable = str(error)
        raise Undeliverable(unreachable)

    async def _addresses_of(self, target: Target) -> Sequence[str]:
        try:
            with anyio.fail_after(limits.WEBHOOK_CONNECT_TIMEOUT):
                addresses = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise Undeliverable(f"{target.host} cannot be resolved: {error}") from error
        bad = [address for address in addresses if not target.allows(address)]
        if bad or not addresses:
            found = ", ".join(bad) or "none"
            raise Undeliverable(f"{target.host} has addresses that are not allowed: {found}")
        return addresses

    async def _opened(self) -> httpx2.AsyncClient:
        async with self._open_lock:
            if self._client is None:
                # The import and the certificates take a tenth of a second or more; no stream may
                # wait so long.
                self._client = await call_in_thread(self._make)
        return self._client

    def _make(self) -> httpx2.AsyncClient:
        try:
            import httpx2
        except ModuleNotFoundError:
            raise _missing() from None
        return httpx2.AsyncClient(
            verify=self._options.ssl_context or True,
            trust_env=False,  # no proxy: a proxy would resolve the name itself
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=limits.WEBHOOK_CONNECT_TIMEOUT),
            limits=httpx2.Limits(max_keepalive_connections=0),
        )


def _missing() -> SubscriptionRefused:
    return SubscriptionRefused(
        "WEBHOOKS_UNAVAILABLE",
        503,
        'httpx2, which sends webhooks, is missing: pip install "tailrace[server]"',
    )


async def _send(client: httpx2.AsyncClient, request: _Request, address: str) -> bytes:
    import httpx2

    target = request.target
    literal = f"[{address}]" if ":" in address else address
    headers = {
        "Host": request.host,
        "Content-Type": "application/json",
        "Webhook-Signature": request.signature,
        "User-Agent": "tailrace",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    try:
        async with client.stream(
            "POST",
            f"{target.scheme}://{literal}:{target.port}{request.path}",
            content=request.body,
            headers=headers,
            extensions={"sni_hostname": target.host.removesuffix(".")},
        ) as response:
            if not 200 <= response.status_code < 300:
                raise Undeliverable(f"{target.host} answered {response.status_code}")
            return await _beginning(response)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise ConnectionError(f"{target.host} at {address}: {error}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
        raise Undeliverable(f"{target.host} at {address}: {error!r}") from error


async def _beginning(response: httpx2.Response) -> bytes:
    """An answer's body; empty if it has more than `limits.MAX_WEBHOOK_ANSWER_BYTES`."""
    answer = b""
    with anyio.CancelScope() as scope:
        async for part in response.aiter_raw():
            answer += part
            if len(answer) > limits.MAX_WEBHOOK_ANSWER_BYTES:
                # After a `break`, the client's nested generators would keep the connection until
                # the garbage collector closes them.
                answer = b""
                scope.cancel()
    return answer
