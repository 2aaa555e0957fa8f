"""From a URL to a store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.errors import InvalidOption
from tailrace.store import START, MemoryStore, NewStream, Store, open_store


async def fill(store: Store) -> None:
    async with store:
        await store.create("a", NewStream(data=b"one"))


async def content(store: Store) -> bytes:
    async with store:
        return (await store.read("a", START)).data


@pytest.mark.parametrize("url", ["memory://", "memory:", "memory:///"])
def test_memory_needs_no_name(url: str) -> None:
    assert isinstance(open_store(url), MemoryStore)


def test_memory_is_a_store_of_its_own_each_time() -> None:
    one, other = open_store("memory://"), open_store("memory://")
    assert isinstance(one, MemoryStore)
    assert one is not other


@pytest.mark.anyio
async def test_an_absolute_path_has_four_slashes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'streams.db'}"
    assert url.startswith("sqlite:////")
    await fill(open_store(url))
    assert (tmp_path / "streams.db").is_file()
    assert await content(open_store(url)) == b"one"


@pytest.mark.anyio
async def test_a_relative_path_has_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    await fill(open_store("sqlite:///streams.db"))
    assert (tmp_path / "streams.db").is_file()
    assert await content(open_store(f"sqlite:///{tmp_path / 'streams.db'}")) == b"one"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["with space.db", "per%20cent.db", "caf\xe9.db", "plus+.db", "what?.db", "a#b"]
)
async def test_a_path_is_taken_by_the_letter(tmp_path: Path, name: str) -> None:
    await fill(open_store(f"sqlite:///{tmp_path / name}"))
    assert name in os.listdir(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "memory://name",
        "memory:name",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://streams.db",
        "sqlite:streams.db",
        "streams.db",
        "/var/lib/streams.db",
        "redis://localhost",
        "file:///streams.db",
        "://",
        " sqlite:///a.db",
    ],
)
def test_what_is_no_url_of_a_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        open_store(url)
    assert refused.value.name == "store"
    assert refused.value.value == url


def test_a_driver_is_imported_only_when_it_is_asked_for() -> None:
    code = (
        "import sys; from tailrace.store import open_store; open_store('memory://');"
        "print('apsw' in sys.modules, 'tailrace.store.sqlite' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
