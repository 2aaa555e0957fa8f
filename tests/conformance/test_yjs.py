"""The official Yjs layer, npm's @durable-streams/y-durable-streams, on `tailrace serve`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conformance.node import NODE, require

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("yjs.mjs")
DEADLINE = 60.0


def test_documents_sync_resume_from_a_snapshot_and_come_back(streams_url: str) -> None:
    require()
    server = urlsplit(streams_url)
    command: list[str | Path] = [
        NODE,
        SCRIPT,
        f"{server.scheme}://{server.netloc}",
        f"yjs-{os.getpid()}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "synced": 60,
        "afterSnapshot": True,
        "awareness": True,
        "reconnected": True,
    }
