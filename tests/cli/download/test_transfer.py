"""Downloads from a server that misbehaves."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tailrace import limits
from tailrace.cli.download import Order, RetryPolicy, Transfer
from tailrace.errors import DownloadFailed
from tests.cli.file_server import Fault, FileServer

pytestmark = pytest.mark.anyio

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(310_000)
LARGE = random.Random(3).randbytes(5 * limits.MIN_PIECE_BYTES + 12_345)

SOON = RetryPolicy(retries=3, base=0.001)


class Notes:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.begun: list[tuple[int | None, int]] = []
        self.received = 0
        self.first = anyio.Event()
        self.path = Path()

    def begin(self, path: Path, total: int | None, have: int) -> None:
        self.begun.append((total, have))

    def advance(self, count: int) -> None:
        self.received += count
        self.first.set()

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the command runs on


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file"


async def fetch(server: FileServer, target: Path | None, **options: object) -> Notes:
    """Download /file, and give what the watcher was told."""
    notes = Notes()
    order = Order(
        **{"url": f"{server.url}/file", "target": target, "retry": SOON, "timeout": 5.0, **options}
    )
    notes.path = await Transfer(order, notes).run()
    return notes


async def interrupted(server: FileServer, target: Path, cut: int, **options: object) -> None:
    """Leave a partial file of `cut` bytes."""
    server.faults.append(Fault(cut=cut))
    with pytest.raises(DownloadFailed):
        await fetch(server, target, **{"retry": RetryPolicy(retries=0), **options})
    server.seen.clear()


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def saved(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


# The simple case ----------------------------------------------------------------------------------


async def test_a_file_arrives_whole_and_alone(server: FileServer, target: Path) -> None:
    notes = await fetch(server, target)
    assert saved(target) == CONTENT
    assert names(target) == ["file"]
    assert notes.begun == [(len(CONTENT), 0)]
    assert notes.received == len(CONTENT)
    assert [seen.range for seen in server.seen] == [None]


async def test_an_empty_file_arrives(server: FileServer, target: Path) -> None:
    server.content = b""
    for jobs in (1, 4):
        await fetch(server, target, jobs=jobs, force=True)
        assert saved(target) == b""


async def test_a_file_of_unknown_length_arrives(server: FileServer, target: Path) -> None:
    server.always = Fault(headers={"content-length": None})
    notes = await fetch(server, target)
    assert saved(target) == CONTENT
    assert notes.begun == [(None, 0)]


async def test_no_coding_is_asked_for(server: FileServer, target: Path) -> None:
    await fetch(server, target)
    assert server.seen[0].headers["accept-encoding"] == "identity"


async def test_a_file_is_saved_as_it_was_sent_whatever_its_coding(
    server: FileServer, target: Path
) -> None:
    server.headers["content-encoding"] = "gzip"
    await fetch(server, target)
    assert saved(target) == CONTENT


# Names --------------------------------------------------------------------------------------------


async def test_the_url_names_the_file(server: FileServer, tmp_path: Path) -> None:
    notes = await fetch(server, None, directory=tmp_path)
    assert notes.path == tmp_path / "file"


async def test_the_server_names_the_file(server: FileServer, tmp_path: Path) -> None:
    server.headers["content-disposition"] = 'attachment; filename="../../film.mp4"'
    notes = await fetch(server, None, directory=tmp_path)
    assert notes.path == tmp_path / "film.mp4"
    assert names(notes.path) == ["film.mp4"]


async def test_a_file_that_the_server_names_is_continued(
    server: FileServer, tmp_path: Path
) -> None:
    server.headers["content-disposition"] = "attachment; filename=film.mp4"
    await interrupted(server, tmp_path / "film.mp4", cut=100_000)
    notes = await fetch(server, None, directory=tmp_path)
    assert saved(notes.path) == CONTENT
    # The first answer gave the name, the second the rest.
    assert [seen.range for seen in server.seen] == [None, "bytes=100000-"]
    assert notes.received == 200_000


# Files that are there -----------------------------------------------------------------------------


async def test_a_file_that_is_there_is_left_alone(server: FileServer, target: Path) -> None:
    put(target, b"mine")
    with pytest.raises(DownloadFailed, match="--force"):
        await fetch(server, target)
    assert saved(target) == b"mine"
    assert names(target) == ["file"]
    assert server.seen == []


async def test_a_file_that_is_there_under_the_servers_name_is_left_alone(
    server: FileServer, tmp_path: Path
) -> None:
    put(tmp_path / "file", b"mine")
    with pytest.raises(DownloadFailed, match="--force"):
        await fetch(server, None, directory=tmp_path)
    assert saved(tmp_path / "file") == b"mine"


async def test_force_replaces_it_only_when_the_new_one_is_whole(
    server: FileServer, target: Path
) -> None:
    put(target, b"mine")
    await interrupted(server, target, cut=1000, force=True)
    assert saved(target) == b"mine"
    await fetch(server, target, force=True)
    assert saved(target) == CONTENT


@pytest.mark.parametrize("force", [False, True])
async def test_a_device_is_never_replaced(server: FileServer, force: bool) -> None:
    with pytest.raises(DownloadFailed, match="not a regular file"):
        await fetch(server, Path("/dev/null"), force=force)


# Going on -----------------------------------------------------------------------------------------


async def test_an_earlier_run_is_continued_where_it_stopped(
    server: FileServer, target: Path
) -> None:
    await interrupted(server, target, cut=100_000)
    notes = await fetch(server, target)
    assert saved(target) == CONTENT
    assert server.seen[0].range == "bytes=100000-"
    assert server.seen[0].headers["if-range"] == '"v1"'
    assert notes.begun == [(len(CONTENT), 100_000)]


async def test_a_cut_connection_is_continued_in_the_same_run(
    server: FileServer, target: Path
) -> None:
    server.faults.extend([Fault(cut=100_000), Fault(cut=50_000), Fault(silent=True)])
    notes = await fetch(server, target)
    assert saved(target) == CONTENT
    assert [seen.range for seen in server.seen] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
        "bytes=150000-",
    ]
    assert notes.received == len(CONTENT)
    assert len(notes.texts) == 3


async def test_a_server_that_cuts_each_connection_is_borne_with(
    server: FileServer, target: Path
) -> None:
    server.always = Fault(cut=20_000)
    await fetch(server, target)
    assert saved(target) == CONTENT
    assert len(server.seen) == 15


async def test_a_file_that_has_changed_since_is_begun_anew(
    server: FileServer, target: Path
) -> None:
    await interrupted(server, target, cut=100_000)
    server.change(OTHER, '"v2"')
    notes = await fetch(server, target)
    assert saved(target) == OTHER
    assert notes.texts == ["the file has changed on the server; starting again"]
    assert len(server.seen) == 1  # the answer that tells it is the new file


async def test_a_file_that_changes_between_two_attempts_is_not_mixed(
    server: FileServer, target: Path
) -> None:
    server.faults.append(Fault(cut=100_000))
    notes = Notes()
    real_note = notes.note

    def change(text: str) -> None:
        if not notes.texts:
            server.change(OTHER, '"v2"')
        real_note(text)

    notes.note = change  # type: ignore[method-assign] # the moment between two attempts
    order = Order(url=f"{server.url}/file", target=target, retry=SOON)
    await Transfer(order, notes).run()
    assert saved(target) == OTHER


async def test_a_server_that_does_not_look_at_if_range_is_caught_by_its_tag(
    server: FileServer, target: Path
) -> None:
    await interrupted(server, target, cut=100_000)
    server.change(OTHER, '"v2"')
    server.faults.append(Fault(part=(100_000, len(OTHER))))
    await fetch(server, target)
    assert saved(target) == OTHER


async def test_a_file_that_shrank_is_begun_anew(server: FileServer, target: Path) -> None:
    await interrupted(server, target, cut=100_000)
    server.content = CONTENT[:50_000]  # under the same tag: the server says 416
    await fetch(server, target)
    assert saved(target) == CONTENT[:50_000]


@pytest.mark.parametrize("tag", [None, 'W/"v1"'])
async def test_without_a_strong_validator_it_begins_anew(
    server: FileServer, target: Path, tag: str | None
) -> None:
    server.headers = {} if tag is None else {"etag": tag}
    await interrupted(server, target, cut=100_000)
    await fetch(server, target)
    assert saved(target) == CONTENT
    assert [seen.range for seen in server.seen] == [None]


async def test_a_date_is_enough_to_go_on(server: FileServer, target: Path) -> None:
    server.headers = {"last-modified": "Wed, 31 Dec 2025 12:00:00 GMT"}
    await interrupted(server, target, cut=100_000)
    await fetch(server, target)
    assert saved(target) == CONTENT
    assert server.seen[0].range == "bytes=100000-"
    assert server.seen[0].headers["if-range"] == "Wed, 31 Dec 2025 12:00:00 GMT"


async def test_no_resume_begins_anew(server: FileServer, target: Path) -> None:
    await interrupted(server, target, cut=100_000)
    await fetch(server, target, resume=False)
    assert saved(target) == CONTENT
    assert server.seen[0].range is None


async def test_the_part_of_another_url_is_not_continued(server: FileServer, target: Path) -> None:
    await interrupted(server, target, cut=100_000, url=f"{server.url}/other")
    await fetch(server, target)
    assert server.seen[0].range is None


async def test_a_damaged_sidecar_begins_anew(server: FileServer, target: Path) -> None:
    await interrupted(server, target, cut=100_000)
    put(target.parent / "file.part.json", b"{")
    await fetch(server, target)
    assert saved(target) == CONTENT
    assert server.seen[0].range is None


async def test_a_part_that_was_whole_is_asked_for_its_version_only(
    server: FileServer, target: Path
) -> None:
    sidecar = target.parent / "file.part.json"
    await interrupted(server, target, cut=100_000)
    put(target.parent / "file.part", CONTENT)
    put(sidecar, json.dumps({**json.loads(saved(sidecar)), "missing": []}).encode())
    notes = await fetch(server, target)
    assert saved(target) == CONTENT
    assert notes.received == 1


async def test_a_length_that_becomes_known_is_used(server: FileServer, target: Path) -> None:
    server.faults.append(
        Fault(
            headers={"transfer-encoding": "chunked", "content-length": None},
            body=b"10\r\n" + CONTENT[:16] + b"\r\n",
            cut=1000,
        )
    )
    notes = await fetch(server, target)
    assert saved(target) == CONTENT
    assert notes.begun == [(None, 0), (len(CONTENT), 16)]


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_tried_again(server: FileServer, target: Path, status: int) -> None:
    server.faults.extend([Fault(status=status), Fault(status=status)])
    await fetch(server, target)
    assert saved(target) == CONTENT


async def test_retry_after_is_obeyed(server: FileServer, target: Path) -> None:
    server.faults.append(Fault(status=429, headers={"retry-after": "1"}))
    notes = await fetch(server, target)
    assert notes.texts == ["the server answered 429 Too Many Requests; trying again in 1.0 s"]


async def test_a_server_that_asks_for_too_long_a_wait_is_given_up(
    server: FileServer, target: Path
) -> None:
    server.faults.append(Fault(status=503, headers={"retry-after": "86400"}))
    with pytest.raises(DownloadFailed, match="asks to wait 86400 s"):
        await fetch(server, target)


async def test_it_gives_up_after_the_last_retry(server: FileServer, target: Path) -> None:
    server.always = Fault(status=500)
    with pytest.raises(DownloadFailed, match="500 Internal Server Error"):
        await fetch(server, target)
    assert len(server.seen) == 1 + SOON.retries
    assert names(target) == []


async def test_what_is_final_is_not_tried_again(server: FileServer, target: Path) -> None:
    server.always = Fault(status=404)
    with pytest.raises(DownloadFailed, match="404 Not Found"):
        await fetch(server, target)
    assert len(server.seen) == 1


async def test_a_part_outlives_a_server_that_refuses(server: FileServer, target: Path) -> None:
    await interrupted(server, target, cut=100_000)
    server.faults.append(Fault(status=404))
    with pytest.raises(DownloadFailed):
        await fetch(server, target)
    await fetch(server, target)
    assert server.seen[-1].range == "bytes=100000-"


async def test_nobody_there_is_tried_again_and_told(target: Path) -> None:
    with FileServer(b"") as server:
        pass  # its port is free now
    with pytest.raises(DownloadFailed, match="no connection"):
        await fetch(server, target)


async def test_a_server_that_goes_silent_is_left(server: FileServer, target: Path) -> None:
    server.faults.append(Fault(cut=100_000, stall=True))
    notes = await fetch(server, target, timeout=0.2)
    assert saved(target) == CONTENT
    assert notes.texts[0].startswith("nothing came for 0.2 s; trying again")


async def test_a_body_that_is_too_short_is_not_taken_for_the_file(
    server: FileServer, target: Path
) -> None:
    server.always = Fault(headers={"content-length": str(len(CONTENT) + 1)}, cut=len(CONTENT))
    with pytest.raises(DownloadFailed):
        await fetch(server, target)
    assert "file" not in names(target)


async def test_a_part_that_is_longer_than_its_place_is_not_taken(
    server: FileServer, target: Path
) -> None:
    await interrupted(server, target, cut=100_000)
    server.always = Fault(part=(100_000, 100_010), headers={"content-length": "20"}, body=b"x" * 20)
    with pytest.raises(DownloadFailed, match="more than it had said"):
        await fetch(server, target)
    server.always = Fault()
    await fetch(server, target)
    assert saved(target) == CONTENT


async def test_another_place_than_asked_for_is_not_written(
    server: FileServer, target: Path
) -> None:
    await interrupted(server, target, cut=100_000)
    server.faults.append(Fault(part=(99_999, len(CONTENT))))
    await fetch(server, target)
    assert saved(target) == CONTENT
    assert [seen.range for seen in server.seen] == ["bytes=100000-", None]


async def test_a_file_that_changes_each_time_is_given_up(server: FileServer, target: Path) -> None:
    server.always = Fault(cut=1000)
    notes = Notes()

    def change(text: str) -> None:
        notes.texts.append(text)
        server.headers["etag"] = f'"v{len(notes.texts)}"'

    notes.note = change  # type: ignore[method-assign] # each attempt meets another version
    order = Order(url=f"{server.url}/file", target=target, retry=SOON)
    with pytest.raises(DownloadFailed):
        await Transfer(order, notes).run()


async def test_a_disk_that_is_full_is_told(server: FileServer, tmp_path: Path) -> None:
    server.headers["content-length"] = str(1 << 62)
    server.always = Fault(headers={"content-range": f"bytes 0-9/{1 << 62}"}, part=(0, 10))
    with pytest.raises(OSError, match=r"No space|too large|Invalid"):
        await fetch(server, tmp_path / "file", jobs=2)
    assert names(tmp_path / "file") == []


# Checksums ----------------------------------------------------------------------------------------


def checksum(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.mark.parametrize("name", ["repr-digest", "content-digest"])
async def test_a_file_that_matches_its_checksum_is_kept(
    server: FileServer, target: Path, name: str
) -> None:
    server.headers[name] = checksum(CONTENT)
    await fetch(server, target)
    assert saved(target) == CONTENT


@pytest.mark.parametrize("name", ["repr-digest", "content-digest"])
async def test_a_file_that_does_not_match_its_checksum_is_removed(
    server: FileServer, target: Path, name: str
) -> None:
    server.headers[name] = checksum(OTHER)
    with pytest.raises(DownloadFailed, match="checksum"):
        await fetch(server, target)
    assert names(target) == []


async def test_a_continued_file_is_checked_as_a_whole(server: FileServer, target: Path) -> None:
    server.headers["repr-digest"] = checksum(CONTENT)
    await interrupted(server, target, cut=100_000)
    part = target.parent / "file.part"
    put(part, b"damaged" + saved(part)[7:])
    with pytest.raises(DownloadFailed, match="checksum"):
        await fetch(server, target)
    assert names(target) == []


async def test_a_part_that_does_not_match_its_own_checksum_is_got_again(
    server: FileServer, target: Path
) -> None:
    await interrupted(server, target, cut=100_000)
    rest = CONTENT[100_000:]
    server.faults.append(
        Fault(headers={"content-digest": checksum(rest)}, body=b"damaged" + rest[7:])
    )
    notes = await fetch(server, target)
    assert saved(target) == CONTENT
    assert [seen.range for seen in server.seen] == ["bytes=100000-"] * 2
    assert "checksum" in notes.texts[0]


# Several connections ------------------------------------------------------------------------------


async def test_pieces_make_the_same_file(server: FileServer, target: Path) -> None:
    server.content = LARGE
    notes = await fetch(server, target, jobs=4)
    assert saved(target) == LARGE
    assert notes.received == len(LARGE)
    assert len(server.seen) == 6
    assert all(seen.headers["if-range"] == '"v1"' for seen in server.seen[1:])


async def test_without_parts_one_connection_gets_it(server: FileServer, target: Path) -> None:
    server.content, server.parts = LARGE, False
    await fetch(server, target, jobs=4)
    assert saved(target) == LARGE
    assert len(server.seen) == 1


async def test_parts_that_cannot_be_told_from_anothers_are_not_used(
    server: FileServer, target: Path
) -> None:
    server.content, server.headers = LARGE, {}
    await fetch(server, target, jobs=4)
    assert saved(target) == LARGE
    assert [seen.range for seen in server.seen] == ["bytes=0-1048575", None]


async def test_a_server_that_allows_few_connections_gets_few(
    server: FileServer, target: Path
) -> None:
    server.content = LARGE
    server.faults.extend([Fault(), Fault(status=503), Fault(status=503), Fault(status=503)])
    await fetch(server, target, jobs=4)
    assert saved(target) == LARGE


async def test_pieces_that_are_cut_are_got_again(server: FileServer, target: Path) -> None:
    server.content = LARGE
    server.faults.extend([Fault(cut=cut) for cut in (500_000, 1, 70_000, 1000, 0, 300_000)])
    notes = await fetch(server, target, jobs=3)
    assert saved(target) == LARGE
    assert notes.received == len(LARGE)


async def test_a_file_that_changes_between_pieces_is_begun_anew(
    server: FileServer, target: Path
) -> None:
    server.content = LARGE
    other = random.Random(4).randbytes(len(LARGE))
    notes = Notes()

    def begin(path: Path, total: int | None, have: int) -> None:
        server.change(other, '"v2"')

    notes.begin = begin  # type: ignore[method-assign] # the moment after the first answer
    order = Order(url=f"{server.url}/file", target=target, retry=SOON, jobs=4)
    await Transfer(order, notes).run()
    assert saved(target) == other


async def test_gaps_are_continued_by_any_number_of_connections(
    server: FileServer, target: Path
) -> None:
    server.content = LARGE
    server.faults.extend([Fault(), Fault(cut=10), Fault(cut=200_000), Fault(cut=3000)])
    with pytest.raises(DownloadFailed):
        await fetch(server, target, jobs=3, retry=RetryPolicy(retries=0))
    held = sum(
        stop - start
        for start, stop in json.loads(saved(target.parent / "file.part.json"))["missing"]
    )
    notes = await fetch(server, target, jobs=1)
    assert saved(target) == LARGE
    assert notes.received == held


async def test_a_cancelled_download_says_what_is_kept(server: FileServer, target: Path) -> None:
    server.faults.append(Fault(cut=100_000, stall=True))
    notes = Notes()
    transfer = Transfer(Order(url=f"{server.url}/file", target=target), notes)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transfer.run)
        await anyio.to_thread.run_sync(server.stalled.wait)
        await notes.first.wait()
        tasks.cancel_scope.cancel()
    assert transfer.kept == f"{target}.part is kept: the same command goes on from there"
    await fetch(server, target)
    assert saved(target) == CONTENT
    assert server.seen[-1].range is not None


# Where it is sent ---------------------------------------------------------------------------------


async def test_a_redirect_is_followed_without_the_users_headers(target: Path) -> None:
    with FileServer(CONTENT) as first, FileServer(CONTENT) as second:
        first.redirect = f"{second.url}/file"
        secret = (("x-api-key", "secret"), ("Authorization", "Bearer secret"))
        await fetch(first, target, url=f"{first.url}/away", headers=secret)
        assert first.seen[0].headers["x-api-key"] == "secret"
        assert first.seen[0].headers["authorization"] == "Bearer secret"
        assert not {"x-api-key", "authorization"} & second.seen[0].headers.keys()
    assert saved(target) == CONTENT


async def test_a_redirect_on_the_same_server_keeps_them(server: FileServer, target: Path) -> None:
    server.redirect = "/file"
    await fetch(server, target, url=f"{server.url}/away", headers=(("x-api-key", "secret"),))
    assert server.seen[1].headers["x-api-key"] == "secret"


async def test_a_redirect_without_end_is_told(server: FileServer, target: Path) -> None:
    server.redirect = "/away"
    with pytest.raises(DownloadFailed, match="redirects without end"):
        await fetch(server, target, url=f"{server.url}/away")


async def test_a_redirect_to_another_scheme_is_refused(server: FileServer, target: Path) -> None:
    server.redirect = "file:///etc/passwd"
    with pytest.raises(DownloadFailed):
        await fetch(server, target, url=f"{server.url}/away")
    assert len(server.seen) == 1
