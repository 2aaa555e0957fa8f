"""The tests of FastAPI and sse-starlette with our classes in place of theirs; see `__main__.py`."""
