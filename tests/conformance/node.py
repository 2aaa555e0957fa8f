"""Node, and the packages that scripts/install-node-packages.sh installs for it."""

from __future__ import annotations

from tests.servers import ROOT

__all__ = ["NODE", "NODE_MODULES", "require"]

NODE = ROOT / ".cache" / "node" / "bin" / "node"
NODE_MODULES = ROOT / ".cache" / "node" / "node_modules"


def require() -> None:
    """Check that Node and its packages are installed.

    Raises:
        RuntimeError: They are missing, or differ from the lock file; the message says what to do.
    """
    wanted = ROOT / "tests" / "conformance" / "package-lock.json"
    installed = ROOT / ".cache" / "node" / "installed.json"
    if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        raise RuntimeError("sh scripts/install-node-packages.sh installs what is missing here")
