"""JSON streams: a JSON body is split into messages, each kept byte for byte.

A JSON stream is stored as wire bytes: `message,message,`. So the answer to a reader is these bytes
between brackets, made without parsing, and a position in the stream is an index in the wire bytes.

A body is decoded as Latin-1 and then scanned, so that an index in the text is an index in the
bytes. That the body is UTF-8 is checked separately. JSON's own characters are ASCII, and no byte of
a longer UTF-8 character is an ASCII byte, so the scanner cannot mistake one for the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from pydantic_core import from_json

from tailrace import limits
from tailrace.errors import InvalidBody, StreamDamaged

__all__ = ["array_of", "is_json", "message_ends", "split", "value_of", "wire_of"]

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_MARK: Final = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
"""A quote, bracket or brace of JSON. An escape is matched whole, as it may contain a quote."""


def is_json(content_type: str) -> bool:
    """Whether a stream of this content type is a JSON stream.

    Source: Durable Streams 9.1.
    """
    return content_type.partition(";")[0].strip().lower() == "application/json"


def wire_of(body: bytes) -> bytes:
    """The wire bytes of a JSON body.

    Each element of an array becomes a message; any other value becomes one message.

    Args:
        body: JSON in UTF-8.

    Returns:
        `message,message,`; empty for an empty array.

    Raises:
        InvalidBody: It is not JSON, or over `limits.MAX_APPEND_MESSAGES`, `MAX_JSON_CONTAINERS` or
            `MAX_JSON_DEPTH` (400).

    Source: Durable Streams 9.1.2 to 9.1.4; RFC 8259.
    """
    text = _latin(body)
    _check_containers(text)
    wire = bytearray()
    at = _skip(text, 0)
    if text.startswith("[", at):
        end = _flatten(text, at + 1, body, wire)
    else:
        end = _message(text, at, body, wire)
    if _skip(text, end) != len(text):
        raise InvalidBody(f"the body is not JSON: something follows its end, at byte {end}")
    return bytes(wire)


def array_of(wire: bytes) -> bytes:
    """The JSON array that readers get for wire bytes.

    Raises:
        StreamDamaged: They do not end with a comma.
    """
    if wire and not wire.endswith(b","):
        raise StreamDamaged("an append to it does not end with a comma")
    return b"[%b]" % wire[:-1]


def split(wire: bytes) -> list[bytes]:
    """The messages in wire bytes, without their commas.

    Raises:
        StreamDamaged: As `message_ends`.
    """
    begin = 0
    messages = []
    for end in message_ends(wire):
        messages.append(wire[begin : end - 1])
        begin = end
    return messages


def message_ends(wire: bytes) -> Iterator[int]:
    """The index after each message in wire bytes, its comma included.

    Raises:
        StreamDamaged: There is no JSON value where a message must begin, or no comma after it.
    """
    text = wire.decode("latin-1")
    end = 0
    while end < len(text):
        try:
            end = _value_end(text, end)
        except InvalidBody as error:
            raise StreamDamaged(f"no message begins at byte {end} of an append") from error
        if not text.startswith(",", end):
            raise StreamDamaged(f"no comma follows a message, at byte {end} of an append")
        end += 1
        yield end


def _flatten(text: str, at: int, body: bytes, wire: bytearray) -> int:
    """Add the elements of an array to `wire`, from the first one on; returns the index after it."""
    at = _skip(text, at)
    if text.startswith("]", at):
        return at + 1
    for _ in range(limits.MAX_APPEND_MESSAGES):
        at = _skip(text, _message(text, at, body, wire))
        if text.startswith("]", at):
            return at + 1
        if not text.startswith(",", at):
            raise InvalidBody(f"the body is not JSON: no comma and no bracket at byte {at}")
        at = _skip(text, at + 1)
    raise InvalidBody(_TOO_MANY)


def _check_containers(text: str) -> None:
    # Those in strings count too: to tell them apart would cost more than the limit saves.
    if text.count("[") + text.count("{") > limits.MAX_JSON_CONTAINERS:
        raise InvalidBody(_TOO_NESTED)


def _message(text: str, at: int, body: bytes, wire: bytearray) -> int:
    """Add the value that begins at `at` to `wire`; returns the index after it."""
    end = _value_end(text, at)
    marks = text.count("[", at, end) + text.count("{", at, end)
    if marks > limits.MAX_JSON_DEPTH and _depth(text, at, end) > limits.MAX_JSON_DEPTH:
        raise InvalidBody(_TOO_DEEP)
    wire += body[at:end]
    wire += b","
    return end


def _depth(text: str, at: int, end: int) -> int:
    """How many arrays and objects the value has within each other, at most."""
    depth = deepest = 0
    in_string = False
    for found in _MARK.finditer(text, at, end):
        mark = found[0]
        if mark == '"':
            in_string = not in_string
        elif in_string:
            continue
        elif mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _value_end(text: str, at: int) -> int:
    try:
        _, end = _scan(text, at)
    except StopIteration as stop:
        raise InvalidBody(f"the body is not JSON: no value at byte {stop.value}") from None
    except json.JSONDecodeError as error:
        raise InvalidBody(f"the body is not JSON: {error.msg} at byte {error.pos}") from None
    except RecursionError:
        raise InvalidBody(_TOO_DEEP) from None
    return int(end)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None  # the pattern also matches no space at all
    return space.end()


def _latin(body: bytes) -> str:
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidBody(f"the body is not UTF-8 at byte {error.start}") from None
    return body.decode("latin-1")


_TOO_MANY: Final = (
    f"the body has more than {limits.MAX_APPEND_MESSAGES:,} messages: send them in several appends"
)
_TOO_NESTED: Final = (
    f"the body has more than {limits.MAX_JSON_CONTAINERS:,} brackets and braces: send it in parts"
)
_TOO_DEEP: Final = f"the body is JSON nested more than {limits.MAX_JSON_DEPTH} levels deep"


def _refuse(constant: str) -> NoReturn:
    raise InvalidBody(f"the body is not JSON: {constant} is not a JSON number")


# Only the end of each value is used, so the parsed values are replaced by something cheap: `len`.
_scan: Final[Any] = json.JSONDecoder(
    parse_constant=_refuse, parse_int=len, parse_float=len, object_pairs_hook=len
).scan_once  # type: ignore[attr-defined] # public in the json module's source, not in its stubs


def value_of(message: bytes) -> Any:
    """The value of a JSON message.

    Never raises for a message that `wire_of` accepted: readers must be able to read past each. A
    lone surrogate, which is valid JSON, becomes U+FFFD; a whole number of more than some 4,000
    digits becomes infinity, as in JavaScript.
    """
    try:
        return from_json(message)
    except ValueError:
        whole = json.dumps(json.loads(message, parse_int=_number), ensure_ascii=False)
        return json.loads(whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


_MAX_DIGITS: Final = 4_000
"""Digits of a whole number that becomes an `int`, at most; Python refuses more than 4,300."""
