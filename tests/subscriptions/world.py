"""Subscriptions with a store in this process, and with a clock that the test moves."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.routing import Mount

from tailrace.errors import StreamNotFound
from tailrace.store import Append, Mark, MemoryStore, NewStream, Store, split
from tailrace.subscriptions import SubscriptionOptions, Subscriptions
from tailrace.testing import Client

ROOT = "/v1/stream"
EPOCH = 1_800_000_000
LOCAL = SubscriptionOptions(allow_localhost=True)


def now_ms() -> int:
    """The event loop's time as a time of day, in milliseconds since the epoch."""
    return EPOCH * 1000 + round(anyio.current_time() * 1000)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body of a refusal, which has it in two forms."""
        told = self.json
        assert told["status"] == self.status
        assert told["code"] == told["error"]["code"].lower()
        error: dict[str, Any] = told["error"]
        return error


class World:
    """One process: its store, its subscriptions, and a client for them."""

    def __init__(self, client: Client, store: Store, subscriptions: Subscriptions) -> None:
        self.client = client
        self.store = store
        self.subscriptions = subscriptions

    async def ask(
        self, method: str, path: str, told: Any = None, *, token: str = "", **headers: str
    ) -> Answer:
        """Send a request for a path below `__ds/`. `told` is the body: bytes, or sent as JSON."""
        fields = {"host": "streams.example:8000"}
        body = b""
        if told is not None:
            body = told if isinstance(told, bytes) else json.dumps(told).encode()
            fields |= {"content-type": "application/json", "content-length": str(len(body))}
        if token:
            fields["authorization"] = f"Bearer {token}"
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.open(method, f"{ROOT}/__ds/{path}", headers=fields, body=body) as e:
            start = await e.response()
            return Answer(start.status, start.headers, await e.read_all())

    async def put(self, name: str = "s", **fields: Any) -> Answer:
        answer = await self.ask("PUT", f"subscriptions/{name}", fields)
        assert answer.status == 201, answer.body
        return answer

    async def get(self, name: str = "s") -> Any:
        answer = await self.ask("GET", f"subscriptions/{name}")
        assert answer.status == 200, answer.body
        return answer.json

    async def append(self, path: str, message: Any = 1) -> str:
        """Append to a stream, which is created if it does not exist. Returns its tail."""
        data = json.dumps(message).encode() + b","
        try:
            tail = (await self.store.append(path, Append(data=data))).tail
        except StreamNotFound:
            new = NewStream(content_type="application/json", data=data)
            tail = (await self.store.create(path, new)).info.tail
        self.subscriptions.appended(path)
        return str(tail)

    async def messages(self, path: str) -> list[Any]:
        part = await self.store.read(path, Mark.BEGINNING)
        return [json.loads(each) for each in split(part.data)]


@asynccontextmanager
async def world(
    store: Store | None = None, options: SubscriptionOptions = LOCAL, **more: Any
) -> AsyncIterator[World]:
    """A process that serves subscriptions, while the block runs. Several may share a store."""
    store = store or MemoryStore(now_ms)
    subscriptions = Subscriptions(store, options, clock=now_ms, **more)
    app = Starlette(routes=[Mount(ROOT, app=subscriptions)])
    async with subscriptions, Client(app) as client:
        yield World(client, store, subscriptions)


@dataclass(slots=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """A real HTTP server that receives webhooks.

    Attributes:
        port: The port on which it listens.
        received: The requests that came, in order.
        answers: Status and body of each answer, in order; the last one is repeated.
        headers: The headers of each answer.
        held: While it is not set, requests are not answered.
    """

    port: int = 0
    received: list[Received] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=lambda: [(200, b"{}")])
    headers: Mapping[str, str] = field(default_factory=dict)
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=b"

    def next_answer(self) -> tuple[int, bytes]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def receiver(
    answers: Sequence[tuple[int, bytes]] = ((200, b"{}"),), *, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver of webhooks on a port of this machine, while the block runs."""
    box = Receiver(answers=list(answers))
    box.held.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            box.received.append(Received(self.path, dict(self.headers), body))
            status, answer = box.next_answer()
            box.held.wait(20)
            try:
                self.send_response(status)
                for name, value in box.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                return  # the sender has left

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # a client refuses the certificate

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    box.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield box
    finally:
        box.held.set()
        server.shutdown()
        thread.join()
        server.server_close()
