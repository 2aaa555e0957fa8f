"""The newest sse-starlette's arguments and names are all taken, at their places."""

from __future__ import annotations

import importlib
import inspect

import pytest
import sse_starlette

import tailrace.compat.sse_starlette as ours


@pytest.mark.parametrize("name", sse_starlette.__all__)
def test_each_class_takes_the_arguments_of_theirs(name: str) -> None:
    theirs, own = (
        [(each.name, each.kind) for each in inspect.signature(of).parameters.values()]
        for of in (getattr(sse_starlette, name), getattr(ours, name))
    )
    assert own == theirs


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("event", {"ServerSentEvent", "JSONServerSentEvent", "ensure_bytes"}),
        ("sse", {"EventSourceResponse", "AppStatus", "SendTimeoutError", "ServerSentEvent"}),
        ("sse", {"ensure_bytes"}),
    ],
)
def test_each_module_has_the_public_names_of_theirs(module: str, names: set[str]) -> None:
    for package in (sse_starlette, ours):
        assert names <= vars(importlib.import_module(f"{package.__name__}.{module}")).keys()


def test_each_public_attribute_of_theirs_is_here() -> None:
    for theirs, own in (
        (sse_starlette.EventSourceResponse([]), ours.EventSourceResponse([])),  # type: ignore[arg-type] # ours is stricter
        (sse_starlette.ServerSentEvent("x"), ours.ServerSentEvent("x")),
        (sse_starlette.sse.AppStatus, importlib.import_module(f"{ours.__name__}.sse").AppStatus),
    ):
        public = [name for name in dir(theirs) if not name.startswith("_")]
        assert [name for name in public if not hasattr(own, name)] == []
