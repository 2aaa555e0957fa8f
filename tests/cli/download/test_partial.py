"""Partial files on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tailrace.cli.download.partial import PartialFile
from tailrace.cli.download.resume import Record
from tailrace.cli.download.span import Span
from tailrace.errors import DownloadFailed

URL = "http://host/file"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file"


def record(size: int) -> Record:
    return Record(validator='"v1"', total=size, missing=(Span(0, size),))


def opened(target: Path) -> PartialFile:
    part = PartialFile.open(target, URL, create=True)
    assert part is not None
    return part


def written(target: Path, data: bytes, size: int) -> PartialFile:
    part = opened(target)
    part.begin(record(size), reserve=False)
    part.write(0, data)
    return part


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_there_is_none_before_it_is_made(target: Path) -> None:
    assert PartialFile.open(target, URL, create=False) is None
    assert names(target) == []


def test_what_was_written_is_known_to_the_next_run(target: Path) -> None:
    written(target, b"half", 8).close()
    assert names(target) == ["file.part", "file.part.json"]
    part = opened(target)
    part.load()
    assert part.record == Record(validator='"v1"', total=8, missing=(Span(4, 8),))
    part.close()


def test_the_sidecar_is_its_owners_only(target: Path) -> None:
    written(target, b"half", 8).close()
    assert (target.parent / "file.part.json").stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_where_nothing_came(target: Path) -> None:
    part = opened(target)
    part.begin(record(8), reserve=True)
    part.close()
    assert names(target) == []


def test_what_is_not_ours_to_judge_is_left_alone(target: Path) -> None:
    (target.parent / "file.part").write_bytes(b"somebody's")
    part = opened(target)
    part.load()
    assert part.record is None
    part.close()
    assert (target.parent / "file.part").read_bytes() == b"somebody's"


def test_a_complete_file_takes_its_name(target: Path) -> None:
    part = written(target, b"whole", 5)
    part.publish(force=False)
    part.close()
    assert names(target) == ["file"]
    assert target.read_bytes() == b"whole"


def test_bytes_of_an_earlier_longer_file_are_not_in_it(target: Path) -> None:
    written(target, b"a longer file", 20).close()
    part = written(target, b"new", 3)
    part.publish(force=False)
    part.close()
    assert target.read_bytes() == b"new"


def test_a_different_file_that_came_meanwhile_is_not_replaced(target: Path) -> None:
    part = written(target, b"whole", 5)
    target.write_bytes(b"other")
    with pytest.raises(DownloadFailed, match="--force"):
        part.publish(force=False)
    part.close()
    assert target.read_bytes() == b"other"
    assert names(target) == ["file", "file.part", "file.part.json"]


def test_the_same_file_that_came_meanwhile_is_fine(target: Path) -> None:
    part = written(target, b"whole", 5)
    target.write_bytes(b"whole")
    part.publish(force=False)
    part.close()
    assert names(target) == ["file"]


def test_force_replaces_it(target: Path) -> None:
    part = written(target, b"whole", 5)
    target.write_bytes(b"other")
    part.publish(force=True)
    part.close()
    assert target.read_bytes() == b"whole"


def test_a_dangling_link_at_its_name_is_not_followed(target: Path, tmp_path: Path) -> None:
    target.symlink_to(tmp_path / "elsewhere")
    part = written(target, b"whole", 5)
    with pytest.raises((DownloadFailed, OSError)):
        part.publish(force=False)
    part.close()
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_in_its_place_is_not_followed(target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "file.part").symlink_to(victim)
    with pytest.raises(OSError, match=r"file\.part"):
        PartialFile.open(target, URL, create=True)
    assert victim.read_bytes() == b"precious"


def test_a_link_in_the_sidecars_place_is_replaced(target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "file.part.json").symlink_to(victim)
    (tmp_path / "file.part.json~").symlink_to(victim)
    written(target, b"half", 8).close()
    assert victim.read_bytes() == b"precious"


def test_a_pipe_in_its_place_is_refused(target: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file.part")
    with pytest.raises(DownloadFailed, match="not a regular file"):
        PartialFile.open(target, URL, create=True)


def test_a_second_download_to_the_same_place_is_refused(target: Path) -> None:
    first = written(target, b"half", 8)
    with pytest.raises(DownloadFailed, match="in use"):
        PartialFile.open(target, URL, create=True)
    first.close()
    opened(target).close()


def test_several_writers_find_their_room_reserved(target: Path) -> None:
    part = opened(target)
    part.begin(record(1 << 20), reserve=True)
    assert part.path.stat().st_blocks * 512 >= 1 << 20
    part.write(4, b"late")
    part.write(0, b"soon")
    assert part.record is not None
    assert part.record.missing == (Span(8, 1 << 20),)
    part.close()


def test_bytes_that_are_wrong_are_missing_again(target: Path) -> None:
    part = written(target, b"wrong", 8)
    part.lose(1, 3)
    assert part.record is not None
    assert part.record.missing == (Span(1, 3), Span(5, 8))
    part.close()


def test_no_descriptor_stays_open(target: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    written(target, b"half", 8).close()
    part = opened(target)
    with pytest.raises(DownloadFailed):
        opened(target)
    part.close()
    assert len(os.listdir("/proc/self/fd")) == before
