"""The tour's pictures: JPEG as T.81 has it. That a browser shows them is tested in a browser."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.app.tour_content import picture

NOON = 1_800_000_000.0


def segments(jpeg: bytes) -> dict[int, list[bytes]]:
    """The bodies of a JPEG's segments by marker, up to the scan's data, which is under key 0."""
    assert jpeg[:2] == b"\xff\xd8"
    assert jpeg[-2:] == b"\xff\xd9"
    found: dict[int, list[bytes]] = {}
    position = 2
    while 0xDA not in found:
        assert jpeg[position] == 0xFF
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4])
        found.setdefault(jpeg[position + 1], []).append(jpeg[position + 4 : end])
        position = end
    found[0] = [jpeg[position:-2]]
    return found


def test_a_picture_is_a_baseline_jpeg_of_384_by_216_in_three_colours() -> None:
    parts = segments(picture(NOON))
    assert list(parts) == [0xE0, 0xDB, 0xC0, 0xC4, 0xDA, 0]
    [frame] = parts[0xC0]
    assert frame[0] == 8
    assert int.from_bytes(frame[1:3]) == 216
    assert int.from_bytes(frame[3:5]) == 384
    assert frame[5] == 3


def test_no_byte_of_the_scan_can_be_taken_for_a_marker() -> None:
    [scan] = segments(picture(NOON))[0]
    assert not re.search(rb"\xff[^\x00]", scan)


@pytest.mark.parametrize("later", [0.1, 1.0, 3600.0])
def test_the_picture_changes_with_time(later: float) -> None:
    assert picture(NOON) != picture(NOON + later)


@given(st.floats(min_value=0, max_value=4e9))
@settings(max_examples=50)
def test_there_is_a_picture_of_every_moment(seconds: float) -> None:
    assert len(segments(picture(seconds))[0][0]) > 1000
