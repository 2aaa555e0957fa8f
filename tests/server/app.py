# ruff: noqa: ASYNC230, ASYNC240 - small files of the tests, opened where they are sent
"""An ASGI application that uses everything that `tailrace.server` offers.

The query tells what to do: `/path?file=/tmp/x&length=5` sends that file by `pathsend`, with that
Content-Length; without `length` the body is chunked.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import psutil
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse

from tailrace import EventSourceResponse, stats
from tailrace.connection import CONNECTION, Attached, Frame, attach_offer

__all__ = ["app", "gzipped"]

attached: list[Attached] = []
refused = 0
outcomes: list[str] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    query = dict(parse_qsl(scope["query_string"].decode()))
    name = scope["path"].strip("/").replace("-", "_")
    await ROUTES[name](scope, receive, send, query)


gzipped = GZipMiddleware(app, minimum_size=0)


async def live(receive: Any, send: Any) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    if mark := os.environ.get("MARK_AT_SHUTDOWN"):
        Path(mark).write_text("the lifespan's shutdown has run")
    await send({"type": "lifespan.shutdown.complete"})


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def start(send: Any, query: dict[str, str], **more: str) -> None:
    headers = [(name.encode(), value.encode()) for name, value in more.items()]
    if "length" in query:
        headers.append((b"content-length", query["length"].encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def refuse(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Answers 413 and ends the connection, without reading the body."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body"})


async def answer(send: Any, said: Any) -> None:
    body = json.dumps(said).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def path(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await start(send, query)
    try:
        await send({"type": "http.response.pathsend", "path": query["file"]})
    except BaseException as error:
        outcomes.append(type(error).__name__)
        raise
    outcomes.append("sent")


async def zero(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """A part is `offset:count`, of which either may be missing, or `=text` for an ordinary body."""
    await start(send, query)
    parts = query["parts"].split(",")
    with open(query["file"], "rb") as file:
        file.seek(int(query.get("seek", 0)))
        given = file.fileno() if "descriptor" in query else file
        for at, part in enumerate(parts):
            more = at + 1 < len(parts)
            if part.startswith("="):
                body = {"type": "http.response.body", "body": part[1:].encode(), "more_body": more}
                await send(body)
                continue
            offset, _, count = part.partition(":")
            message = {"type": "http.response.zerocopysend", "file": given, "more_body": more}
            if offset:
                message["offset"] = int(offset)
            if count:
                message["count"] = int(count)
            await send(message)


async def pipe(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await start(send, query)
    reading, writing = os.pipe()
    try:

        async def fill() -> None:
            for word in query["words"].split(","):
                os.write(writing, word.encode())
                await asyncio.sleep(0.01)
            os.close(writing)

        filling = asyncio.create_task(fill())
        await send({"type": "http.response.zerocopysend", "file": reading})
        await filling
    finally:
        os.close(reading)


async def cancelled(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """The application cancels its transfer after a moment."""
    await start(send, query)
    try:
        async with asyncio.timeout(0.1):
            await send({"type": "http.response.pathsend", "path": query["file"]})
    except TimeoutError:
        outcomes.append("given up")


async def impatient(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """The application cancels the wait for its first message, and sends the next ones."""
    await start(send, query)
    messages = [
        {"type": "http.response.body", "body": letter * int(query["size"]), "more_body": True}
        for letter in (b"a", b"b", b"c")
    ]
    try:
        async with asyncio.timeout(0.1):
            await send(messages[0])
    except TimeoutError:
        outcomes.append("did not wait")
    for message in messages[1:]:
        await send(message)
    await send({"type": "http.response.body", "body": b"end", "more_body": False})


async def at_once(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """The application sends a message while a file is being sent."""
    await start(send, query)
    sending = asyncio.create_task(send({"type": "http.response.pathsend", "path": query["file"]}))
    await asyncio.sleep(0)
    try:
        await send({"type": "http.response.body", "body": b"between"})
    except RuntimeError as error:
        outcomes.append(str(error))
    await sending


async def starlette_file(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await FileResponse(query["file"])(scope, receive, send)


async def extensions(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    names = ["http.response.pathsend", "http.response.zerocopysend"]
    offered = scope.get("extensions", {})
    asked = [name for name in names if is_offered(name, offered, send)]
    await answer(send, asked + sorted(offered))


def is_offered(name: str, extensions: Any, send: Any) -> bool:
    """Whether the server offers an extension. As in Starlette's FileResponse, the function that
    looks has `send` as an argument.
    """
    return name in extensions


async def process(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """What the process holds, and how the transfers ended."""
    me = psutil.Process()
    links = [
        os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(fd)
    ]
    threads = [thread.name for thread in threading.enumerate()]
    said = {
        "descriptors": sorted(link for link in links if not link.startswith("socket:")),
        "sockets": sum(link.startswith("socket:") for link in links),
        "rss": me.memory_info().rss,
        "threads": threads,
        "tasks": len(asyncio.all_tasks()),
        "outcomes": outcomes,
        "open": stats().open,
    }
    await answer(send, said)


def is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


async def endless(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Messages of `size` bytes for as long as the client takes them."""
    await start(send, query)
    # One object for all responses, so that the memory of a client is only that of the server.
    body = bodies.setdefault(query["size"], b"x" * int(query["size"]))
    connection = scope["extensions"].get(CONNECTION)
    gone = asyncio.create_task(listen(receive))
    while not gone.done():
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if connection is not None:
            seen[query.get("name", "")] = connection
        await asyncio.sleep(0)


