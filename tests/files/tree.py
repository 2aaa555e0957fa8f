"""A directory with everything that may lead out of a served directory, and a secret outside."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["HIDDEN", "SECRET", "make_tree"]

SECRET = b"CANARY-OUTSIDE"
HIDDEN = b"CANARY-HIDDEN"


def make_tree(top: Path) -> Path:
    """Make `top/root`, which is served, and `top/outside`, which is not. Returns `top/root`."""
    root, outside = top / "root", top / "outside"
    for directory in ("docs/deep", "site", "empty", ".git", ".data"):
        (root / directory).mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.txt").write_bytes(SECRET)
    # Its name begins like the directory's: a check that compares only prefixes would accept it.
    (top / "root-too").mkdir()
    (top / "root-too" / "secret.txt").write_bytes(SECRET)
    write_files(root)
    make_links(root, outside)
    os.mkfifo(root / "fifo")
    make_socket(root / "socket")
    return root


def write_files(root: Path) -> None:
    contents = {
        "hello.txt": b"hello",
        "docs/guide.md": b"# Guide\n",
        "docs/deep/end.txt": b"the end",
        "site/index.html": b"<p>index</p>",
        "site/style.css": b"p {}",
        ".env": HIDDEN,
        ".git/config": HIDDEN,
        ".data/config": b"meant to be seen",
        "docs/.draft": HIDDEN,
        "%2e%2e": b"a name",
        "back\\slash.txt": b"a name",
        "a b&c#d?e.txt": b"a name",
        "<b>bold<b>.txt": b"a name",
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff.txt")).write_bytes(b"a name")


def make_links(root: Path, outside: Path) -> None:
    targets = {
        "in": "hello.txt",
        "in-docs": "docs",
        "in-through": "in-docs/deep/../guide.md",
        "in-absolute": str(root / "docs"),
        "docs/up": "../hello.txt",
        "to-hidden": ".data/config",
        "out": "../outside",
        "out-file": "../outside/secret.txt",
        "out-absolute": str(outside / "secret.txt"),
        "out-passwd": "/etc/passwd",
        "out-beside": str(root) + "-too/secret.txt",
        "out-dots": str(root) + "/../outside/secret.txt",
        "out-through": "in-docs/../../outside/secret.txt",
        "out-and-in": "../root/hello.txt",
        "out-proc": "/proc/self/cwd",
        "loop": "loop",
        "loop-there": "loop-back",
        "loop-back": "loop-there",
        "around": "docs/../" * 200 + "hello.txt",
        "dangling": "nothing",
        "null": "/dev/null",
        "in-fifo": "fifo",
    }
    for name, target in targets.items():
        (root / name).symlink_to(target)


def make_socket(path: Path) -> None:
    # A socket's path may have at most 108 bytes, and pytest's may be longer. So it is bound with a
    # relative path.
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)
