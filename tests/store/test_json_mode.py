"""JSON texts become messages, each kept byte for byte, and what is no JSON is refused."""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import InvalidBody, StreamDamaged
from tailrace.store import array_of, is_json, message_ends, split, wire_of

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
SPACES = st.text(" \t\n\r", max_size=3)
LAYOUTS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r"), (",\n  ", ":")])


@st.composite
def texts(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES) -> bytes:
    """One value as JSON, laid out in any way."""
    text = json.dumps(draw(values), ensure_ascii=draw(st.booleans()), separators=draw(LAYOUTS))
    return text.encode()


@given(message=texts(), before=SPACES, after=SPACES)
def test_a_value_that_is_no_array_is_one_message_as_it_came(
    message: bytes, before: str, after: str
) -> None:
    body = before.encode() + message + after.encode()
    if message.startswith(b"["):
        body = b"[%b]" % body
    assert wire_of(body) == message + b","
    assert split(wire_of(body)) == [message]


@given(st.lists(st.tuples(SPACES, texts(), SPACES), max_size=8))
@example([("", b"1", ""), ("", b"[]", " "), (" ", b"2", ""), ("", b"3", "")])
def test_an_arrays_elements_are_messages_as_they_came(parts: list[tuple[str, bytes, str]]) -> None:
    body = b"[%b]" % b",".join(a.encode() + message + b.encode() for a, message, b in parts)
    messages = [message for _, message, _ in parts]
    wire = wire_of(body)
    assert wire == b"".join(message + b"," for message in messages)
    assert split(wire) == messages
    assert array_of(wire) == b"[%b]" % b",".join(messages)
    ends = [sum(len(each) + 1 for each in messages[:count]) for count in range(1, len(parts) + 1)]
    assert list(message_ends(wire)) == ends


@given(st.lists(VALUES, max_size=6))
def test_what_readers_get_is_the_same_array(values: list[Any]) -> None:
    assert json.loads(array_of(wire_of(json.dumps(values).encode()))) == values


@given(
    first=st.lists(VALUES, min_size=1, max_size=3), second=st.lists(VALUES, min_size=1, max_size=3)
)
def test_what_is_appended_after_each_other_is_one_array(
    first: list[Any], second: list[Any]
) -> None:
    wire = wire_of(json.dumps(first).encode()) + wire_of(json.dumps(second).encode())
    assert json.loads(array_of(wire)) == first + second


