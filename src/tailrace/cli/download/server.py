"""The server that a file comes from: the only file here that knows the HTTP client.

The client is httpx2, the continuation of httpx (whose last release is of 2024) by its own author
and Pydantic's people: async on anyio, raw bytes as they come, and it tells a body that was cut from
one that ended. Nothing of it leaves this file but the response's raw bytes.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2

from tailrace.cli.download.answer import Answer, read_answer
from tailrace.cli.download.order import Order
from tailrace.cli.download.resume import Question
from tailrace.errors import DownloadFailed

__all__ = ["Reply", "Server", "Trouble"]


class Trouble(Exception):
    """What another attempt may mend.

    Args:
        reason: In words.
        after: The server's Retry-After in seconds, if it sent one.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and the bytes that follow it as they come."""

    answer: Answer
    body: AsyncIterator[bytes]


class Server:
    """Asks for what an order is of. An async context manager, for its connections.

    Args:
        order: The URL, the headers, the number of connections and the time-out.
        agent: The User-Agent header.
    """

    def __init__(self, order: Order, agent: str) -> None:
        self._order = order
        self._origin = httpx2.URL(order.url).origin
        connections = order.jobs + 1
        self._client = httpx2.AsyncClient(
            headers={
                "accept": "*/*",
                # A coding would be chosen for each request, and its bytes are not the file's.
                "accept-encoding": "identity",
                "user-agent": agent,
            },
            follow_redirects=True,
            timeout=order.timeout,
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections
            ),
            event_hooks={"request": [self._check]},
        )

    async def __aenter__(self) -> Server:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncGenerator[Reply]:
        """Ask, and read the reply within the block.

        Raises:
            Trouble: The connection failed, before or within the block.
            DownloadFailed: The same would happen again: a certificate, a scheme, redirects.
        """
        headers = [*self._order.headers, *question.headers().items()]
        try:
            async with self._client.stream("GET", self._order.url, headers=headers) as response:
                answer = read_answer(response.status_code, response.headers, datetime.now(UTC))
                async with aclosing(response.aiter_raw()) as body:
                    yield Reply(answer, body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._mapped(error) from error

    async def _check(self, request: httpx2.Request) -> None:
        """Called for each request, with those that follow a redirect."""
        origin = request.url.origin
        if self._origin.scheme == "https" and origin.scheme != "https":
            raise DownloadFailed("the server redirects from https to http, which anyone can change")
        if origin != self._origin:
            # What the user sends may be a secret for that server alone; a redirect leads elsewhere.
            for name, _ in self._order.headers:
                request.headers.pop(name, None)

    def _mapped(self, error: Exception) -> Exception:
        """The client's error as one of ours, the most specific first."""
        cause = _innermost(error)
        silence = f"{self._order.timeout:g} s"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return DownloadFailed(
                f"the server's certificate is not trusted: {cause.verify_message}"
            )
        match error:
            case httpx2.UnsupportedProtocol() | httpx2.InvalidURL() | httpx2.LocalProtocolError():
                return DownloadFailed(f"the request cannot be made: {error}")
            case httpx2.TooManyRedirects():
                return DownloadFailed("the server redirects without end")
            case httpx2.ConnectTimeout():
                return Trouble(f"no connection within {silence}")
            case httpx2.TimeoutException():
                return Trouble(f"nothing came for {silence}")
            case httpx2.ConnectError():
                return Trouble(f"no connection: {_reason(cause)}")
            case httpx2.TransportError():
                return Trouble(f"the connection broke: {_reason(cause)}")
            case _:
                return DownloadFailed(str(error))


def _innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
