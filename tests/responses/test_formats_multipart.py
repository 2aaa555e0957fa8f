from __future__ import annotations

import email
import email.policy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from tailrace import MultipartMixedReplaceResponse, Part
from tailrace.errors import InvalidChunk, InvalidOption
from tailrace.testing import Client, Clock, Truncated
from tests.responses.fetched import Fetched, fetch

pytestmark = pytest.mark.anyio


def shown(got: Fetched) -> list[tuple[str, bytes]]:
    """The pictures that a viewer sees: an empty part is none, and one again is no change."""
    head = f"Content-Type: {got.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + got.body, policy=email.policy.HTTP)
    seen: list[tuple[str, bytes]] = []
    for part in message.iter_parts():
        body = part.get_payload(decode=True)
        picture = (part.get_content_type(), body if isinstance(body, bytes) else b"")
        if picture[1] and seen[-1:] != [picture]:
            seen.append(picture)
    return seen


def pictures() -> Iterator[Any]:
    yield b"one"
    yield bytearray(b"two")
    yield memoryview(b"three")


async def apictures() -> AsyncIterator[Any]:
    for picture in pictures():
        yield picture


@pytest.mark.parametrize("make", [pictures, apictures])
async def test_each_item_is_a_part(make: Any) -> None:
    got = await fetch(MultipartMixedReplaceResponse(make()))
    assert shown(got) == [("image/jpeg", b"one"), ("image/jpeg", b"two"), ("image/jpeg", b"three")]


async def test_the_content_type_names_a_boundary_and_has_no_charset() -> None:
    got = await fetch(MultipartMixedReplaceResponse([b"x"], boundary="edge"))
    assert got.headers["content-type"] == "multipart/x-mixed-replace; boundary=edge"
    assert got.body.startswith(b"--edge\r\n")


async def test_each_response_has_a_boundary_of_its_own() -> None:
    first, second = (MultipartMixedReplaceResponse([b"x"]) for _ in range(2))
    assert first.headers["content-type"] != second.headers["content-type"]


async def test_pictures_are_not_stored() -> None:
    got = await fetch(MultipartMixedReplaceResponse([b"x"]))
    assert got.headers["cache-control"] == "no-store"
    kept = MultipartMixedReplaceResponse([b"x"], headers={"cache-control": "no-cache"})
    assert (await fetch(kept)).headers.getlist("cache-control") == ["no-cache"]


async def test_parts_have_the_type_that_is_asked_for() -> None:
    items = [b"x", Part(b"y", content_type="text/plain", headers={"X-Name": "value"})]
    got = await fetch(MultipartMixedReplaceResponse(items, part_type="image/png"))
    assert shown(got) == [("image/png", b"x"), ("text/plain", b"y")]
    assert b"X-Name: value\r\n" in got.body


async def test_a_part_is_shown_before_the_next_one_comes() -> None:
    go_on = anyio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"one"
        await go_on.wait()
        yield b"two"

    response = MultipartMixedReplaceResponse(source(), boundary="edge")
    async with Client(response) as client, client.open("GET", "/") as exchange:
        first = await exchange.read()
        assert b"one\r\n--edge\r\n" in first
        go_on.set()
        assert await exchange.read_until(b"two\r\n--edge\r\n")


async def test_it_can_be_sent_twice_with_the_same_boundary() -> None:
    response = MultipartMixedReplaceResponse([b"x"])
    assert (await fetch(response)).body == (await fetch(response)).body


async def test_pictures_that_fail_are_cut_without_a_closing_boundary() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise RuntimeError("no camera")

    response = MultipartMixedReplaceResponse(failing(), boundary="edge")
    async with Client(response) as client, client.open("GET", "/") as exchange:
        with pytest.raises(Truncated) as caught:
            await exchange.read_all()
        assert b"--edge--" not in caught.value.partial


async def test_a_text_is_no_picture(clock: Clock) -> None:
    async with (
        Client(MultipartMixedReplaceResponse(["text"])) as client,
        client.open("GET", "/") as exchange,
    ):
        with pytest.raises(InvalidChunk, match="multipart response gave str"):
            await exchange.response()


@pytest.mark.parametrize("setting", [{"boundary": "no spaces"}, {"part_type": "a\r\nb: c"}])
async def test_what_cannot_be_written_in_a_header_is_refused_where_it_is_made(
    setting: dict[str, Any],
) -> None:
    with pytest.raises(InvalidOption, match=next(iter(setting))):
        MultipartMixedReplaceResponse([b"x"], **setting)


async def test_pictures_are_not_compressed() -> None:
    got = await fetch(MultipartMixedReplaceResponse([b"x"]), accept_encoding="gzip")
    assert "content-encoding" not in got.headers
    assert "vary" not in got.headers
