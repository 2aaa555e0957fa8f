"""docs/streams-protocol.md is true: its commands answer what it says, its limits are those."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tailrace import limits
from tests.cli.running_serve import running_serve
from tests.examples import ROOT
from tests.tools.tool import tool

PAGE = (ROOT / "docs" / "streams-protocol.md").read_text()
MARK = "=== command {} ==="
# What is another on each run: when a stream was made, the time of a cursor.
TOKENS = (
    (re.compile(r"\b[1-9][0-9]{15}_"), "GENERATION_"),
    (re.compile(r'etag: "[0-9a-f]+\.[0-9a-f]+'), 'etag: "ETAG'),
    (re.compile(r"stream-cursor: [0-9]+"), "stream-cursor: CURSOR"),
)
UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": 1}
LIMIT = re.compile(r"^\|.*\| ([0-9,]+)(?: (\w+))? \| `([A-Z_]+)` \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the page, and the lines that it says are in its output."""

    text: str
    said: tuple[str, ...]


def commands() -> Iterator[Command]:
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            text, _, said = part.partition("\n")
            yield Command(text, tuple(line for line in said.splitlines() if line.strip()))


COMMANDS = tuple(commands())


def plain(text: str, port: int) -> str:
    for pattern, word in TOKENS:
        text = pattern.sub(word, text)
    return text.replace(f"127.0.0.1:{port}", "127.0.0.1:8000").replace("\r", "")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each command wrote, all of them run one after the other in one shell."""
    tool("curl")
    script = "".join(
        f"{each.text}\necho; echo '{MARK.format(number)}'\n" for number, each in enumerate(COMMANDS)
    )
    with running_serve(tmp_path_factory.mktemp("page"), "--log-level", "warning") as server:
        shell = subprocess.run(
            ["bash", "-u"],
            input=script.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert shell.stderr == ""
        assert "Traceback" not in server.log
    written = plain(shell.stdout, server.port)
    parts = re.split(r"\n=== command [0-9]+ ===\n", written)
    assert len(parts) == len(COMMANDS) + 1
    return parts[:-1]


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) > 40
    assert sum(len(each.said) for each in COMMANDS) > 60


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=lambda number: COMMANDS[number].text)
def test_a_command_answers_what_the_page_says(outputs: list[str], number: int) -> None:
    rest = outputs[number]
    for line in COMMANDS[number].said:
        line = plain(line, 0).rstrip()
        before, found, rest = rest.partition(line)
        assert found, f"{line!r} is not in, or not in its place of:\n{outputs[number]}"
        assert before == "" or before.endswith("\n"), f"{line!r} is no line's beginning"


def test_its_limits_are_those_of_the_code() -> None:
    rows = LIMIT.findall(PAGE)
    assert len(rows) > 15
    for number, unit, name in rows:
        value = int(number.replace(",", "")) * UNITS.get(unit, 1)
        assert value == getattr(limits, name), name


def test_its_links_lead_somewhere() -> None:
    for page in re.findall(r"\]\(([a-z-]+\.md)\)", PAGE):
        assert Path(ROOT, "docs", page).exists(), page
