"""HEAD: the headers are sent, and the source is closed without being started."""

from __future__ import annotations

from tests.sockets.live_server import LiveServer, new_key


def test_head_runs_nothing_and_closes_the_source(live: LiveServer, style: str) -> None:
    key = new_key()
    path = f"/{style}/lines?key={key}"
    with live.connect() as connection:
        connection.send(path, method="HEAD")
        head = connection.read_reply()
        assert (head.status, head.body) == (200, b"")
        assert live.wait_for(key, "returned") == ["close called", "returned"]

        connection.send(f"/{style}/lines?key={new_key()}")
        get = connection.read_reply()
    same = ("content-type", "cache-control", "x-accel-buffering")
    assert [head.headers[name] for name in same] == [get.headers[name] for name in same]
    assert get.body
