"""A file that the server copies: each message is true, and the descriptor is open as long as it is
used."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from tailrace.connection import Ending
from tailrace.errors import FileChanged
from tailrace.pump import FileBody, Head, send_file
from tailrace.source import Extent, open_file, read_at
from tailrace.testing import no_leaks, settle
from tailrace.types import StreamOptions

pytestmark = pytest.mark.anyio

CONTENT = bytes(at % 251 for at in range(1000))
SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}


class Taken:
    """A server that copies spans; it takes as many messages as it is told.

    Args:
        most: Messages, after which it waits for ever.
    """

    def __init__(self, most: int = 100) -> None:
        self.messages: list[dict[str, Any]] = []
        self._most = most

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.zerocopysend":
            at, count = message["offset"], message["count"]
            assert read_at(message["file"].fileno(), count, at) == CONTENT[at : at + count]
        if len(self.messages) >= self._most:
            await anyio.sleep_forever()

    @property
    def told(self) -> list[Any]:
        """The offset of each span, and the bytes of each other part of the body."""
        return [message.get("offset", message.get("body")) for message in self.messages[1:]]


async def receive() -> Any:
    await anyio.sleep_forever()


def body_in(folder: Path) -> FileBody:
    path = folder / "a.bin"
    path.write_bytes(CONTENT)
    pieces: list[bytes | Extent] = [b"head", Extent(0, 1000)]
    return FileBody(open_file(str(path)), pieces, block_bytes=100, span_bytes=300)


async def send(body: FileBody, server: Taken) -> Ending:
    head = Head(200, [(b"content-length", b"1004")])
    return await send_file(body, StreamOptions(), head, dict(SCOPE), receive, server.send)


async def test_spans_are_sent_in_their_place_and_the_last_block_is_read(tmp_path: Path) -> None:
    server = Taken()
    async with no_leaks():
        assert await send(body_in(tmp_path), server) is Ending.COMPLETE
    assert server.told == [b"head", 0, 300, 600, CONTENT[900:], b""]
    assert all(message["more_body"] for message in server.messages[1:-1])
    assert not server.messages[-1]["more_body"]


async def test_the_file_is_closed_when_it_is_interrupted_in_a_span(tmp_path: Path) -> None:
    server, body = Taken(most=4), body_in(tmp_path)
    async with no_leaks(), anyio.create_task_group() as group:
        group.start_soon(send, body, server)
        await settle()
        assert server.told == [b"head", 0, 300]
        descriptor = server.messages[-1]["file"]
        os.fstat(descriptor)
        group.cancel_scope.cancel()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("most", [2, 4])
async def test_a_client_that_takes_nothing_is_cut_off(tmp_path: Path, most: int) -> None:
    server = Taken(most)
    async with no_leaks():
        ending = await send_file(
            body_in(tmp_path),
            StreamOptions(send_timeout=0.05),
            Head(200, []),
            dict(SCOPE),
            receive,
            server.send,
        )
    assert ending is Ending.STALLED
    assert len(server.messages) == most


async def test_one_that_leaves_ends_it(tmp_path: Path) -> None:
    async def leave() -> Any:
        return {"type": "http.disconnect"}

    server = Taken(most=3)
    async with no_leaks():
        ending = await send_file(
            body_in(tmp_path), StreamOptions(), Head(200, []), dict(SCOPE), leave, server.send
        )
    assert ending is Ending.LEFT


class Gone:
    """What uvicorn keeps of a request whose client has left."""

    disconnected = True
    response_complete = False

    def __init__(self) -> None:
        self.message_event = asyncio.Event()
        self.transport = self

    def is_closing(self) -> bool:
        return True

    async def receive(self) -> Any:
        return {"type": "http.disconnect"}


async def test_to_one_that_has_left_before_nothing_is_sent_and_the_file_is_closed(
    tmp_path: Path,
) -> None:
    server, receive = Taken(), Gone().receive
    async with no_leaks():
        ending = await send_file(
            body_in(tmp_path), StreamOptions(), Head(200, []), dict(SCOPE), receive, server.send
        )
    assert (ending, server.messages) == (Ending.LEFT, [])


async def test_a_change_before_the_first_byte_sends_nothing(tmp_path: Path) -> None:
    body, server = (
        FileBody(_changed(tmp_path), [Extent(0, 1000)], block_bytes=1, span_bytes=9),
        Taken(),
    )
    with pytest.raises(FileChanged):
        await send(body, server)
    assert server.messages == []


async def test_a_change_behind_it_leaves_the_response_unfinished(tmp_path: Path) -> None:
    pieces: list[bytes | Extent] = [b"head", Extent(0, 1000)]
    body, server = FileBody(_changed(tmp_path), pieces, block_bytes=1, span_bytes=9), Taken()
    with pytest.raises(FileChanged):
        await send(body, server)
    assert server.told == [b"head"]


def _changed(folder: Path) -> Any:
    path = folder / "a.bin"
    path.write_bytes(CONTENT)
    file = open_file(str(path))
    os.truncate(path, 10)
    return file
