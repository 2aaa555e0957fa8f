"""`Files`, mounted as a user does it, of the directory whose path is `TAILRACE_TEST_DIRECTORY`."""

from __future__ import annotations

import os

from fastapi import FastAPI

from tailrace import Files

__all__ = ["app"]

app = FastAPI()
app.mount("/files", Files(os.environ["TAILRACE_TEST_DIRECTORY"]))
