from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]  # the package ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidOption
from tailrace.framing import ENCODINGS, codec_for, is_compressible

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor


def decoder_for(name: str) -> Callable[[bytes], bytes]:
    if name == "zstd":
        return ZstdDecompressor().decompress
    if name == "br":
        return brotli.Decompressor().process  # type: ignore[no-any-return]  # untyped package
    return zlib.decompressobj(31).decompress


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_codec_knows_its_name(name: str) -> None:
    assert codec_for(name).name == name


@pytest.mark.parametrize("name", ENCODINGS)
@given(chunks=st.lists(st.binary(max_size=300), max_size=6))
def test_all_that_was_given_can_be_decoded_at_once(name: str, chunks: list[bytes]) -> None:
    codec, decode = codec_for(name), decoder_for(name)
    for chunk in chunks:
        assert decode(codec.compress(chunk)) == chunk
    assert decode(codec.finish()) == b""


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_end_makes_a_whole_body(name: str) -> None:
    codec = codec_for(name)
    wire = codec.compress(b"hello " * 1000) + codec.compress(b"world") + codec.finish()
    whole = {
        "zstd": lambda: ZstdDecompressor().decompress(wire),
        "br": lambda: decoder_for("br")(wire),
        "gzip": lambda: zlib.decompress(wire, 31),
    }
    assert whole[name]() == b"hello " * 1000 + b"world"


@pytest.mark.parametrize("name", ENCODINGS)
def test_large_chunks_beyond_the_window_come_back(name: str) -> None:
    codec, decode = codec_for(name), decoder_for(name)
    chunk = b"".join(b"line %d\n" % number for number in range(30_000))
    assert decode(codec.compress(chunk)) == chunk
    assert decode(codec.compress(chunk)) == chunk


@pytest.mark.parametrize("name", ENCODINGS)
def test_small_messages_that_repeat_get_smaller(name: str) -> None:
    codec = codec_for(name)
    message = b'data: {"symbol":"ACME","price":12.5,"currency":"EUR"}\n\n'
    sizes = [len(codec.compress(message)) for _ in range(10)]
    assert sizes[-1] < len(message) / 2


@pytest.mark.parametrize("name", ENCODINGS)
def test_nothing_in_gives_nothing_out(name: str) -> None:
    codec = codec_for(name)
    codec.compress(b"x")
    assert codec.compress(b"") == b""


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_empty_body_is_a_whole_one(name: str) -> None:
    assert decoder_for(name)(codec_for(name).finish()) == b""


WITHOUT = """
import sys
name, *modules = sys.argv[1:]
for module in modules:
    sys.modules[module] = None
from tailrace.errors import InvalidOption
from tailrace.framing import ENCODINGS, codec_for
try:
    codec_for(name)
except InvalidOption:
    print(*ENCODINGS)
"""


@pytest.mark.parametrize(
    ("name", "modules", "left"),
    [
        ("br", ["brotli"], "zstd gzip"),
        # Python has zstd from 3.14 on, unless it was built on a machine without the library.
        ("zstd", ["backports.zstd", "_zstd"], "gzip br"),
    ],
)
def test_a_coding_is_offered_only_where_its_library_is_installed(
    name: str, modules: list[str], left: str
) -> None:
    assert name in ENCODINGS
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, name, *modules], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == left


def test_a_coding_that_is_not_offered_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"encoding='deflate'.*zstd, gzip, br"):
        codec_for("deflate")


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "text/event-stream",
        "TEXT/HTML; charset=utf-8",
        "text/csv",
        "application/json",
        "application/jsonl",
        "application/x-ndjson",
        "application/problem+json",
        "application/atom+xml; charset=utf-8",
        "application/javascript",
        "application/wasm",
        "image/svg+xml",
    ],
)
def test_text_and_its_like_is_worth_compressing(media_type: str) -> None:
    assert is_compressible(media_type)


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "image/jpeg",
        "video/mp4",
        "audio/ogg",
        "application/zip",
        "application/gzip",
        "application/octet-stream",
        "application/pdf",
        "multipart/x-mixed-replace; boundary=text/plain",
        "font/woff2",
    ],
)
def test_what_is_compressed_or_unknown_is_left_alone(media_type: str | None) -> None:
    assert not is_compressible(media_type)
