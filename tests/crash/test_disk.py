"""The recorder and the simulated disk themselves, on plain SQLite and on records made by hand."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import apsw
import pytest

from tests.crash.disk import BLOCKS, Disk
from tests.crash.power import memory_folder, power_cuts
from tests.crash.recorder import Recorder, recording
from tests.crash.trace import Deleted, Entered, Record, Synced, Truncated, Wrote

DRAWS = 300
"""How often a state is drawn where each of a few must come up."""


_Files = tuple[tuple[str, bytes], ...]


def states(
    *records: Record, initial: dict[str, bytes] | None = None, block: int = 4096
) -> set[_Files]:
    """Every image that came up, of a disk on which this was done."""
    disk = Disk(initial or {})
    for record in records:
        disk.follow(record)
    rng = random.Random(7)
    return {tuple(disk.cut(rng, block).items()) for _ in range(DRAWS)}


def contents(*records: Record, initial: bytes = b"", block: int = 4096) -> set[bytes]:
    """Every content of the one file that came up."""
    return {dict(image)["f"] for image in states(*records, initial={"f": initial}, block=block)}


def test_what_was_synced_is_there() -> None:
    assert contents(Wrote(0, 0, b"one"), Synced(0, 1)) == {b"one"}


def test_what_was_not_synced_is_there_or_not_or_as_zeros() -> None:
    assert contents(Wrote(0, 0, b"one")) == {b"", b"one", b"\0\0\0"}


def test_a_sync_does_not_cover_what_was_written_while_it_ran() -> None:
    assert contents(Wrote(0, 0, b"one"), Wrote(0, 0, b"two"), Synced(0, 1)) == {b"one", b"two"}


def test_a_sync_of_one_file_brings_nothing_of_another() -> None:
    found = states(
        Wrote(0, 0, b"new"), Wrote(1, 0, b"new"), Synced(1, 2), initial={"f": b"old", "g": b"old"}
    )
    assert found == {(("f", b"old"), ("g", b"new")), (("f", b"new"), ("g", b"new"))}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_write_is_torn_where_blocks_end(block: int) -> None:
    old, new = b"o" * (2 * block), b"n" * (2 * block)
    found = contents(Wrote(0, 0, new), initial=old, block=block)
    assert found == {a * block + b * block for a in (b"o", b"n") for b in (b"o", b"n")}


def test_each_block_is_as_it_was_after_any_of_the_writes() -> None:
    writes = [Wrote(0, 0, letter * 1024) for letter in (b"1", b"2")]
    found = contents(*writes, initial=b"0" * 1024, block=512)
    assert found == {a * 512 + b * 512 for a in (b"0", b"1", b"2") for b in (b"0", b"1", b"2")}


def test_a_file_may_be_longer_than_its_data() -> None:
    found = contents(Wrote(0, 0, b"a" * 512), Wrote(0, 512, b"b" * 512), block=512)
    assert bytes(512) + b"b" * 512 in found
    assert b"a" * 512 + bytes(512) in found
    assert b"b" * 512 not in found


def test_a_truncation_happened_or_did_not() -> None:
    assert contents(Truncated(0, 0), initial=b"a" * 9000) == {b"a" * 9000, b""}


def test_what_is_written_after_a_truncation_comes_after_it() -> None:
    old = b"o" * 1024
    found = contents(Truncated(0, 0), Wrote(0, 512, b"n" * 512), initial=old, block=512)
    assert found == {old, b"", bytes(1024), bytes(512) + b"n" * 512}


def test_a_name_is_certain_once_the_directory_was_synced() -> None:
    made = (Entered("f", 0), Wrote(0, 0, b"x"))
    assert () in states(*made, Synced(0, 2, names=False))
    assert states(*made, Synced(0, 2, names=True)) == {(("f", b"x"),)}


def test_a_deleted_file_comes_back_unless_the_directory_was_synced() -> None:
    assert states(Deleted("f", synced=False), initial={"f": b"x"}) == {(), (("f", b"x"),)}
    assert states(Deleted("f", synced=True), initial={"f": b"x"}) == {()}


def test_a_name_that_is_used_again_stands_for_one_of_its_files_or_none() -> None:
    found = states(Deleted("f", False), Entered("f", 1), Wrote(1, 0, b"n"), initial={"f": b"o"})
    assert {dict(image).get("f") for image in found} == {b"o", None, b"", b"n", b"\0"}


class Rows:
    """A table whose rows are committed one by one, through a recorder.

    Attributes:
        committed: The place in the trace after each commit.
    """

    def __init__(self, recorder: Recorder, folder: Path, synchronous: str) -> None:
        self.committed: list[int] = []
        self._recorder = recorder
        self._connection = apsw.Connection(str(folder / "db"), vfs=recorder.name)
        self._do("PRAGMA journal_mode=WAL")
        self._do(f"PRAGMA synchronous={synchronous}")
        self._do("PRAGMA wal_autocheckpoint=0")
        self._do("CREATE TABLE row(number INTEGER PRIMARY KEY, data BLOB)")

    def write(self, count: int) -> None:
        """Rows of growing size, with a checkpoint now and then."""
        modes = itertools.cycle(("PASSIVE", "RESTART", "TRUNCATE"))
        for number in range(count):
            self._do(f"INSERT INTO row VALUES({number}, zeroblob({40 + 900 * number}))")
            self.committed.append(self._recorder.trace.mark())
            if number % 7 == 6:
                self._do(f"PRAGMA wal_checkpoint({next(modes)})")

    def close(self) -> None:
        self._connection.close()

    def _do(self, sql: str) -> None:
        self._connection.execute(sql).fetchall()


def rows_in(folder: Path) -> list[int]:
    """The rows that are found again; none if there is not even a table."""
    connection = apsw.Connection(str(folder / "db"))
    try:
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        return [number for (number,) in connection.execute("SELECT number FROM row ORDER BY 1")]
    except apsw.SQLError:
        return []
    finally:
        connection.close()


def losses(synchronous: str, cuts: int) -> int:
    """After how many of the power cuts a row is missing that was committed, or is made up."""
    lost = 0
    with memory_folder() as folder:
        (live := folder / "live").mkdir()
        with recording(live) as recorder:
            rows = Rows(recorder, live, synchronous)
            rows.write(30)
            rows.close()
        every = power_cuts(recorder.initial, recorder.trace.records, cuts, random.Random(3))
        for number, cut in enumerate(every):
            cut.restore(folder / str(number))
            found = rows_in(folder / str(number))
            least = sum(place < cut.place for place in rows.committed)
            lost += found != list(range(len(found))) or not least <= len(found) <= least + 1
    return lost


def test_what_was_recorded_makes_the_very_files(tmp_path: Path) -> None:
    with recording(tmp_path) as recorder:
        rows = Rows(recorder, tmp_path, "FULL")
        rows.write(30)
        disk = Disk(recorder.initial)
        for record in recorder.trace.records:
            disk.follow(record)
        image = disk.now()
        assert image == {name: (tmp_path / name).read_bytes() for name in ("db", "db-wal")}
        rows.close()


def test_sqlite_loses_nothing_when_it_syncs_each_commit() -> None:
    assert losses("FULL", 200) == 0


def test_sqlite_loses_commits_when_it_does_not_sync_them() -> None:
    assert losses("NORMAL", 50) > 10