def is_valid(body: bytes) -> bool:
    """By the standard library, less what it takes beyond RFC 8259."""

    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(body.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


FRAGMENTS = st.sampled_from(
    [
        *("[", "]", "{", "}", ",", ":", '"', "\\", " ", "\n", "\t", "\x00", "\x1f", "\x7f"),
        *("0", "1", "-", "+", ".", "e", "E5", "00", "-0", "1.5", "1e400", "9" * 30),
        *("true", "false", "null", "nul", "NaN", "Infinity", "-Infinity", "True", "//", "'a'"),
        *('"a"', '"\\u00e9"', '"\\ud800"', '"\\u12"', '"\\x"', '"\\n"', '"a":1', '{"a":1}', "[1]"),
        *("[]", "{}", "\ufeff", "\xe9", "\u2028", "\N{GRINNING FACE}", "[1,]", '{"a":}', "[[2]]"),
    ]
)


@settings(max_examples=400)
@given(st.lists(FRAGMENTS, max_size=8).map("".join))
@example("[1,]")
@example("[1,,2]")
@example('["a\n",1]')
@example('[{"a":1,},1]')
@example("[01,1]")
def test_what_is_json_and_what_is_not_is_as_the_standard_says(text: str) -> None:
    body = text.encode()
    if is_valid(body):
        assert json.loads(array_of(wire_of(body))) == (
            json.loads(body) if body.lstrip(b" \t\n\r").startswith(b"[") else [json.loads(body)]
        )
    else:
        with pytest.raises(InvalidBody):
            wire_of(body)


@given(st.binary(max_size=30))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    try:
        wire = wire_of(body)
    except InvalidBody:
        return
    json.loads(array_of(wire))


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b"[[1,2],[3,4]]", [b"[1,2]", b"[3,4]"]),
        (b"[[[1,2,3]]]", [b"[[1,2,3]]"]),
        (b'{"event": "created"}', [b'{"event": "created"}']),
        (b"[]", []),
        (b" [ \n] ", []),
        (b"[[]]", [b"[]"]),
        (b"[[ ],{ }]", [b"[ ]", b"{ }"]),
        (b'["a,b]","c"]', [b'"a,b]"', b'"c"']),
        (b'[ 1 , 2.50e+07 ,-0,"x" ]', [b"1", b"2.50e+07", b"-0", b'"x"']),
        (b'{"a":1,"a":2}', [b'{"a":1,"a":2}']),
        (b'["\\ud800"]', [b'"\\ud800"']),
        (b'["\\u0000"]', [b'"\\u0000"']),
        ('["\u2028"]'.encode(), ['"\u2028"'.encode()]),
        (b"[1e999,-1e999]", [b"1e999", b"-1e999"]),
        (b"[" + b"7" * 50_000 + b",1]", [b"7" * 50_000, b"1"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_messages_are_kept_byte_for_byte(body: bytes, messages: list[bytes]) -> None:
    assert split(wire_of(body)) == messages


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"[",
        b"[1",
        b"[1,",
        b"[1 2]",
        b"1 2",
        b"[1]]",
        b"[],",
        b"NaN",
        b"[NaN,1]",
        b"[Infinity]",
        b'{"a":-Infinity}',
        b"\xef\xbb\xbf1",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'["\xc0\xaf"]',
        b'"\xe2\x82"',
        b'"a\x00b"',
        b'["a\nb",1]',
        b"[1\x0c,2]",
        b"\xc2\xa01",
        b"{1:2}",
        b'"a',
        b"'a'",
        b"//\n1",
    ],
)
def test_what_is_no_json_is_refused_and_says_why(body: bytes) -> None:
    with pytest.raises(InvalidBody) as refused:
        wire_of(body)
    assert refused.value.status == 400
    assert refused.value.reason.startswith("the body is not ")


