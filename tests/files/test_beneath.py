"""Opening beneath a directory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tailrace.errors import PathRefused
from tailrace.files.beneath import Links, Tree
from tailrace.runtime import Descriptor
from tests.files.swapper import Swapper
from tests.files.tree import SECRET

INSIDE = Links(True, frozenset())
NEVER = Links(False, frozenset())


def read(root: Path, path: str, links: Links = INSIDE) -> bytes:
    with Tree(str(root), links).open(path.split("/")) as opened:
        assert not opened.is_directory
        return os.read(opened.fileno(), 1000)


def named(*paths: str) -> Links:
    return Links(True, frozenset(tuple(path.split("/")) for path in paths))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("hello.txt", b"hello"),
        ("docs/deep/end.txt", b"the end"),
        ("in", b"hello"),
        ("in-docs/guide.md", b"# Guide\n"),
        ("in-docs/up", b"hello"),
        ("in-through", b"# Guide\n"),
        ("in-absolute/deep/end.txt", b"the end"),
    ],
)
def test_what_is_inside_is_opened(root: Path, path: str, content: bytes) -> None:
    assert read(root, path) == content


@pytest.mark.parametrize(
    "path",
    [
        *("out", "out/secret.txt", "out-file", "out-absolute", "out-passwd", "out-beside"),
        *("out-dots", "out-through", "out-and-in", "out-proc", "out-proc/tests", "null"),
    ],
)
def test_a_link_that_leads_out_is_refused(root: Path, path: str) -> None:
    with pytest.raises(PathRefused, match="leads out of the directory"):
        read(root, path)


@pytest.mark.parametrize("path", ["in", "in-docs/guide.md", "in-absolute/guide.md", "docs/up"])
def test_no_link_is_followed_where_none_may_be(root: Path, path: str) -> None:
    with pytest.raises(PathRefused, match="is a symbolic link"):
        read(root, path, NEVER)


@pytest.mark.parametrize("path", ["loop", "loop-there", "around"])
def test_links_without_end_are_refused(root: Path, path: str) -> None:
    with pytest.raises(PathRefused, match="more than 40 links"):
        read(root, path)


def test_a_link_is_allowed_by_its_name(root: Path) -> None:
    assert read(root, "out/secret.txt", named("out")) == SECRET
    assert read(root, "out-file", named("out-file")) == SECRET


def test_a_link_that_is_allowed_is_reached_by_another_link(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "a.txt").write_bytes(b"a")
    (tmp_path / "root" / "current").symlink_to(tmp_path / "release")
    (tmp_path / "root" / "alias").symlink_to("current")
    assert read(tmp_path / "root", "alias/a.txt", named("current")) == b"a"


def test_behind_a_link_that_is_allowed_nothing_leads_further_out(tmp_path: Path) -> None:
    root, release = tmp_path / "root", tmp_path / "release"
    root.mkdir()
    (release / "docs").mkdir(parents=True)
    (release / "a.txt").write_bytes(b"a")
    (release / "docs" / "up").symlink_to("../a.txt")
    (release / "docs" / "out").symlink_to("../../secret.txt")
    (release / "docs" / "around").symlink_to("../../root/current/a.txt")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (root / "current").symlink_to("../release")
    assert read(root, "current/docs/up", named("current")) == b"a"
    for path in ("current/docs/out", "current/docs/around"):
        with pytest.raises(PathRefused, match="leads out"):
            read(root, path, named("current"))


def test_a_name_is_allowed_in_the_directory_itself_only(tmp_path: Path) -> None:
    root, release = tmp_path / "root", tmp_path / "release"
    root.mkdir()
    release.mkdir()
    (root / "current").symlink_to("../release")
    (release / "current").symlink_to("..")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    with pytest.raises(PathRefused, match="leads out"):
        read(root, "current/current/secret.txt", named("current"))


def test_a_link_behind_one_that_is_allowed_may_lead_back_inside(tmp_path: Path) -> None:
    root, release = tmp_path / "root", tmp_path / "release"
    root.mkdir()
    release.mkdir()
    (root / "a.txt").write_bytes(b"a")
    (release / "back").symlink_to(root / "a.txt")
    (root / "current").symlink_to("../release")
    assert read(root, "current/back", named("current")) == b"a"


def test_a_device_is_not_opened_though_its_link_is_allowed(root: Path) -> None:
    with pytest.raises(PathRefused, match="neither a plain file nor a directory"):
        read(root, "null", named("null"))


@pytest.mark.parametrize("path", ["fifo", "in-fifo", "socket"])
def test_what_is_no_plain_file_is_refused_at_once(root: Path, path: str) -> None:
    # A FIFO that were opened plainly would block here for ever: nobody writes to it.
    with pytest.raises(PathRefused, match="neither a plain file nor a directory"):
        read(root, path)


def test_a_file_is_no_directory(root: Path) -> None:
    with pytest.raises(NotADirectoryError):
        read(root, "hello.txt/more")


@pytest.mark.parametrize("path", ["nothing", "docs/nothing", "dangling", "x" * 300])
def test_what_is_not_there_is_an_error_of_the_file_system(root: Path, path: str) -> None:
    with pytest.raises(OSError, match=r"No such file|name too long"):
        read(root, path)


def test_a_link_above_the_directory_is_followed_anew_each_time(tmp_path: Path) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a.txt").write_text(release)
        (tmp_path / release / "self").symlink_to(tmp_path / "current" / "a.txt")
    (tmp_path / "current").symlink_to("one")
    assert read(tmp_path / "current", "a.txt") == b"one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "current")
    assert read(tmp_path / "current", "a.txt") == b"two"
    assert read(tmp_path / "current", "self") == b"two"


def test_everything_is_beneath_the_root_of_the_system() -> None:
    with Tree("/", INSIDE).open(Path(__file__).parts[1:]) as opened:
        assert opened.stat.st_ino == Path(__file__).stat().st_ino


def test_what_was_opened_stays_the_same_when_its_path_changes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"before")
    with Tree(str(tmp_path), INSIDE).open(["a.txt"]) as opened:
        (tmp_path / "b.txt").write_bytes(b"after")
        (tmp_path / "b.txt").rename(tmp_path / "a.txt")
        assert os.read(opened.fileno(), 100) == b"before"


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.linux
def test_no_descriptor_is_left_by_any_way_down(root: Path) -> None:
    before = open_descriptors()
    tree = Tree(str(root), named("out"))
    for path in [*os.listdir(root), "docs/up", "in-docs/deep", "out/secret.txt", "out/nothing"]:
        with contextlib.suppress(OSError, PathRefused):
            tree.open(path.split("/")).close()
    assert open_descriptors() == before


@pytest.mark.linux
def test_what_nobody_refers_to_is_closed(root: Path) -> None:
    before = open_descriptors()
    opened: Descriptor | None = Tree(str(root), INSIDE).open(["hello.txt"])
    assert open_descriptors() == before + 1
    opened = None
    assert opened is None
    assert open_descriptors() == before


def test_a_descriptor_that_was_handed_over_stays_open(root: Path) -> None:
    opened = Tree(str(root), INSIDE).open(["hello.txt"])
    descriptor = opened.detach()
    opened.close()
    assert os.read(descriptor, 10) == b"hello"
    os.close(descriptor)
    with pytest.raises(ValueError, match="this file is closed"):
        opened.fileno()


# Swapped while it is opened ----------------------------------------------------------------------


ATTEMPTS = 20_000
"""Opens in one test. A check of the path that is then opened reads the secret some 3,000 times."""


def read_while_swapped(tree: Tree, path: str, place: Path, other: Path) -> set[bytes | None]:
    """Everything that was read, and None where nothing could be opened."""
    seen: set[bytes | None] = set()
    with Swapper(place, other):
        for _ in range(ATTEMPTS):
            try:
                with tree.open(path.split("/")) as opened:
                    seen.add(b"" if opened.is_directory else os.read(opened.fileno(), 100))
            except (OSError, PathRefused):
                seen.add(None)
    return seen


@pytest.mark.parametrize("links", [INSIDE, NEVER], ids=["inside", "never"])
@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.slow
def test_a_directory_swapped_for_a_link_never_leads_out(
    tmp_path: Path, links: Links, absolute: bool
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for directory, content in ((root / "dir", b"inside"), (outside, SECRET)):
        directory.mkdir(parents=True)
        (directory / "a.txt").write_bytes(content)
    (root / "link").symlink_to(outside if absolute else "../outside")
    seen = read_while_swapped(Tree(str(root), links), "dir/a.txt", root / "dir", root / "link")
    assert b"inside" in seen
    assert None in seen
    assert SECRET not in seen


@pytest.mark.slow
def test_a_file_swapped_for_a_link_never_leads_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (root / "a.txt").write_bytes(b"inside")
    (root / "link").symlink_to("../secret.txt")
    seen = read_while_swapped(Tree(str(root), INSIDE), "a.txt", root / "a.txt", root / "link")
    assert seen == {b"inside", None}


@pytest.mark.slow
def test_a_file_swapped_for_a_fifo_never_blocks(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"inside")
    os.mkfifo(tmp_path / "fifo")
    tree = Tree(str(tmp_path), INSIDE)
    seen = read_while_swapped(tree, "a.txt", tmp_path / "a.txt", tmp_path / "fifo")
    assert seen == {b"inside", None}


@pytest.mark.slow
def test_a_link_inside_that_is_swapped_for_one_outside_is_read_as_one_of_them(
    tmp_path: Path,
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for directory, content in ((root / "dir", b"inside"), (outside, SECRET)):
        directory.mkdir(parents=True)
        (directory / "a.txt").write_bytes(content)
    (root / "good").symlink_to("dir")
    (root / "bad").symlink_to("../outside")
    tree = Tree(str(root), INSIDE)
    seen = read_while_swapped(tree, "good/a.txt", root / "good", root / "bad")
    assert seen == {b"inside", None}
