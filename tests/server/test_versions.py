"""The uvicorns that are known, and what becomes of the protocol under another."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
import uvicorn

from tailrace.server.internals import NEWEST, OLDEST, why_unknown
from tests.server.conftest import APP, OURS, Site, with_uvicorn
from tests.servers import serve


def test_the_installed_one_is_known() -> None:
    assert why_unknown() is None


@pytest.mark.parametrize("version", ["0.39.0", "0.55.0", "1.40.0", "2", "nightly"])
def test_older_and_newer_ones_are_not(version: str) -> None:
    reason = why_unknown(version)
    assert reason is not None
    assert version in reason


def test_the_oldest_is_what_the_package_allows() -> None:
    required = [
        each for each in metadata("tailrace").get_all("Requires-Dist", []) if "uvicorn" in each
    ]
    assert required
    assert all(">={}.{}".format(*OLDEST) in each for each in required)


def test_the_newest_is_what_the_tests_run_on() -> None:
    """If this fails: run these tests on the new version, then move `NEWEST`."""
    assert tuple(map(int, uvicorn.__version__.split(".")[:2])) <= NEWEST


@pytest.mark.parametrize("missing", ["httptools", "uvicorn"])
def test_without_what_it_needs_it_names_the_install_command(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import tailrace.server"
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert end.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: tailrace.server needs {missing}, which is not installed: "
        'pip install "tailrace[server]"'
    )


@pytest.mark.slow
def test_under_an_unknown_one_it_says_so_once_and_is_the_plain_protocol(
    file: Path, content: bytes
) -> None:
    environment = with_uvicorn((0, 39))
    with serve(APP, OURS[0], env=environment, log_level="info") as server:
        site = Site(server)
        assert site.ask("/extensions") == []
        for _ in range(3):
            assert site.get("/starlette-file", file=file).body == content
        assert server.log.count("tailrace.server does not know this uvicorn") == 1
        assert "0.39" in server.log
