"""What is read in one piece is cut as if it had come in pieces."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.store import START, Chunk, Offset, Retention, Slice, StreamInfo
from tailrace.store.base import Cut

AT = partial(Offset, 7)


@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=8), st.integers(0, 100))
def test_a_cut_is_the_chunks_that_it_is_of(parts: list[bytes], start: int) -> None:
    made: list[Chunk] = []
    for part in parts:
        start += len(part)
        made.append(Chunk(part, AT(start)))
    chunks = tuple(made)
    cut = Cut(b"".join(parts), [chunk.end.position for chunk in chunks], AT)
    assert cut == chunks
    assert chunks == cut
    assert cut == Cut(cut.data, [chunk.end.position for chunk in chunks], AT)
    assert cut != chunks[:-1]
    assert hash(cut) == hash(chunks)
    assert (len(cut), list(cut), list(reversed(cut))) == (
        len(chunks),
        list(chunks),
        list(reversed(chunks)),
    )
    for index in range(-len(chunks), len(chunks)):
        assert cut[index] == chunks[index]
        assert cut[index:] == chunks[index:]
        assert cut[:index] == chunks[:index]
    for beyond in (len(chunks), -len(chunks) - 1):
        with pytest.raises(IndexError):
            cut[beyond]


def test_a_slice_of_a_cut_has_its_bytes_without_cutting_it() -> None:
    info = StreamInfo(
        path="s",
        content_type="text/plain",
        first=START,
        tail=AT(6),
        closed=False,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=1,
    )
    data = b"onetwo"
    whole = Slice(info, START, Cut(data, [3, 6], AT))
    assert whole.data is data
    assert (whole.end, whole.up_to_date) == (AT(6), True)
    assert whole == Slice(info, START, (Chunk(b"one", AT(3)), Chunk(b"two", AT(6))))
