"""The server protocol: `uvicorn app:app --http tailrace.server:HttpProtocol`."""

from __future__ import annotations

from tailrace.server.options import ServerOptions

try:
    from tailrace.server.uvicorn import HttpProtocol
except ModuleNotFoundError as missing:
    if missing.name not in {"httptools", "uvicorn"}:
        raise
    raise ModuleNotFoundError(
        f"tailrace.server needs {missing.name}, which is not installed: "
        'pip install "tailrace[server]"',
        name=missing.name,
    ) from None

__all__ = ["HttpProtocol", "ServerOptions"]
