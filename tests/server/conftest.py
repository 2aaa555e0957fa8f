"""The servers that run with `tailrace.server.HttpProtocol`, and files to send."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tailrace.server.internals import OLDEST
from tests import rawhttp
from tests.servers import ROOT, RunningServer, ServerName, serve

APP = "tests.server.app:app"
OURS: tuple[ServerName, ...] = ("uvicorn-tailrace", "uvloop-tailrace")


class Site:
    """A running server, with short methods for requests."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server

    def connect(self, **options: Any) -> rawhttp.Connection:
        return rawhttp.Connection(self.server.host, self.server.port, **options)

    def get(self, path: str, *, method: str = "GET", **query: Any) -> rawhttp.Reply:
        where = target(path, **query)
        return rawhttp.request(self.server.host, self.server.port, where, method=method)

    def ask(self, path: str, **query: Any) -> Any:
        return json.loads(self.get(path, **query).body)


def target(path: str, **query: Any) -> str:
    return f"{path}?{urlencode(query)}" if query else path


LOWEST = "the lowest uvicorn"


@pytest.fixture(params=[*OURS, pytest.param(LOWEST, marks=pytest.mark.slow)])
def site(request: pytest.FixtureRequest, shared_server: Callable[..., RunningServer]) -> Site:
    """A server with our protocol, which the tests share.

    It runs on asyncio's loop, on uvloop, and with the lowest uvicorn that the package allows.
    """
    if request.param == LOWEST:
        server: RunningServer = request.getfixturevalue("lowest_uvicorn")
        return Site(server)
    return Site(shared_server(APP, request.param, log_level="info"))


@pytest.fixture(scope="session")
def lowest_uvicorn() -> Iterator[RunningServer]:
    """A server with the lowest uvicorn that `tailrace.server` supports."""
    with serve(APP, OURS[0], env=with_uvicorn(OLDEST), log_level="info") as server:
        yield server


def with_uvicorn(version: tuple[int, int]) -> dict[str, str]:
    """An environment in which Python imports another uvicorn; it is installed once, in `.cache`."""
    folder = ROOT / ".cache" / "uvicorn-{}.{}".format(*version)
    if not folder.exists():
        wanted = "uvicorn=={}.{}.*".format(*version)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        with tempfile.TemporaryDirectory(dir=folder.parent.parent) as made:
            subprocess.run([*command, made, wanted], check=True, timeout=120)
            folder.parent.mkdir(exist_ok=True)
            shutil.copytree(made, folder)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="session")
def content() -> bytes:
    """Three million random bytes, so that each part differs from the others."""
    return random.Random(3).randbytes(3_000_000)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Path:
    """A file with `content`."""
    path = tmp_path_factory.mktemp("files") / "three-million"
    path.write_bytes(content)
    return path
