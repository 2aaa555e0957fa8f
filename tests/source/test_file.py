"""A file that others change while it is read."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import FileChanged, FileUnavailable
from tailrace.source import Extent, FileBlocks, OpenFile, open_file
from tailrace.testing import no_leaks

CONTENT = bytes(at % 251 for at in range(30_000))
LONG_AGO = 1_600_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def file(path: Path) -> Iterator[OpenFile]:
    file = open_file(str(path))
    yield file
    file.close()


def test_a_read_gives_exactly_the_bytes_asked_for(file: OpenFile) -> None:
    assert file.size == len(CONTENT)
    assert file.read(0, 0) == b""
    assert file.read(100, 20_100) == CONTENT[100:20_100]


def test_closing_twice_closes_once(path: Path) -> None:
    with no_leaks():
        file = open_file(str(path))
        file.close()
        other = os.open(path, os.O_RDONLY)  # most likely it gets the same number
        file.close()
        os.fstat(other)
        os.close(other)


def test_a_closed_file_is_not_read(path: Path) -> None:
    file = open_file(str(path))
    file.close()
    with pytest.raises(FileUnavailable, match="was closed"):
        file.read(0, 1)
    with pytest.raises(FileUnavailable, match="was closed"):
        file.check()


# What is no file to be sent


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("missing", "film.mp4/below", "a\0b"):
        (tmp_path / "film.mp4").touch()
        with no_leaks(), pytest.raises(FileUnavailable, match="does not exist"):
            open_file(str(tmp_path / name))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        pytest.param(fifo, marks=pytest.mark.posix),
        pytest.param(unix_socket, marks=pytest.mark.posix),
    ],
)
def test_what_is_no_regular_file_is_not_opened(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "thing"
    make(path)
    with no_leaks(), pytest.raises(FileUnavailable, match="is not a file"):
        open_file(str(path))


def test_a_device_is_not_opened() -> None:
    with no_leaks(), pytest.raises(FileUnavailable, match="is not a file"):
        open_file("/dev/zero")


@pytest.mark.posix
def test_what_an_opener_gives_must_be_a_regular_file_too(tmp_path: Path) -> None:
    fifo(tmp_path / "fifo")
    with no_leaks(), pytest.raises(FileUnavailable, match="is not a file"):
        open_file("fifo", lambda path, flags: os.open(tmp_path / path, flags))


def test_an_opener_opens_in_place_of_the_path(path: Path) -> None:
    opened: list[str] = []

    def opener(name: str, flags: int) -> int:
        opened.append(name)
        return os.open(path, flags)

    file = open_file("a name of its own", opener)
    assert file.read(0, 10) == CONTENT[:10]
    file.close()
    assert opened == ["a name of its own"]


# What others do to it


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def overwrite(path: Path) -> None:
    path.write_bytes(CONTENT[::-1])


def overwrite_with_more(path: Path) -> None:
    path.write_bytes(CONTENT[::-1] + b"more")


def touch(path: Path) -> None:
    os.utime(path, (LONG_AGO, LONG_AGO + 1))


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("new")
    other.write_bytes(CONTENT)
    os.utime(other, (LONG_AGO, LONG_AGO))
    other.replace(path)


def overwrite_in_secret(path: Path) -> None:
    """Overwrite a file, but keep its size and its times, as `rsync --inplace --times` does."""
    times = path.stat()
    with path.open("r+b") as file:
        file.write(CONTENT.swapcase())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (truncate, "was truncated"),
        (overwrite, "was overwritten"),
        (overwrite_with_more, "was overwritten"),
        (touch, "was overwritten"),
        pytest.param(overwrite_in_secret, "was overwritten", marks=pytest.mark.posix),
        pytest.param(delete, "was deleted or replaced", marks=pytest.mark.posix),
        pytest.param(replace, "was deleted or replaced", marks=pytest.mark.posix),
    ],
)
def test_a_file_that_was_changed_gives_no_more_bytes(
    path: Path, file: OpenFile, change: Callable[[Path], None], what: str
) -> None:
    file.remember_edges()
    file.read(0, 10)
    change(path)
    with pytest.raises(FileChanged, match=what):
        file.read(10, 20)
    with pytest.raises(FileChanged, match=what):
        file.check()


def append(path: Path) -> None:
    with path.open("ab") as log:
        log.write(b"one more line\n")


def test_a_file_that_grows_is_the_one_that_was_opened(path: Path, file: OpenFile) -> None:
    file.remember_edges()
    for start in range(0, len(CONTENT), 10_000):
        append(path)
        assert file.read(start, start + 10_000) == CONTENT[start : start + 10_000]


def test_a_log_that_is_written_all_the_time_can_be_read(path: Path, file: OpenFile) -> None:
    """The kernel sets a file's time before its size: a check in between must not fail."""
    file.remember_edges()
    stopped = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as log:
            while not stopped.is_set():
                log.write(b"one more line\n" * 100)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2000):
            assert file.read(0, 10_000) == CONTENT[:10_000]
    finally:
        stopped.set()
        writer.join()


