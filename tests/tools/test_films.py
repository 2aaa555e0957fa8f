"""ffprobe and ffmpeg read a film over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running_serve import Running, running_serve
from tests.tools.logged import logged
from tests.tools.tool import DEADLINE, running

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("name", ["film.webm", "film.mp4"])


@pytest.fixture(scope="module")
def cinema(films: Path) -> Iterator[Running]:
    with running_serve(films) as server:
        yield server


def said_by(name: str, *arguments: str | Path) -> bytes:
    with running(name, "-v", "error", *arguments) as tool:
        said, _ = tool.communicate(timeout=DEADLINE)
    assert tool.returncode == 0, said
    return said


def frame_at(second: int, film: str | Path) -> bytes:
    """The picture at this second, as raw bytes."""
    raw = ("-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return said_by("ffmpeg", "-ss", str(second), "-i", film, *raw)


@BOTH
def test_ffprobe_reads_the_same_of_it_as_of_the_file(
    cinema: Running, films: Path, name: str
) -> None:
    def probed(film: str | Path) -> dict[str, Any]:
        shown = ("-show_format", "-show_streams", "-of", "json")
        found: dict[str, Any] = json.loads(said_by("ffprobe", *shown, film))
        del found["format"]["filename"]
        return found

    found = probed(f"http://127.0.0.1:{cinema.port}/files/{name}")
    assert found == probed(films / name)
    assert abs(float(found["format"]["duration"]) - 30) < 0.2


@BOTH
@pytest.mark.parametrize("second", [0, 16, 29])
def test_ffmpeg_seeks_in_it_and_gets_the_same_picture(
    cinema: Running, films: Path, name: str, second: int
) -> None:
    picture = frame_at(second, f"http://127.0.0.1:{cinema.port}/files/{name}")
    assert len(picture) == 320 * 180 * 3
    assert picture == frame_at(second, films / name)


def test_a_seek_is_a_range(cinema: Running) -> None:
    logged(cinema)
    frame_at(25, f"http://127.0.0.1:{cinema.port}/files/film.mp4")
    # The beginning, the index at the end, the picture; left as soon as it has what it wants.
    entries = [cinema.entry() for _ in range(3)]
    assert [entry["status"] for entry in entries] == [206, 206, 206]
    assert "left" in {entry["outcome"] for entry in entries}
    assert "ERROR" not in cinema.log
