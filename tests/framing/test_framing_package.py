from __future__ import annotations

import pytest

from tailrace import framing
from tailrace.framing import (
    CSV,
    Framing,
    JSONArray,
    JSONLines,
    MultipartMixedReplace,
    Raw,
    ServerSentEvents,
)

FORMATS: list[type[Framing]] = [
    CSV,
    JSONArray,
    JSONLines,
    MultipartMixedReplace,
    Raw,
    ServerSentEvents,
]


@pytest.mark.parametrize("name", framing.__all__)
def test_every_name_that_is_promised_is_there(name: str) -> None:
    assert hasattr(framing, name)


def test_errors_can_tell_the_formats_apart() -> None:
    assert len({kind.name for kind in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stream_that_carries_nothing_can_end(kind: type[Framing]) -> None:
    assert isinstance(kind().closing(), bytes)