def test_a_file_that_grew_and_was_cut_again_is_not(path: Path, file: OpenFile) -> None:
    file.remember_edges()
    append(path)
    file.check()
    os.truncate(path, len(CONTENT))
    with pytest.raises(FileChanged, match="was truncated"):
        file.check()


@pytest.mark.posix
def test_a_link_that_is_added_or_renamed_changes_nothing(path: Path, file: OpenFile) -> None:
    os.link(path, path.with_name("backup"))
    file.check()
    path.rename(path.with_name("renamed"))
    file.check()
    path.with_name("backup").unlink()
    file.check()
    path.with_name("renamed").chmod(0o600)
    file.check()
    overwrite_in_secret(path.with_name("renamed"))
    with pytest.raises(FileChanged, match="was overwritten"):
        file.check()


def test_a_file_without_a_name_can_be_sent(tmp_path: Path) -> None:
    def nameless(path: str, flags: int) -> int:
        descriptor = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
        os.write(descriptor, CONTENT)
        return descriptor

    file = open_file("nameless", nameless)
    assert file.read(0, 10) == CONTENT[:10]
    file.close()


def test_a_disk_that_fails_is_told_with_the_place(path: Path, file: OpenFile) -> None:
    break_reads(path, file.descriptor)
    with pytest.raises(FileUnavailable, match=r"film.mp4 cannot be read at byte 7: ") as error:
        file.read(7, 8)
    assert isinstance(error.value.__cause__, OSError)


def break_reads(path: Path, descriptor: int) -> None:
    """Make every later read fail, as on a broken disk: the descriptor becomes one for writing."""
    writing = os.open(path, os.O_WRONLY)
    os.dup2(writing, descriptor)
    os.close(writing)


# Blocks


@given(
    st.lists(
        st.binary(min_size=1, max_size=9)
        | st.tuples(st.integers(0, 400), st.integers(1, 90)).map(
            lambda extent: Extent(extent[0], extent[0] + extent[1])
        ),
        max_size=8,
    ),
    st.integers(1, 50),
)
def test_blocks_are_the_pieces_and_no_block_is_larger_than_asked(
    pieces: list[bytes | Extent], block_bytes: int
) -> None:
    with tempfile.TemporaryFile() as written:
        written.write(CONTENT[:500])
        written.flush()
        descriptor = os.dup(written.fileno())
    blocks = FileBlocks(OpenFile("content", descriptor), pieces, block_bytes)
    got = list(blocks)
    blocks.close()
    expected = [
        piece if isinstance(piece, bytes) else CONTENT[piece.start : piece.stop] for piece in pieces
    ]
    assert b"".join(got) == b"".join(expected)
    assert all(len(block) <= max(block_bytes, 9) for block in got)


def test_blocks_that_were_never_read_close_the_file_too(path: Path) -> None:
    with no_leaks():
        blocks = FileBlocks(open_file(str(path)), [Extent(0, 10)], 10)
        blocks.close()
        assert list(blocks) == []
