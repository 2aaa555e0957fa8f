"""Opening without waiting, and which part of a file can be sent without waiting for the disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tailrace.runtime import Descriptor, call_in_thread, file_threads
from tailrace.server.file_sending import open_path, read_cached
from tailrace.server.transfer import PageCacheProbe
from tailrace.testing import no_leaks


def test_a_file_that_opens_after_its_transfer_was_given_up_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    (tmp_path / "file").write_bytes(b"content")

    async def main() -> None:
        async with no_leaks():
            opening = asyncio.create_task(open_path(str(tmp_path / "file")))
            await asyncio.sleep(0)  # the thread is on its way
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await call_in_thread(lambda: None, threads=file_threads)
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert not path.exists()


def test_a_fifo_without_a_writer_opens_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    async def main() -> None:
        async with asyncio.timeout(5):
            file = await open_path(str(tmp_path / "fifo"))
        assert file.size is None
        file.close()

    asyncio.run(main())


def made_cold(path: Path, size: int) -> Descriptor:
    path.write_bytes(os.urandom(size))
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return Descriptor(descriptor, str(path))


@pytest.mark.linux
def test_what_is_cold_is_not_ready_and_is_after_it_was_fetched(tmp_path: Path) -> None:
    size = 5_000_000

    async def main() -> None:
        file = made_cold(tmp_path / "cold", size)
        if read_cached(file.fileno(), 4096, 0) is not None:
            pytest.skip("this file system keeps what it is told to drop")
        probe = PageCacheProbe(file, size, asyncio.get_running_loop())
        at, steps = 0, 0
        while at < size:
            ready = probe.ready(at, min(at + 1_000_000, size))
            if ready == at:
                fetched = asyncio.Event()
                probe.fetch(at, fetched.set)
                await fetched.wait()
                assert probe.error is None
                steps += 1
            at = ready
        assert steps >= 1
        assert read_cached(file.fileno(), size, 0) is not None
        file.close()

    asyncio.run(main())


def test_what_is_in_the_cache_is_ready_without_a_thread(tmp_path: Path) -> None:
    (tmp_path / "warm").write_bytes(bytes(3_000_000))

    async def main() -> None:
        file = Descriptor(os.open(tmp_path / "warm", os.O_RDONLY), "warm")
        if read_cached(file.fileno(), 4096, 0) is None:
            pytest.skip("this file system cannot tell what is cached")
        probe = PageCacheProbe(file, 3_000_000, asyncio.get_running_loop())
        assert probe.ready(0, 1_000_000) == 1_000_000
        assert probe.ready(2_500_000, 3_000_000) == 3_000_000
        file.close()

    asyncio.run(main())


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    """A directory: it opens, and reading it fails."""

    async def main() -> None:
        file = Descriptor(os.open(tmp_path, os.O_RDONLY), "a directory")
        probe = PageCacheProbe(file, 1000, asyncio.get_running_loop())
        told = asyncio.Event()
        probe.fetch(0, told.set)
        await told.wait()
        assert probe.error is not None
        file.close()

    asyncio.run(main())


def test_the_end_of_a_file_is_not_taken_for_its_cached_part(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"12345")
    descriptor = os.open(tmp_path / "short", os.O_RDONLY)
    try:
        assert read_cached(descriptor, 6, 0) is None
        assert read_cached(descriptor, 5, 0) in (b"12345", None)
    finally:
        os.close(descriptor)
