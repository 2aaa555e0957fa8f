"""Measures what happens to a stream behind each proxy: the tables of docs/production.md.

python -m tests.proxies table                   # every proxy and server: some four minutes
python -m tests.proxies table --caddy PATH      # with another Caddy
"""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests import rawhttp, rawhttp2
from tests.proxies.running import CONFIGS, proxy
from tests.servers import HOST, RunningServer, ServerName, serve

__all__ = ["SETUPS", "Row", "lines_of", "measure", "seconds_of_lines"]

SETUPS = ("direct", *(name for name in sorted(CONFIGS) if name != "nginx-cache"))
FORMS = ("events", "lines", "text")
_GZIP = {"accept-encoding": "gzip"}
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    **{form: (f"/ticks/{form}", {}) for form in FORMS},
    "text, gzip accepted": ("/ticks/text", _GZIP),
    "compressed, gzip accepted": ("/ticks/compressed", _GZIP),
    "compressed, not accepted": ("/ticks/compressed", {}),
}
"""The forms of a stream for which it is measured whether it comes live."""
PATIENCE = 6.0
"""Seconds after which a measurement stops waiting."""


@dataclass
class Row:
    """One server behind one proxy.

    Attributes:
        live: By form: seconds until the first line came, and until the second came; None: they did
            not come within `PATIENCE`.
        cut: By form: whether the client sees that a source has failed, because the body was cut.
        revalidated: The status of a second request with the ETag of the first response.
        leaving: By kind of stream: seconds from when the client left until the source was closed.
        away: The proxy's answer while no server listens, and the seconds until it came.
    """

    setup: str
    server: str
    live: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    cut: dict[str, bool | None] = field(default_factory=dict)
    revalidated: int = 0
    leaving: dict[str, float | None] = field(default_factory=dict)
    away: tuple[str, float] = ("", 0.0)


def measure(
    server_name: ServerName, setups: tuple[str, ...], *, is_short: bool = False, caddy: str = ""
) -> list[Row]:
    """Measure one server behind some proxies.

    Args:
        server_name: The server.
        setups: Names of `CONFIGS`, or "direct".
        is_short: Leave out the measurements that take more than a few seconds.
        caddy: The path of a Caddy that is used instead of the one in PATH.
    """
    with contextlib.ExitStack() as stack:
        running = contextlib.ExitStack()
        server = running.enter_context(serve("tests.apps.behind:app", server_name))
        stack.push(running)
        rows, ports = [], {"direct": server.port}
        for setup in setups:
            if setup != "direct":
                ports[setup] = stack.enter_context(proxy(setup, server.port, caddy))
            rows.append(Row(setup, server_name))
        with ThreadPoolExecutor(max_workers=200) as pool:
            measurings = [
                pool.submit(measuring)
                for row in rows
                for measuring in _measurings(row, ports[row.setup], server, is_short=is_short)
            ]
        for each in measurings:
            each.result()
        if not is_short:
            running.close()
            for row in rows:
                row.away = _away(row.setup, ports[row.setup])
    return rows


def _measurings(
    row: Row, port: int, server: RunningServer, *, is_short: bool
) -> Iterator[Callable[[], None]]:
    def live(kind: str) -> None:
        row.live[kind] = seconds_of_lines(row.setup, port, *KINDS[kind])

    def cut(form: str) -> None:
        row.cut[form] = _cut(row.setup, port, f"/fails/{form}")

    def revalidated() -> None:
        row.revalidated = _revalidated(row.setup, port, server)

    def leaving(kind: str) -> None:
        row.leaving[kind] = _leaving(row.setup, port, kind, server)

    for kind in ["events"] if is_short else KINDS:
        yield lambda kind=kind: live(kind)  # type: ignore[misc] # its own
    for form in FORMS:
        yield lambda form=form: cut(form)  # type: ignore[misc]
    yield revalidated
    for kind in ("ticks", "silent"):
        yield lambda kind=kind: leaving(kind)  # type: ignore[misc]


Client = rawhttp.Connection | rawhttp2.Connection


def _connect(setup: str, port: int) -> Client:
    if setup.endswith("http2"):
        return rawhttp2.Connection(HOST, port, PATIENCE)
    return rawhttp.Connection(HOST, port, PATIENCE)


