"""What the tour has in place of a camera and of a language model.

**The camera** gives JPEG pictures of a clock over running water, without a library. In a baseline
JPEG every block of 8 by 8 pixels is coded by itself, and a block of one colour is only its DC
coefficient. So a picture of 8-pixel squares needs no cosine transform. Each square is its
difference from the square before: its size as a 4-bit Huffman code, its bits, and one bit that says
that nothing follows. The quantiser is 8, so the coefficient is the colour itself, less 128.

Source: ITU-T T.81, annexes B, E and F; JFIF 1.02 for the colours.

**The answers** of the chat are paragraphs on streams, picked by the words of a question.
"""

from __future__ import annotations

import math
import re
import struct
import time
from collections.abc import Iterator
from typing import Final, TypeAlias

__all__ = ["answer_to", "picture"]

# The camera ---------------------------------------------------------------------------------------

Colour: TypeAlias = tuple[int, int, int]

COLUMNS, ROWS = 48, 27
CLOCK_LEFT, CLOCK_TOP = 9, 5
SURFACE = 16
INK: Colour = (240, 248, 250)

GLYPHS = {
    "0": "111 101 101 101 111",
    "1": "010 110 010 010 111",
    "2": "111 001 111 100 111",
    "3": "111 001 111 001 111",
    "4": "101 101 111 001 001",
    "5": "111 100 111 001 111",
    "6": "111 100 111 101 111",
    "7": "111 001 010 010 010",
    "8": "111 101 111 101 111",
    "9": "111 101 111 001 111",
    ":": "000 010 000 010 000",
}


def picture(seconds: float) -> bytes:
    """One JPEG of 384 by 216 pixels.

    Args:
        seconds: The moment it shows, in seconds since the epoch.
    """
    return _HEAD + _scan(_squares(seconds)) + b"\xff\xd9"


def _squares(seconds: float) -> Iterator[Colour]:
    lit = _clock(time.strftime("%H:%M:%S", time.localtime(seconds)))
    phase = math.fmod(seconds, 1000 * math.tau)
    heights = [
        SURFACE + 1.6 * math.sin(x / 5 + 1.3 * phase) + math.sin(x / 2.3 - 2 * phase)
        for x in range(COLUMNS)
    ]
    for y in range(ROWS):
        for x, height in enumerate(heights):
            yield INK if (x, y) in lit else _scenery(y, y - height)


def _scenery(y: int, depth: float) -> Colour:
    if depth < 0:
        return (24 + 2 * y, 52 + 4 * y, 74 + 4 * y)
    if depth < 1:
        return (190, 232, 232)
    fade = min(depth, 12.0) / 12
    return (int(24 - 16 * fade), int(142 - 88 * fade), int(146 - 78 * fade))


def _clock(text: str) -> set[tuple[int, int]]:
    return {
        (CLOCK_LEFT + 4 * place + x, CLOCK_TOP + y)
        for place, letter in enumerate(text)
        for y, line in enumerate(GLYPHS[letter].split())
        for x, dot in enumerate(line)
        if dot == "1"
    }


def _scan(squares: Iterator[Colour]) -> bytes:
    before = (0, 0, 0)
    bits = []
    for square in squares:
        now = _ycc(square)
        bits += [_CODES[new - old] for new, old in zip(now, before, strict=True)]
        before = now
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    coded = int(text, 2).to_bytes(len(text) // 8, "big")
    return coded.replace(b"\xff", b"\xff\x00")  # T.81 B.1.1.5: a 0xFF in data is not a marker


def _ycc(colour: Colour) -> Colour:
    red, green, blue = colour
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return round(luma) - 128, round(0.564 * (blue - luma)), round(0.713 * (red - luma))


def _code(difference: int) -> str:
    size = abs(difference).bit_length()
    bits = difference if difference >= 0 else difference + (1 << size) - 1
    value = f"{bits:0{size}b}" if size else ""
    return f"{size:04b}{value}0"


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _huffman(table: int, code_bits: int, symbols: bytes) -> bytes:
    """A DHT segment whose symbols have codes of one length, counted up in their order."""
    lengths = bytearray(16)
    lengths[code_bits - 1] = len(symbols)
    return _segment(0xC4, bytes([table]) + lengths + symbols)


# Differences of 8-bit samples take 0 to 8 bits: nine sizes, which fit codes of four bits.
_CODES = {difference: _code(difference) for difference in range(-255, 256)}

_HEAD = b"".join(
    [
        b"\xff\xd8",
        _segment(0xE0, b"JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00"),
        _segment(0xDB, b"\x00" + bytes([8] * 64)),
        _segment(
            0xC0, struct.pack(">BHHB", 8, 8 * ROWS, 8 * COLUMNS, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
        ),
        _huffman(0x00, 4, bytes(range(9))),
        _huffman(0x10, 1, b"\x00"),
        _segment(0xDA, b"\x03\1\0\2\0\3\0" + b"\x00\x3f\x00"),
    ]
)


# The answers --------------------------------------------------------------------------------------

_OTHERWISE: Final = (
    "I only know about streams. An answer like this one is a run: its words go into a log as they "
    "are found, and each reader takes them from the log. So you may close this tab, open another, "
    "or lose your connection: the words go on, and wait for you where you left off."
)

_PARAGRAPHS: Final = (
    (
        {"survive", "survives", "close", "leave", "lost", "lose", "disconnect", "reload", "tab"},
        (
            "A stream survives because nobody owns it. The words you read are appended to a "
            "log, and every event carries the offset after it. When you come back, the "
            "browser says the last offset that it saw, and the log gives what follows: "
            "nothing is missing, nothing comes twice."
        ),
    ),
    (
        {"slow", "stall", "stalled", "backpressure", "memory", "wait"},
        (
            "A slow reader costs nothing but its socket. At the tail it is written to "
            "directly; when it lags it is left out, reads the log at its own pace, and is written "
            "to again when it has caught up. Nobody else waits for it."
        ),
    ),
    (
        {"crash", "kill", "power", "durable", "sqlite", "disk", "safe"},
        (
            "What was acknowledged was on the disk before: the words, the offset and the "
            "writer's own count are one commit. If the power fails in the middle of it, all "
            "of it is there afterwards, or none."
        ),
    ),
    (
        {"why", "tailrace", "name", "mill", "water", "river"},
        (
            "A tailrace is the channel that carries the water away from a mill as fast as it "
            "arrives, so that nothing backs up into the wheel. Your code is the wheel."
        ),
    ),
)


def answer_to(question: str) -> str:
    """The paragraph that has the most words in common with a question."""
    asked = set(re.findall(r"[a-z]+", question.lower()))
    words, paragraph = max(_PARAGRAPHS, key=lambda known: len(known[0] & asked))
    return paragraph if words & asked else _OTHERWISE
