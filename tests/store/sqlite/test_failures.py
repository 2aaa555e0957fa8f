"""A disk that is full or fails: a clear error, nothing acknowledged lost, and what comes after."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import apsw
import pytest

from tailrace.errors import StoreFull, StoreUnavailable, StreamNotFound
from tailrace.store import START, Append, NewStream, Producer
from tailrace.store.sqlite import SQLiteStore, maintenance, verify
from tailrace.testing import wait_until
from tests.store.contract import StoreClock
from tests.store.sqlite.faulty import Disk, failure

pytestmark = pytest.mark.anyio

_NAMES = itertools.count()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk(f"faulty-{next(_NAMES)}")
    yield disk
    disk.unregister()


async def test_a_full_disk_is_told_and_works_again_when_there_is_room(
    file: Path, disk: Disk
) -> None:
    async with SQLiteStore(file, vfs=disk.name) as store:
        await store.create("a", NewStream())
        await store.append("a", Append(data=b"one", producer=Producer("p", 0, 0)))
        disk.on_write = failure(apsw.SQLITE_FULL)
        for _ in range(3):
            with pytest.raises(StoreFull, match="no room"):
                await store.append("a", Append(data=b"two", producer=Producer("p", 0, 1)))
        with pytest.raises(StoreFull):
            await store.create("b", NewStream())
        with pytest.raises(StoreFull):
            await store.delete("a")
        with pytest.raises(StoreFull):
            await store.check()
        assert (await store.read("a", START)).data == b"one"
        disk.on_write = None
        await store.check()
        done = await store.append("a", Append(data=b"two", producer=Producer("p", 0, 1)))
        assert not done.duplicate
        assert (await store.read("a", START)).data == b"onetwo"
        with pytest.raises(StreamNotFound):
            await store.head("b")
    assert verify(file) == []


async def test_all_of_a_batch_fail_each_with_an_error_of_its_own(file: Path, disk: Disk) -> None:
    errors: list[StoreFull] = []

    async def append(store: SQLiteStore) -> None:
        with pytest.raises(StoreFull) as caught:
            await store.append("a", Append(data=b"x"))
        errors.append(caught.value)

    async with SQLiteStore(file, vfs=disk.name) as store:
        await store.create("a", NewStream())
        disk.on_write = failure(apsw.SQLITE_FULL)
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(append, store)
        disk.on_write = None
    assert len(set(map(id, errors))) == 10


async def test_after_a_failed_sync_nothing_is_written_by_this_process_any_more(
    file: Path, disk: Disk
) -> None:
    async with SQLiteStore(file, vfs=disk.name) as store:
        await store.create("a", NewStream())
        await store.append("a", Append(data=b"one"))
        disk.on_sync = failure(apsw.SQLITE_IOERR_FSYNC)
        with pytest.raises(StoreUnavailable):
            await store.append("a", Append(data=b"two"))
        disk.on_sync = None
        disk.syncs.clear()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="restart"):
                await store.append("a", Append(data=b"three"))
        with pytest.raises(StoreUnavailable, match="restart"):
            await store.check()
        assert not disk.syncs
        assert (await store.read("a", START)).data == b"one"
    async with SQLiteStore(file) as store:
        await store.append("a", Append(data=b"four"))
        assert (await store.read("a", START)).data in (b"onefour", b"onetwofour")
    assert verify(file) == []


async def test_a_failed_write_is_as_final_as_a_failed_sync(file: Path, disk: Disk) -> None:
    async with SQLiteStore(file, vfs=disk.name) as store:
        await store.create("a", NewStream())
        disk.on_write = failure(apsw.SQLITE_IOERR_WRITE)
        with pytest.raises(StoreUnavailable):
            await store.append("a", Append(data=b"x"))
        disk.on_write = None
        with pytest.raises(StoreUnavailable, match="restart"):
            await store.append("a", Append(data=b"x"))


async def test_each_commit_is_synced_once_before_it_is_acknowledged(file: Path, disk: Disk) -> None:
    async with SQLiteStore(file, vfs=disk.name) as store:
        await store.create("a", NewStream())
        for _ in range(5):
            disk.syncs.clear()
            await store.append("a", Append(data=b"x", producer=None))
            assert disk.syncs == [f"{file}-wal"]


@pytest.mark.posix
async def test_a_limit_of_the_system_on_a_files_size_is_a_full_disk(file: Path) -> None:
    script = (
        "import anyio, resource, sys\n"
        "from tailrace.errors import StoreFull\n"
        "from tailrace.store import Append, NewStream\n"
        "from tailrace.store.sqlite import SQLiteStore\n"
        "async def main():\n"
        "    async with SQLiteStore(sys.argv[1]) as store:\n"
        "        await store.create('a', NewStream())\n"
        "        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))\n"
        "        done = full = 0\n"
        "        for number in range(20):\n"
        "            try:\n"
        "                await store.append('a', Append(data=b'x' * 50_000))\n"
        "                done += 1\n"
        "            except StoreFull:\n"
        "                full += 1\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "        await store.append('a', Append(data=b'y'))\n"
        "        print(done, full)\n"
        "anyio.run(main)\n"
    )
    done = await anyio.run_process([sys.executable, "-c", script, str(file)])
    appended, refused = (int(word) for word in done.stdout.split())
    assert appended
    assert refused
    async with SQLiteStore(file) as store:
        assert (await store.head("a")).tail.position == appended * 50_000 + 1
    assert verify(file) == []


async def test_a_text_that_cannot_be_written_fails_alone(file: Path) -> None:
    async with SQLiteStore(file) as store:
        for path in ("a", "b"):
            await store.create(path, NewStream())

        async def bad() -> None:
            with pytest.raises(UnicodeEncodeError):
                await store.append("a", Append(data=b"x", producer=Producer("\ud800", 0, 0)))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(store.append, "b", Append(data=b"%02d" % number))
                if number % 5 == 0:
                    group.start_soon(bad)
        assert (await store.head("b")).tail.position == 40
        assert (await store.head("a")).tail.position == 0
        await store.append("a", Append(data=b"x"))
    assert verify(file) == []


async def test_upkeep_that_fails_is_not_tried_all_the_time(file: Path, disk: Disk) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, vfs=disk.name, clock=clock) as store:
        await store.create("a", NewStream(ttl=1))
        disk.on_write = failure(apsw.SQLITE_FULL)
        clock.advance(100)
        began = time.process_time()
        with pytest.raises(StoreFull):
            await store.check()
        await anyio.sleep(0.5)
        assert time.process_time() - began < 0.25
        with pytest.raises(StreamNotFound):
            await store.head("a")
        disk.on_write = None
        await store.check()


def remove(path: str) -> None:
    Path(path).unlink()


@pytest.mark.posix
@pytest.mark.parametrize("lost", ["", "-lock"])
async def test_a_file_that_was_deleted_under_it_is_written_no_more(file: Path, lost: str) -> None:
    # SQLite itself would go on, and all that it acknowledges would be gone with the process.
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"one"))
        remove(f"{file}{lost}")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="deleted or replaced"):
                await store.append("a", Append(data=b"two"))
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            await store.check()


@pytest.mark.posix
async def test_a_file_that_was_replaced_under_it_is_written_no_more(
    file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    async with SQLiteStore(copy) as other:
        await other.create("a", NewStream(data=b"other"))
    async with SQLiteStore(file) as store:
        await store.create("a", NewStream(data=b"one"))
        copy.replace(file)
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            await store.append("a", Append(data=b"two"))


async def test_a_writer_that_has_failed_as_a_whole_answers_all_that_comes(file: Path) -> None:
    is_broken = False

    def clock() -> int:
        assert not is_broken, "a clock that fails"
        return time.time_ns() // 1_000_000

    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream())
        is_broken = True
        with anyio.fail_after(30):
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="does not try again"):
                    await store.append("a", Append(data=b"x"))


async def test_uses_that_found_the_disk_full_are_written_when_there_is_room(
    file: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_PAUSE", 0.01)
    clock = StoreClock()
    async with SQLiteStore(file, vfs=disk.name, clock=clock) as store:
        await store.create("a", NewStream(ttl=100))
        clock.advance(11)
        disk.on_write = failure(apsw.SQLITE_FULL)
        await store.read("a", START)
        with pytest.raises(StoreFull):
            await store.check()
        disk.on_write = None
        look = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
        await wait_until(lambda: look.execute("SELECT touched FROM stream").get == clock())
        look.close()


async def test_a_deletion_that_failed_forgets_no_use_of_the_stream(file: Path, disk: Disk) -> None:
    clock = StoreClock()
    async with SQLiteStore(file, vfs=disk.name, clock=clock) as store:
        await store.create("a", NewStream(ttl=100))
        clock.advance(9)
        await store.read("a", START)
        disk.on_write = failure(apsw.SQLITE_FULL)
        with pytest.raises(StoreFull):
            await store.delete("a")
        disk.on_write = None
        clock.advance(99)
        await store.head("a")