seen: dict[str, Any] = {}
bodies: dict[str, bytes] = {}


async def connection(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """What the server's connection of an `endless` response tells."""
    there = seen[query["name"]]
    await answer(
        send,
        {
            "unsent": there.unsent_bytes,
            "buffered": there.buffered_bytes,
            "progress": there.progress,
            "stalled": there.stalled_since is not None,
            "closed": there.closed,
        },
    )


async def abort(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    seen[query["name"]].abort()
    await answer(send, "aborted")


async def give_up(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Abort the connection right after the head, and return in the same turn of the loop."""
    await start(send, query)
    scope["extensions"][CONNECTION].abort()


async def listen(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def events(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Server-sent events: one; with `size`, events of that size without end."""

    async def source() -> Any:
        yield "hello"
        while "size" in query:
            yield "x" * int(query["size"])
        await asyncio.Event().wait()

    if CONNECTION in scope["extensions"]:
        seen[query.get("name", "")] = scope["extensions"][CONNECTION]
    await EventSourceResponse(source())(scope, receive, send)


async def ticks(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Server-sent events, a hundred in a second."""

    async def source() -> Any:
        while True:
            yield "tick"
            await asyncio.sleep(0.01)

    await EventSourceResponse(source())(scope, receive, send)


async def attach(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Attach the connection, and keep it until the client leaves or `/release` is requested."""
    global refused
    offer = attach_offer(scope)
    assert offer is not None
    headers = [(b"content-type", query.get("type", "text/event-stream").encode())]
    if "length" in query:
        headers.append((b"content-length", query["length"].encode()))
    head = {"type": "http.response.start", "status": 200, "headers": headers}
    there = await offer.attach(send, head, b": hello\n\n")
    if there is None:
        refused += 1
        await send({"type": "http.response.body", "body": b"refused", "more_body": False})
        return
    attached.append(there)
    if "send_while_attached" in query:
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
    released = asyncio.Event()
    releases.append(released)
    gone = asyncio.create_task(listen(receive))
    release = asyncio.create_task(released.wait())
    await asyncio.wait({gone, release}, return_when=asyncio.FIRST_COMPLETED)
    attached.remove(there)
    there.release()
    for task in (gone, release):
        task.cancel()
    await send({"type": "http.response.body", "body": b"the end", "more_body": False})


releases: list[asyncio.Event] = []


async def publish(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Write `count` messages to all attached connections. Answers how many took each message, and
    how many bytes wait in each connection.
    """
    size = int(query.get("size", 0))
    took = []
    for at in range(int(query.get("count", 1))):
        frame = Frame(b"data: %d %b\n\n" % (at, b"x" * size))
        took.append(sum([there.write(frame) for there in attached]))
    waiting = [there.buffered_bytes for there in attached]
    await answer(send, {"took": took, "waiting": waiting, "closed": [t.closed for t in attached]})


async def release(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    for each in releases:
        each.set()
    await answer(send, len(releases))


async def hello(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await start(send, query)
    await send({"type": "http.response.body", "body": b"hello"})


async def large(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """A response in one message, which the server must buffer as a whole."""
    await start(send, {"length": query["size"]})
    await send({"type": "http.response.body", "body": bytes(int(query["size"]))})


ROUTES = {
    route.__name__: route
    for route in (
        *(abort, at_once, attach, cancelled, connection, endless, events, extensions),
        *(give_up, hello, impatient, large, path, pipe, process, publish, refuse, release),
        *(starlette_file, ticks, zero),
    )
}
