"""The requests of which conversations are made, each with the answers that are allowed.

`RIGHT` are requests that every server must answer. `WRONG` are requests that it must refuse; after
or inside most of them there is a well-formed request that must not be served. `OFFERS` are between:
upgrades and methods that a server may accept, ignore or refuse, but must not misread.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from tests.fuzz.conversation import Ends, Request

__all__ = ["OFFERS", "RIGHT", "WRONG", "Make", "chunked", "handshake", "head", "smuggled"]

Make = Callable[[Random, str, int], Request]
"""Makes a request from a random generator, the connection's mark and the request's number."""

Fields = Sequence[tuple[str, str]]

OK: Final = frozenset({200})
REFUSED: Final = frozenset({400})
NOT_TAKEN: Final = frozenset({200, 400, 403, 404, 405, 426, 501})
"""The statuses for an offer that is ignored or refused."""

AGENTS: Final = (
    ("User-Agent", "fuzz/1"),
    ("Accept", "*/*"),
    ("Accept-Encoding", "identity"),
    ("Cookie", "a=b; c=d"),
    ("X-Empty", ""),
    ("Connection", "keep-alive"),
)


def head(method: str, target: str, fields: Fields = (), *, version: str = "1.1") -> bytes:
    """A head, with `Host` as its first field and the empty line at its end."""
    lines = [f"{method} {target} HTTP/{version}", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def smuggled(mark: str) -> bytes:
    """A request that the server must never serve: it stands where no request can begin."""
    return head("GET", f"/smuggled/{mark}")


def chunked(rng: Random, body: bytes) -> bytes:
    """A body in chunks of random sizes, some with extensions; sometimes with trailers."""
    out = bytearray()
    at = 0
    while at < len(body):
        size = min(rng.choice((1, 2, 7, 100, 4096)), len(body) - at)
        extension = rng.choice(("", "", "", ";a", ";a=b", ';a="q r"'))
        out += f"{size:x}{extension}\r\n".encode() + body[at : at + size] + b"\r\n"
        at += size
    trailers = rng.choice((b"", b"", b"X-Trailer: t\r\n", b"A: b\r\nC: d\r\n"))
    return bytes(out) + b"0\r\n" + trailers + b"\r\n"


def handshake(target: str, rng: Random) -> bytes:
    """The request that opens a WebSocket."""
    key = base64.b64encode(rng.randbytes(16)).decode()
    return head("GET", target, [*_upgrade("websocket"), *_KEY(key)])


def _KEY(key: str) -> Fields:  # noqa: N802 - a table with a hole
    return (("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13"))


def _upgrade(to: str) -> Fields:
    return (("Connection", "Upgrade"), ("Upgrade", to))


def _agent(rng: Random) -> Fields:
    return rng.sample(AGENTS, rng.randrange(4))


def _payload(rng: Random, mark: str) -> bytes:
    """A small or large body; often it looks like requests."""
    if rng.random() < 0.5:
        return smuggled(mark) * rng.randint(1, 3)
    size = rng.choice((0, 1, 10, 100, 1000, 1000, 20_000, 100_000))
    return rng.randbytes(min(size, 64)) * (size // 64) or rng.randbytes(size)


def _digest_line(mark: str, number: int, body: bytes) -> bytes:
    return f"{mark} {number} {hashlib.sha256(body).hexdigest()}\n".encode()


# Right --------------------------------------------------------------------------------------------


def _text(rng: Random, mark: str, number: int) -> Request:
    method = rng.choice(("GET", "GET", "GET", "HEAD"))
    raw = head(method, f"/text/{mark}?r={number}", _agent(rng))
    return Request("text", raw, method, number, OK, f"{mark} {number}\n".encode())


def _closing(rng: Random, mark: str, number: int) -> Request:
    raw = head("GET", f"/text/{mark}?r={number}", [("Connection", "close")])
    return Request("close", raw, "GET", number, OK, f"{mark} {number}\n".encode(), Ends.MUST)


def _old(rng: Random, mark: str, number: int) -> Request:
    keep = rng.random() < 0.5
    fields = [("Connection", "keep-alive")] if keep else []
    raw = head("GET", f"/text/{mark}?r={number}", fields, version="1.0")
    ends = Ends.MAY if keep else Ends.MUST
    return Request("HTTP/1.0", raw, "GET", number, OK, f"{mark} {number}\n".encode(), ends)


def _absolute(rng: Random, mark: str, number: int) -> Request:
    raw = head("GET", f"http://127.0.0.1/text/{mark}?r={number}")
    return Request("absolute", raw, "GET", number, OK, f"{mark} {number}\n".encode())


def _encoded(rng: Random, mark: str, number: int) -> Request:
    path = "".join(f"%{ord(char):02x}" if rng.random() < 0.3 else char for char in mark)
    raw = head("GET", f"/text/{path}?r={number}&x=%00%ff%C3")
    return Request("encoded", raw, "GET", number, OK, f"{mark} {number}\n".encode())


def _strange_path(rng: Random, mark: str, number: int) -> Request:
    part = rng.choice(
        ("%00", "%ff", "%2e%2e%2f", "../", "..%5c", "%", "%zz", "//", "%C3%28", "%0d%0a")
    )
    raw = head("GET", f"/nowhere/{part}{mark}{part}?r={number}&{part}")
    return Request("strange path", raw, "GET", number, frozenset({400, 404}), None, Ends.MAY)


def _no_number(rng: Random, mark: str, number: int) -> Request:
    raw = head("GET", f"/text/{mark}?r=none")
    return Request("no number", raw, "GET", number, frozenset({422}))


def _chunks(rng: Random, mark: str, number: int) -> Request:
    count, sync = rng.choice((0, 1, 3, 20)), rng.random() < 0.3
    method = rng.choice(("GET", "GET", "GET", "HEAD"))
    raw = head(method, f"/chunks/{mark}?r={number}&count={count}&sync={sync}", _agent(rng))
    body = "".join(f"{mark} {number} {n}\n" for n in range(count)).encode()
    return Request("chunks", raw, method, number, OK, body)


def _blocks(rng: Random, mark: str, number: int) -> Request:
    count = rng.choice((1, 2, 8))
    raw = head("GET", f"/blocks/{mark}?r={number}&count={count}")
    return Request("blocks", raw, "GET", number, OK, mark.encode() * 4096 * count)


def _items(mark: str, count: int, each: str) -> bytes:
    return "".join(each % (f'{{"m":"{mark}","n":{n}}}') for n in range(count)).encode()


def _lines(rng: Random, mark: str, number: int) -> Request:
    raw = head("GET", f"/lines/{mark}?r={number}&count=4", _agent(rng))
    return Request("lines", raw, "GET", number, OK, _items(mark, 4, "%s\n"))


def _events(rng: Random, mark: str, number: int) -> Request:
    raw = head("GET", f"/events/{mark}?r={number}&count=4", [("Accept", "text/event-stream")])
    return Request("events", raw, "GET", number, OK, _items(mark, 4, "data: %s\n\n"))


def _poll(rng: Random, mark: str, number: int) -> Request:
    wait = rng.choice((0.001, 0.02, 0.1))
    raw = head("GET", f"/poll/{mark}?r={number}&wait={wait}", _agent(rng))
    return Request("poll", raw, "GET", number, OK, f"{mark} {number}\n".encode())


def _event_pattern(mark: str, count: int, end: bytes = b"") -> re.Pattern[bytes]:
    event = rb'(?::[^\n]*\n\n|retry: [0-9]+\n\n)*data: \{"m":"%b","n":%d\}\nid: [0-9_]+\n\n'
    return re.compile(b"".join(event % (mark.encode(), n) for n in range(count)) + end)


def _subscribed(rng: Random, mark: str, number: int) -> Request:
    target = f"/subscribed/{mark}?r={number}"
    if rng.random() < 0.5:
        return Request(
            "subscribed", head("GET", target), "GET", number, OK, _items(mark, 5, "%s\n")
        )
    raw = head("GET", target, [("Accept", "text/event-stream")])
    events = _event_pattern(mark, 5, rb"(?::[^\n]*\n\n)*")
    return Request("subscribed to events", raw, "GET", number, OK, events)


def _run(rng: Random, mark: str, number: int) -> Request:
    target = f"/run/{mark}?r={number}&count=4"
    if rng.random() < 0.5:
        return Request("run", head("GET", target), "GET", number, OK, _items(mark, 4, "%s\n"))
    raw = head("GET", target, [("Accept", "text/event-stream")])
    body = _event_pattern(mark, 4, rb"(?::[^\n]*\n\n)*event: end\ndata: \{\}\nid: [0-9_]+\n\n")
    return Request("run as events", raw, "GET", number, OK, body)


def _file(rng: Random, mark: str, number: int) -> Request:
    count = rng.choice((1, 100, 100, 3000, 60_000))
    method = rng.choice(("GET", "GET", "GET", "HEAD"))
    raw = head(method, f"/file/{mark}?r={number}&count={count}", _agent(rng))
    return Request("file", raw, method, number, OK, mark.encode() * count)


def _range(rng: Random, mark: str, number: int) -> Request:
    count = rng.choice((100, 3000))
    data = mark.encode() * count
    first = rng.randrange(len(data))
    last = rng.randrange(first, len(data))
    asked: tuple[tuple[str, int, bytes | None], ...] = (
        (f"bytes={first}-{last}", 206, data[first : last + 1]),
        (f"bytes={first}-", 206, data[first:]),
        (f"bytes=-{last + 1}", 206, data[-last - 1 :]),
        (f"bytes={first}-{len(data) + 9}", 206, data[first:]),
        (f"bytes={len(data)}-", 416, None),
        ("bytes=9-3", 200, data),
        ("lines=1-2", 200, data),
        ("bytes=0-0,50-51,-1", 206, None),
    )
    value, status, body = rng.choice(asked)
    raw = head("GET", f"/file/{mark}?r={number}&count={count}", [("Range", value)])
    return Request("range", raw, "GET", number, frozenset({status}), body)


def _condition(rng: Random, mark: str, number: int) -> Request:
    name, value, status = rng.choice(
        (
            ("If-None-Match", "*", 304),
            ("If-None-Match", '"other"', 200),
            ("If-Match", '"other"', 412),
            ("If-Match", "*", 200),
            ("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT", 200),
            ("If-Modified-Since", "yesterday", 200),
            ("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT", 412),
        )
    )
    raw = head("GET", f"/file/{mark}?r={number}&count=100", [(name, value)])
    return Request("condition", raw, "GET", number, frozenset({status}), mark.encode() * 100)


def _get_with_body(rng: Random, mark: str, number: int) -> Request:
    data = smuggled(mark)
    target = f"/text/{mark}?r={number}"
    if rng.random() < 0.5:
        raw = head("GET", target, [("Content-Length", str(len(data)))]) + data
    else:
        raw = head("GET", target, [("Transfer-Encoding", "chunked")]) + chunked(rng, data)
    body = f"{mark} {number}\n".encode()
    return Request("GET with a body", raw, "GET", number, OK, body, Ends.MAY)


def _post(
    rng: Random, mark: str, number: int, path: str, extra: Fields = ()
) -> tuple[bytes, bytes]:
    """A POST, with Content-Length or chunked; and its body."""
    data = _payload(rng, mark)
    target = f"/{path}/{mark}?r={number}"
    if rng.random() < 0.5:
        return head("POST", target, [*extra, ("Content-Length", str(len(data)))]) + data, data
    fields = [*extra, ("Transfer-Encoding", rng.choice(("chunked", "Chunked")))]
    return head("POST", target, fields) + chunked(rng, data), data


def _upload(rng: Random, mark: str, number: int) -> Request:
    raw, data = _post(rng, mark, number, "upload")
    return Request("upload", raw, "POST", number, OK, _digest_line(mark, number, data))


def _echo(rng: Random, mark: str, number: int) -> Request:
    raw, data = _post(rng, mark, number, "echo")
    body = f"{mark} {number}\n".encode() + _digest_line(mark, number, data)
    return Request("echo", raw, "POST", number, OK, body, Ends.MAY)


def _unread(rng: Random, mark: str, number: int) -> Request:
    raw, _ = _post(rng, mark, number, "unread")
    return Request("unread", raw, "POST", number, OK, f"{mark} {number}\n".encode(), Ends.MAY)


def _expecting(rng: Random, mark: str, number: int) -> Request:
    path = rng.choice(("upload", "unread"))
    raw, data = _post(rng, mark, number, path, [("Expect", "100-continue")])
    read = path == "upload"
    body = _digest_line(mark, number, data) if read else f"{mark} {number}\n".encode()
    ends = Ends.NO if read else Ends.MAY
    return Request("expect", raw, "POST", number, OK, body, ends, frozenset({100}))


RIGHT: Final[Mapping[str, tuple[int, Make]]] = {
    "text": (30, _text),
    "close": (2, _closing),
    "HTTP/1.0": (2, _old),
    "absolute": (2, _absolute),
    "encoded": (3, _encoded),
    "strange path": (3, _strange_path),
    "no number": (2, _no_number),
    "chunks": (10, _chunks),
    "blocks": (2, _blocks),
    "lines": (5, _lines),
    "events": (5, _events),
    "poll": (4, _poll),
    "subscribed": (4, _subscribed),
    "run": (3, _run),
    "file": (6, _file),
    "range": (4, _range),
    "condition": (3, _condition),
    "GET with a body": (3, _get_with_body),
    "upload": (8, _upload),
    "echo": (3, _echo),
    "unread": (4, _unread),
    "expect": (3, _expecting),
}
"""By name: how often it is chosen, and the function that makes it."""


# Offers -------------------------------------------------------------------------------------------


def _offer_to(rng: Random) -> Fields:
    to = rng.choice(("h2c", "h2c", "foo", "TLS/1.0", "foo, websocket", "websocket", "", "h2c, foo"))
    settings = [("HTTP2-Settings", "AAMAAABkAAQAAP__")] if "h2c" in to else []
    connection = "Upgrade, HTTP2-Settings" if settings else "Upgrade"
    return [("Connection", connection), ("Upgrade", to), *settings]


def _offer(rng: Random, mark: str, number: int) -> Request:
    raw = head("GET", f"/text/{mark}?r={number}", _offer_to(rng))
    body = f"{mark} {number}\n".encode()
    return Request("offer", raw, "GET", number, NOT_TAKEN, body, Ends.MAY)


def _offer_with_body(rng: Random, mark: str, number: int) -> Request:
    raw, data = _post(rng, mark, number, "upload", _offer_to(rng))
    body = _digest_line(mark, number, data)
    return Request("offer with a body", raw, "POST", number, NOT_TAKEN, body, Ends.MAY)


def _refused_handshake(rng: Random, mark: str, number: int) -> Request:
    """A handshake for a path that is not a WebSocket."""
    raw = handshake(f"/text/{mark}?r={number}", rng)
    body = f"{mark} {number}\n".encode()
    return Request("refused handshake", raw, "GET", number, NOT_TAKEN, body, Ends.MAY)


def _asterisk(rng: Random, mark: str, number: int) -> Request:
    statuses = frozenset({200, 204, 400, 404, 405})
    return Request("OPTIONS *", head("OPTIONS", "*"), "OPTIONS", number, statuses, None, Ends.MAY)


def _connect(rng: Random, mark: str, number: int) -> Request:
    statuses = frozenset({400, 404, 405, 501})
    raw = head("CONNECT", "127.0.0.1:80")
    return Request("CONNECT", raw, "CONNECT", number, statuses, None, Ends.MAY)


def _many_fields(rng: Random, mark: str, number: int) -> Request:
    fields = [(f"X-{n}", "v") for n in range(rng.choice((50, 120, 500)))]
    raw = head("GET", f"/text/{mark}?r={number}", fields)
    body = f"{mark} {number}\n".encode()
    return Request("many fields", raw, "GET", number, frozenset({200, 431}), body, Ends.MAY)


def _wrong_verb(rng: Random, mark: str, number: int) -> Request:
    method = rng.choice(("DELETE", "PATCH", "TRACE", "PUT", "PROPFIND"))
    raw = head(method, f"/text/{mark}?r={number}")
    return Request("verb", raw, method, number, frozenset({400, 405, 501}), None, Ends.MAY)


def _expectation(rng: Random, mark: str, number: int) -> Request:
    raw = head("GET", f"/text/{mark}?r={number}", [("Expect", "the-moon")])
    body = f"{mark} {number}\n".encode()
    return Request("expectation", raw, "GET", number, frozenset({200, 417}), body, Ends.MAY)


def _coded(rng: Random, mark: str, number: int) -> Request:
    data = smuggled(mark)
    coding = rng.choice(("gzip, chunked", "identity, chunked", "x, chunked"))
    fields = [("Transfer-Encoding", coding)]
    raw = head("POST", f"/unread/{mark}?r={number}", fields) + chunked(rng, data)
    body = f"{mark} {number}\n".encode()
    return Request("coded", raw, "POST", number, frozenset({200, 400, 501}), body, Ends.MAY)


OFFERS: Final[Mapping[str, tuple[int, Make]]] = {
    "offer": (6, _offer),
    "offer with a body": (6, _offer_with_body),
    "refused handshake": (4, _refused_handshake),
    "OPTIONS *": (2, _asterisk),
    "CONNECT": (2, _connect),
    "many fields": (1, _many_fields),
    "verb": (2, _wrong_verb),
    "expectation": (1, _expectation),
    "coded": (2, _coded),
}


# Wrong --------------------------------------------------------------------------------------------


def _wrong(kind: str, raw: bytes, number: int, *more: int, method: str = "GET") -> Request:
    return Request(kind, raw, method, number, frozenset({400, *more}), None, Ends.MUST)


def _lengths(rng: Random, mark: str, number: int) -> Request:
    trap = smuggled(mark)
    size = len(trap)
    fields = rng.choice(
        (
            [("Content-Length", "0"), ("Content-Length", str(size))],
            [("Content-Length", str(size)), ("Content-Length", "0")],
            [("Content-Length", f"0, {size}")],
            [("Content-Length", "-1")],
            [("Content-Length", f"+{size}")],
            [("Content-Length", f"0x{size:x}")],
            [("Content-Length", f"{size}x")],
            [("Content-Length", "9" * 40)],
            [("Content-Length", "")],
        )
    )
    raw = head("POST", f"/upload/{mark}?r={number}", fields) + trap
    return _wrong("lengths", raw, number, 413, method="POST")


def _both_framings(rng: Random, mark: str, number: int) -> Request:
    trap = smuggled(mark)
    fields = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")]
    rng.shuffle(fields)
    if rng.random() < 0.5:
        raw = head("POST", f"/upload/{mark}?r={number}", fields) + b"0\r\n\r\n" + trap
    else:
        body = chunked(rng, trap)
        fields = [("Content-Length", str(len(body))), ("Transfer-Encoding", "chunked")]
        raw = head("POST", f"/upload/{mark}?r={number}", fields) + body
    return _wrong("both framings", raw, number, method="POST")


def _codings(rng: Random, mark: str, number: int) -> Request:
    coding = rng.choice(("gzip", "xchunked", "chunked, gzip", "chunked, identity", "\x0bchunked"))
    fields = [("Transfer-Encoding", coding)]
    raw = head("POST", f"/upload/{mark}?r={number}", fields) + b"0\r\n\r\n" + smuggled(mark)
    return _wrong("codings", raw, number, 501, method="POST")


def _bad_chunks(rng: Random, mark: str, number: int) -> Request:
    trap = smuggled(mark)
    body = rng.choice(
        (
            b"zz\r\n" + trap,
            b"-1\r\n" + trap,
            b"5\r\nabcdefgh\r\n0\r\n\r\n" + trap,
            b"f" * 20 + b"\r\n" + trap,
            b"1\nX\n0\n\n" + trap,
            b" 1\r\nX\r\n0\r\n\r\n" + trap,
            b"1\r\nX0\r\n\r\n" + trap,
        )
    )
    path = rng.choice(("upload", "echo"))
    raw = head("POST", f"/{path}/{mark}?r={number}", [("Transfer-Encoding", "chunked")]) + body
    wrong = _wrong("bad chunks", raw, number, method="POST")
    if path == "upload":
        return wrong
    # 200 is allowed, too: the answer may have begun before the wrong byte came.
    return Request(
        wrong.kind, raw, "POST", number, frozenset({200, 400}), re.compile(rb"(?!)"), Ends.MUST
    )


def _bytes_in_fields(rng: Random, mark: str, number: int) -> Request:
    line = f"GET /text/{mark}?r={number} HTTP/1.1\r\n".encode()
    field = rng.choice(
        (
            b"Host: h\r\nX: a\x00b\r\n",
            b"Host: h\r\nX: a\rb\r\n",
            b"Host: h\nX: a\n",
            b"Host : h\r\n",
            b"Host: h\r\nX Y: a\r\n",
            b"Host: h\r\n: a\r\n",
            b"Host: h\r\nX\r\n",
            b"Host: h\r\n\xff\xfe: a\r\n",
            b" Host: h\r\n",
        )
    )
    end = rng.choice((b"\r\n", b"\r\n" + smuggled(mark)))
    return _wrong("bytes in fields", line + field + end, number)


def _first_line(rng: Random, mark: str, number: int) -> Request:
    path = f"/text/{mark}?r={number}"
    line = rng.choice(
        (
            f"GET {path} HTTP/3.7",
            f"GET {path} HTTP/2.0",
            f"GET {path} HTTP/1.10",
            f"GET {path} HTP/1.1",
            f"GET {path}",
            f"FOO {path} HTTP/1.1",
            f"get {path} HTTP/1.1",
            f"G\x00T {path} HTTP/1.1",
            f"GET {path} x HTTP/1.1",
            f"GET  {path} HTTP/1.1\x01",
            "PRI * HTTP/2.0",
            "\x16\x03\x01\x02\x00\x01",
        )
    )
    raw = f"{line}\r\nHost: h\r\n\r\n".encode("latin-1")
    return _wrong("first line", raw, number, 501, 505, 405)


def _raw_path(rng: Random, mark: str, number: int) -> Request:
    """A target with bytes that no target may have."""
    part = rng.choice((b"\xff\xfe", b"\xc3\xa4", b"\x00", b"\x7f", b"\x01"))
    raw = b"GET /text/%b%b?r=%d HTTP/1.1\r\nHost: h\r\n\r\n" % (mark.encode(), part, number)
    wrong = _wrong("raw path", raw, number, 404)
    return Request(wrong.kind, raw, "GET", number, wrong.statuses, None, Ends.MAY)


def _huge_head(rng: Random, mark: str, number: int) -> Request:
    where = rng.randrange(3)
    size = rng.choice((200_000, 600_000))
    target = f"/text/{mark}?r={number}" + ("&x=" + "x" * size if where == 0 else "")
    fields = {
        0: [],
        1: [("X-Large", "x" * size)],
        2: [(f"X-{n}", "x" * 1000) for n in range(size // 1000)],
    }[where]
    wrong = _wrong("huge head", head("GET", target, fields), number, 414, 431)
    # The limit is checked after each piece that comes, and a piece may have 256 KiB.
    small = frozenset({200}) if size < 2**18 else frozenset()
    ends = Ends.MAY if small else Ends.MUST
    body = f"{mark} {number}\n".encode()
    return Request(wrong.kind, wrong.raw, "GET", number, wrong.statuses | small, body, ends)


def _hosts(rng: Random, mark: str, number: int) -> Request:
    lines = rng.choice(
        (
            b"Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n",
            b"Host: a\r\nX: y\r\nhost: b\r\n",
            b"Host: a b\r\n",
            b"Host: a/b\r\n",
            b"Host: a,b\r\n",
            b"Host: a@b\r\n",
            b"Host: [::1\r\n",
            b"Host: a:b\r\n",
            b"Host: \xff\r\n",
        )
    )
    raw = f"GET /text/{mark}?r={number} HTTP/1.1\r\n".encode() + lines + b"\r\n"
    return Request("hosts", raw, "GET", number, frozenset({400, 421}), None, Ends.MAY)


def _folded(rng: Random, mark: str, number: int) -> Request:
    """A folded header line: it may be refused, or be read as one line (RFC 9112, 5.2)."""
    raw = head("GET", f"/text/{mark}?r={number}", [("X-Folded", "a\r\n b")])
    body = f"{mark} {number}\n".encode()
    return Request("folded", raw, "GET", number, frozenset({200, 400}), body, Ends.MAY)


WRONG: Final[Mapping[str, tuple[int, Make]]] = {
    "lengths": (4, _lengths),
    "both framings": (4, _both_framings),
    "codings": (3, _codings),
    "bad chunks": (4, _bad_chunks),
    "bytes in fields": (4, _bytes_in_fields),
    "first line": (4, _first_line),
    "raw path": (2, _raw_path),
    "huge head": (1, _huge_head),
    "hosts": (4, _hosts),
    "folded": (1, _folded),
}
