"""A directory with a large file, and `tailrace serve` of that directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running_serve import Running, running_serve
from tests.tools.tool import running

LARGE_BYTES = 40_000_001
"""More than all buffers between a server and a client; no block size divides it."""


@pytest.fixture(scope="package")
def large_content() -> bytes:
    """Random bytes, so that each part differs from the others."""
    return os.urandom(LARGE_BYTES)


@pytest.fixture(scope="package")
def directory(tmp_path_factory: pytest.TempPathFactory, large_content: bytes) -> Path:
    """A directory with the file `large`. Tests must not change it."""
    directory = tmp_path_factory.mktemp("served")
    (directory / "large").write_bytes(large_content)
    return directory


@pytest.fixture(scope="package")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of film: `film.webm`, and `film.mp4` with its index at the end.

    Noise makes both large enough that a client fetches them in parts.
    """
    directory = tmp_path_factory.mktemp("films")
    webm, mp4 = directory / "film.webm", directory / "film.mp4"
    pattern = ("-f", "lavfi", "-i", "testsrc=size=320x180:rate=10:duration=30")
    noise = ("-vf", "noise=alls=40:allf=t", "-g", "10")
    rate = ("-b:v", "2M", "-minrate", "2M", "-maxrate", "2M", "-bufsize", "2M")
    fast = ("-deadline", "realtime", "-cpu-used", "8")
    made = ((*noise, *rate, *fast, "-c:v", "libvpx", webm), (*noise, *rate, "-c:v", "mpeg4", mp4))
    outputs = [word for output in made for word in output]
    with running("ffmpeg", "-v", "error", *pattern, *outputs) as ffmpeg:
        said, _ = ffmpeg.communicate(timeout=60)
    assert (ffmpeg.returncode, said) == (0, b"")
    return directory


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Running]:
    with running_serve(directory) as running:
        yield running
