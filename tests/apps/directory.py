"""`Files` as a user mounts it, of the directory that `TAILRACE_TEST_DIRECTORY` names."""

from __future__ import annotations

import os

from fastapi import FastAPI

from tailrace import Files

__all__ = ["app"]

app = FastAPI()
app.mount("/files", Files(os.environ["TAILRACE_TEST_DIRECTORY"]))