def test_the_place_of_the_fault_is_told_in_bytes() -> None:
    with pytest.raises(InvalidBody, match="at byte 6"):
        wire_of('["é",!]'.encode())


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_message_is_as_deep_as_the_limit_and_no_deeper(opening: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{")
    ends = {ord("["): b"]", ord("{"): b"}"}
    closing = b"".join(ends[mark] for mark in reversed(opening) if mark in ends)
    at = limits.MAX_JSON_DEPTH // levels
    for outer in (b"[1,%b]", b"[%b,1]"):
        kept = outer % (opening * at + b"0" + closing * at)
        assert len(split(wire_of(kept))) == 2
        with pytest.raises(InvalidBody, match="128 levels"):
            wire_of(outer % (opening * (at + 1) + b"0" + closing * (at + 1)))


def test_brackets_in_strings_and_side_by_side_are_not_deep() -> None:
    for message in (
        b'"%b"' % (b"[" * 1000),
        b"[%b1]" % (b"[],{}," * 1000),
        b'["\\"[%b"]' % (b"[" * 999),
    ):
        assert split(wire_of(b"[%b]" % message)) == [message]


MESSAGES = {
    "numbers": b"1",
    "spaced": b' "a,b" ',
    "nested": b"[[]]",
    "objects": b'{"a":1}',
    "mixed": b'1,[[]], "[,",{}',
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", MESSAGES)
def test_an_append_has_as_many_messages_as_the_limit_and_no_more(shape: str) -> None:
    some = MESSAGES[shape]
    each = 4 if shape == "mixed" else 1
    full = b",".join([some] * (limits.MAX_APPEND_MESSAGES // each))
    assert len(split(wire_of(b"[%b]" % full))) == limits.MAX_APPEND_MESSAGES
    for body in (b"[%b,1]" % full, b"[1,%b]" % full):
        with pytest.raises(InvalidBody, match="262,144 messages"):
            wire_of(body)


@pytest.mark.slow
def test_commas_within_messages_are_none_of_the_limits_business() -> None:
    words = b",".join([b"word"] * 2 * limits.MAX_APPEND_MESSAGES)
    for message in (b'"%b"' % words, b"[%b]" % words.replace(b"word", b"[1]")):
        assert split(wire_of(b"[%b]" % message)) == [message]


@pytest.mark.slow
@pytest.mark.parametrize("inner", [b"[]", b"{}"])
def test_an_append_has_as_many_arrays_and_objects_as_the_limit_and_no_more(inner: bytes) -> None:
    # The body is an array too, and so are the message and what is in it.
    full = b",".join([inner] * (limits.MAX_JSON_CONTAINERS - 3))
    assert wire_of(b"[[[%b]]]" % full) == b"[[%b]]," % full
    for more in (b",[]", b',"["'):
        with pytest.raises(InvalidBody, match="1,048,576 brackets and braces"):
            wire_of(b"[[[%b%b]]]" % (full, more))


@pytest.mark.parametrize("depth", [300, 5000, 200_000])
def test_brackets_without_end_are_refused(depth: int) -> None:
    for body in (b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth):
        with pytest.raises(InvalidBody):
            wire_of(body)


def test_what_was_accepted_is_split_however_deep_the_caller_is() -> None:
    message = b"[" * limits.MAX_JSON_DEPTH + b"]" * limits.MAX_JSON_DEPTH
    wire = wire_of(b"[%b]" % message)

    def call(more: int) -> list[bytes]:
        return split(wire) if more == 0 else call(more - 1)

    assert call(sys.getrecursionlimit() // 2) == [message]


@pytest.mark.parametrize(
    "wire", [b"1;2,", b"1", b"1,2", b"1,,", b"1,]", b'{"a":1}"b",', b"1, ", b'"a', b"\x00,", b"1 ,"]
)
def test_what_is_no_list_of_messages_is_told_as_damage(wire: bytes) -> None:
    with pytest.raises(StreamDamaged, match="at byte"):
        split(wire)


def test_what_comes_before_the_damage_is_split() -> None:
    ends = message_ends(b'1,"a",{"b":2};3,')
    assert [next(ends), next(ends)] == [2, 6]
    with pytest.raises(StreamDamaged, match="no comma follows a message, at byte 13"):
        next(ends)


def test_an_array_whose_last_comma_is_missing_is_told_as_damage() -> None:
    with pytest.raises(StreamDamaged, match="comma"):
        array_of(b"1,23")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON", True),
        ("application/json; charset=utf-8", True),
        ("application/json ;a=b", True),
        ("application/jsonl", False),
        ("application/x-json", False),
        ("text/plain; a=application/json", False),
        ("", False),
    ],
)
def test_json_is_told_by_its_media_type(content_type: str, expected: bool) -> None:
    assert is_json(content_type) is expected


SHAPES = {
    "numbers": b"1",
    "strings": b'"ab"',
    "objects": b'{"id":1,"text":"some words"}',
    "spaced objects": b' {"id": 1, "text": "some words"} ',
    "nested": b'{"a":[{"b":[1]}]}',
    "escapes": b'"\\u00e9\\n"',
}


def cost(body: bytes, times: int) -> float:
    """Seconds of this process's work, at best."""
    best = math.inf
    for _ in range(times):
        gc.collect()
        begun = time.process_time()
        wire = wire_of(body)
        best = min(best, time.process_time() - begun)
        assert len(wire) > len(body) // 2
    return best


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_time_for_an_array_grows_as_its_bytes_do(shape: str) -> None:
    small, large = (b"[%b]" % b",".join([SHAPES[shape]] * count) for count in (25_000, 250_000))
    # Ten times as long for ten times as much; a square would be a hundred.
    assert cost(large, 1) < 40 * max(cost(small, 3), 0.001)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b'"' + b"x" * 10_000_000,
        b"[" + b'"a",' * 2_500_000,
        b"[" + b'"' + b"\\" * 10_000_000,
        b" " * 10_000_000,
        b"[" + b'{"a":' * 2_000_000,
        b"[1" + b" " * 10_000_000,
        b"-" * 10_000_000,
        b"1" * 10_000_000 + b"x",
        b'[{"a":1,' + b'"a":1,' * 1_600_000,
    ],
    ids=lambda body: body[:8].decode(),
)
def test_what_is_no_json_is_refused_without_looking_at_it_again_and_again(body: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(InvalidBody):
        wire_of(body)
    assert time.process_time() - begun < 2
