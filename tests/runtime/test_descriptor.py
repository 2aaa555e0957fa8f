"""A descriptor that threads use stays what it is until the last of them is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.runtime import Descriptor


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
def number(tmp_path: Path) -> Iterator[int]:
    """Open, and somebody else's to close."""
    (tmp_path / "file").write_bytes(b"content")
    number = os.open(tmp_path / "file", os.O_RDONLY)
    yield number
    if is_open(number):
        os.close(number)


def test_it_stays_open_until_its_last_user_is_done(number: int) -> None:
    file = Descriptor(number, "file")
    with file.use() as first:
        with file.use() as second:
            file.close()
        assert os.pread(first, 7, 0) == b"content"
    assert first == second == number
    assert not is_open(number)


def test_what_is_closed_is_not_used_again(number: int) -> None:
    file = Descriptor(number)
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"), file.use():
        pass
    with pytest.raises(ValueError, match="closed"):
        file.fileno()
    assert not is_open(number)


def test_one_that_is_borrowed_is_not_closed_but_a_thread_gets_its_own(number: int) -> None:
    Descriptor(number, borrowed=True).close()
    assert is_open(number)
    file = Descriptor(number, borrowed=True)
    with file.use() as own:
        assert own != number
        file.close()
        assert is_open(own)
    assert not is_open(own)
    assert is_open(number)


def test_one_that_is_detached_is_the_callers(number: int) -> None:
    with Descriptor(number) as file:
        assert file.detach() == number
    assert is_open(number)


def test_one_that_nobody_refers_to_is_closed(number: int) -> None:
    file = Descriptor(number)
    del file
    assert not is_open(number)


def test_only_a_regular_file_has_a_size(number: int, tmp_path: Path) -> None:
    assert (Descriptor(number).size, Descriptor(os.open(tmp_path, os.O_RDONLY)).size) == (7, None)
    with Descriptor(os.open(tmp_path, os.O_RDONLY)) as directory:
        assert directory.is_directory
