"""The checks themselves: a file that is wrong in one thing is found out."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import apsw
import pytest

from tailrace.store import Append, NewStream, Producer
from tests.crash.checks import Lost
from tests.crash.history import Made
from tests.crash.power import PowerCut
from tests.crash.recorded import DATABASE, check_cut, record
from tests.crash.schedule import Player

DAMAGES = {
    "an append is missing": ("DELETE FROM chunk WHERE id = (SELECT min(id) FROM chunk);"),
    "a tail is behind": "UPDATE stream SET tail = tail - 1 WHERE path = 'open'",
    "the last append is missing, and its tail": (
        "DELETE FROM chunk WHERE tail = 20; UPDATE stream SET tail = 10 WHERE path = 'open'"
    ),
    "bytes are others": "UPDATE chunk SET data = zeroblob(length(data))",
    "two appends have changed places": (
        "UPDATE chunk SET data = iif(tail = 10, x'3c626f6220302e2e2e3e', x'3c61646120302e2e2e3e')"
        " WHERE sid = (SELECT id FROM stream WHERE path = 'open')"
    ),
    "an append is there twice": (
        "INSERT INTO chunk(sid, tail, at, data) SELECT sid, 30, at, data FROM chunk"
        " WHERE tail = 20; UPDATE stream SET tail = 30 WHERE path = 'open'"
    ),
    "producers are forgotten": "DELETE FROM producer",
    "a producer is ahead": "UPDATE producer SET seq = seq + 1",
    "a closed stream is open": "UPDATE stream SET closed = 0",
    "an open stream is closed": "UPDATE stream SET closed = 1",
    "who closed it is forgotten": "UPDATE stream SET closer_id = NULL WHERE path = 'closed'",
    "a stream is missing": "UPDATE stream SET path = NULL WHERE path = 'open'",
    "a deleted stream is back": "UPDATE stream SET path = 'deleted' WHERE path = 'closed'",
    "a stream was made up": (
        "INSERT INTO stream SELECT id + 9, 'ghost', content_type, lineage, base, tail, low,"
        " records, closed, closer_id, closer_epoch, closer_seq, seq, ttl, expires_at, touched,"
        " max_bytes, max_records, max_age, fork, source, created_at, gone"
        " FROM stream WHERE path = 'empty'"
    ),
    "an append belongs to nobody": "INSERT INTO chunk(sid, tail, at, data) VALUES(9, 9, 9, x'00')",
}


async def work(player: Player) -> int:
    for path in ("open", "closed", "empty", "deleted"):
        await player.create(path, NewStream(), Made())
    await player.append("open", Append(data=b"<ada 0...>", producer=Producer("ada", 0, 0)))
    await player.append("open", Append(data=b"<bob 0...>", producer=Producer("bob", 0, 0)))
    last = Append(data=b"<the last one>", producer=Producer("ada", 0, 0), close=True)
    await player.append("closed", last)
    await player.delete("deleted")
    return 0


async def damaged(folder: Path, sql: str) -> None:
    """Work on a store, write to its file behind its back, and check it."""
    (folder / "live").mkdir()
    recorded = await record(folder / "live", work, random.Random(1))
    connection = apsw.Connection(str(folder / "live" / DATABASE))
    connection.execute(sql).fetchall()
    connection.close()
    place = len(recorded.records)
    image = {DATABASE: (folder / "live" / DATABASE).read_bytes()}
    await check_cut(PowerCut(place, 4096, image), recorded.history, folder / "again")


def test_a_file_in_order_passes(tmp_path: Path) -> None:
    anyio.run(damaged, tmp_path, "SELECT 1")


@pytest.mark.parametrize("sql", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_is_wrong_in_one_thing_is_found_out(tmp_path: Path, sql: str) -> None:
    with pytest.raises(Lost):
        anyio.run(damaged, tmp_path, sql)