def _parts(client: Client) -> Iterator[bytes]:
    """The decoded bytes of a body, as they come."""
    is_chunked, decoder = False, None
    if isinstance(client, rawhttp.Connection):
        is_chunked = "chunked" in client.read_head().headers.get("transfer-encoding", "")
    while some := _some_of(client, is_chunked):
        if decoder is None and some.startswith(b"\x1f\x8b"):  # gzip
            decoder = zlib.decompressobj(47)
        yield some if decoder is None else decoder.decompress(some)


def _some_of(client: Client, is_chunked: bool) -> bytes:
    if is_chunked and isinstance(client, rawhttp.Connection):
        return client.read_chunk() or b""
    return client.read_some()


def seconds_of_lines(
    setup: str, port: int, path: str, headers: Mapping[str, str]
) -> tuple[float, float] | None:
    """Seconds until the first line came, and until the second; None if they did not come."""
    began, came, first = time.monotonic(), b"", 0.0
    with _connect(setup, port) as client, contextlib.suppress(TimeoutError):
        client.send(path, headers=headers)
        for part in _parts(client):
            came += part
            seconds = time.monotonic() - began
            if b"line 1" in came and not first:
                first = seconds
            if b"line 2" in came:
                return first, seconds
            if seconds > PATIENCE:
                break
    return None


def _cut(setup: str, port: int, path: str) -> bool | None:
    with _connect(setup, port) as client:
        client.send(path)
        try:
            return not client.read_reply().complete
        except (OSError, rawhttp.ReplyError):
            return None  # not a response at all


def _revalidated(setup: str, port: int, server: RunningServer) -> int:
    path, text = f"/v1/stream/tagged-{setup}", {"content-type": "text/plain"}
    rawhttp.request(HOST, server.port, path, method="PUT", headers=text, body=b"word " * 1000)
    headers = {"accept-encoding": "gzip"}
    for _ in range(2):
        with _connect(setup, port) as client:
            client.send(path, headers=headers)
            reply = client.read_reply()
            headers["if-none-match"] = reply.headers.get("etag", "")
    return reply.status


def _leaving(setup: str, port: int, kind: str, server: RunningServer) -> float | None:
    name = f"{setup}-{kind}"
    with _connect(setup, port) as client:
        # Of events, which all proxies pass on.
        client.send(f"/{kind}/events?name={name}")
        came = b""
        for part in _parts(client):
            came += part
            if b"line 1" in came:
                break
    left = time.monotonic()
    while time.monotonic() < left + PATIENCE:
        told = rawhttp.request(HOST, server.port, f"/left/{name}").body
        if told != b"null":
            return max(0.0, float(json.loads(told)) - left)
        time.sleep(0.1)
    return None


def _away(setup: str, port: int) -> tuple[str, float]:
    began = time.monotonic()
    try:
        with _connect(setup, port) as client:
            client.sock.settimeout(3 * PATIENCE)
            client.send("/ticks/events")
            reply = client.read_reply()
            kind = reply.headers.get("content-type", "").partition(";")[0]
            told = f"{reply.status} {kind}" if reply.status == 200 else str(reply.status)
    except OSError as error:
        told = type(error).__name__
    except rawhttp.ReplyError:
        told = "the connection ends"
    return told, time.monotonic() - began


def lines_of(rows: list[Row]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield "| proxy | server | " + " | ".join((*KINDS, "a cut", "by ETag", "leaving", "away")) + " |"
    yield "|---" * (len(KINDS) + 6) + "|"
    for row in rows:
        cells = [_words_of(row.live[kind]) for kind in KINDS]
        cut = ", ".join(f"{form}: {_CUT[row.cut[form]]}" for form in FORMS)
        left = ", ".join(f"{kind} {_seconds(row.leaving[kind])}" for kind in sorted(row.leaving))
        told, seconds = row.away
        cells += [cut, str(row.revalidated), left, f"{told} after {seconds:.1f} s"]
        yield f"| {row.setup} | {row.server} | " + " | ".join(cells) + " |"


_CUT = {True: "yes", False: "clean", None: "no answer"}


def _words_of(live: tuple[float, float] | None) -> str:
    if live is None:
        return "held"
    first, second = live
    return f"{first:.1f} {second:.1f}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"
