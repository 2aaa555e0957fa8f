"""Items that a source has yielded are sent before it waits."""

from __future__ import annotations

from tests.sockets.live_server import LiveServer, new_key


def test_the_first_chunk_is_on_the_wire_while_the_source_waits(
    live: LiveServer, style: str
) -> None:
    key = new_key()
    with live.connect(f"/{style}/waits?key={key}") as connection:
        assert connection.read_head().status == 200
        assert connection.read_chunk() == b"first"
        assert live.entries(key) == ["started"]
        live.release(key)
        assert connection.read_chunk() == b"second"
        assert connection.read_chunk() == b""
    expected = ["started", "released", "finished", "closed", "returned"]
    assert live.wait_for(key, "returned") == expected


def test_an_event_is_on_the_wire_while_the_source_waits(live: LiveServer, style: str) -> None:
    key = new_key()
    with live.connect(f"/{style}/events?key={key}") as connection:
        assert connection.read_head().headers["content-type"].startswith("text/event-stream")
        assert connection.read_chunk() == b"data: first\n\n"
        assert live.entries(key) == ["started"]
        live.release(key)
        assert connection.read_chunk() == b"data: second\n\n"
        assert connection.read_chunk() == b""


def test_an_item_within_the_start_grace_comes_with_the_status_line(
    live: LiveServer, style: str
) -> None:
    key = new_key()
    with live.connect(f"/{style}/late?key={key}") as connection:
        live.wait_for(key, "started")
        live.release(key)
        assert connection.read_reply().body == b"only"


def test_the_status_line_goes_out_without_an_item_after_the_start_grace(
    live: LiveServer, style: str
) -> None:
    key = new_key()
    with live.connect(f"/{style}/late?key={key}&start_grace=0.05") as connection:
        assert connection.read_head().status == 200
        assert live.entries(key) == ["started"]
        live.release(key)
        assert connection.read_chunk() == b"only"
        assert connection.read_chunk() == b""


def test_a_chunk_of_nothing_sends_the_status_line(live: LiveServer, style: str) -> None:
    key = new_key()
    with live.connect(f"/{style}/nothing-first?key={key}") as connection:
        assert connection.read_head().status == 200
        assert live.entries(key) == ["started"]
        live.release(key)
        assert connection.read_chunk() == b"second"
        assert connection.read_chunk() == b""
