"""The server protocol: `uvicorn app:app --http tailrace.server:HttpProtocol`."""

from __future__ import annotations

from tailrace.server.options import ServerOptions

try:
    from tailrace.server.uvicorn import HttpProtocol
except ModuleNotFoundError as missing:
    _package = (missing.name or "").partition(".")[0]
    if _package not in {"httptools", "uvicorn"}:
        raise
    raise ModuleNotFoundError(
        f'tailrace.server needs {_package}, which is not installed: pip install "tailrace[server]"',
        name=_package,
    ) from None

__all__ = ["HttpProtocol", "ServerOptions"]
