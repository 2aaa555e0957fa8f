"""Patterns over paths."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.subscriptions.pattern import PathIndex, Pattern


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("events/*", "events/a", True),
        ("events/*", "events/a/b", False),
        ("events/*", "events", False),
        ("events/*", "eventsx/a", False),
        ("events/**", "events", True),
        ("events/**", "events/a/b/c", True),
        ("**", "anything/at/all", True),
        ("**/c", "c", True),
        ("**/c", "a/b/c", True),
        ("**/c", "a/b/cc", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/z/c/z", True),
        ("a/**/z", "a/b/z/c", False),
        ("a/**/b/*/c", "a/b/x/b/y/c", True),
        ("*/*", "a/b", True),
        ("a.b/[c]", "a.b/[c]", True),
        ("a.b", "axb", False),
        ("**", "__ds/keys", False),
        ("**/keys", "__ds/keys", False),
    ],
)
def test_a_star_is_a_segment_and_two_are_any_number(pattern: str, path: str, matches: bool) -> None:
    assert Pattern(pattern).matches(path) is matches


@pytest.mark.parametrize("text", ["", "a*", "a/b*c", "***", "a/**b"])
def test_a_star_within_a_segment_is_refused(text: str) -> None:
    with pytest.raises(SubscriptionRefused) as caught:
        Pattern(text)
    assert caught.value.status == 400


def test_a_pattern_has_a_greatest_length() -> None:
    Pattern("a" * limits.MAX_PATTERN_BYTES)
    with pytest.raises(SubscriptionRefused):
        Pattern("a" * (limits.MAX_PATTERN_BYTES + 1))


def test_a_pattern_has_so_many_segments_at_most() -> None:
    Pattern("/".join("a" * limits.MAX_PATTERN_SEGMENTS))
    with pytest.raises(SubscriptionRefused):
        Pattern("/".join("a" * (limits.MAX_PATTERN_SEGMENTS + 1)))


def test_the_worst_pattern_is_matched_quickly() -> None:
    pattern = Pattern("/".join(["**", "a"] * 16))
    path = "/".join(["a"] * 511 + ["b"])
    begin = time.process_time()
    for _ in range(10):
        assert not pattern.matches(path)
    assert time.process_time() - begin < 1


SEGMENTS = st.sampled_from(["a", "b", "c"])


def slow_match(pattern: list[str], path: list[str]) -> bool:
    """The rules as they are written down."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(slow_match(pattern[1:], path[at:]) for at in range(len(path) + 1))
    return bool(path) and pattern[0] in ("*", path[0]) and slow_match(pattern[1:], path[1:])


@given(
    st.lists(st.one_of(SEGMENTS, st.sampled_from(["*", "**"])), min_size=1, max_size=6),
    st.lists(SEGMENTS, min_size=1, max_size=7),
)
def test_it_agrees_with_the_plain_definition(pattern: list[str], path: list[str]) -> None:
    assert Pattern("/".join(pattern)).matches("/".join(path)) is slow_match(pattern, path)


ENTRIES = st.tuples(
    st.none() | st.sampled_from(["a/*", "**", "*/b", "a/**", "b/c"]).map(Pattern),
    st.sets(st.sampled_from(["a/b", "b/c", "x"])),
)


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.none() | ENTRIES), max_size=12))
def test_the_index_finds_what_each_of_its_entries_would(changes: list[Any]) -> None:
    index = PathIndex()
    entries: dict[str, Any] = {}
    for name, entry in changes:
        if entry is None:
            index.drop(name)
            entries.pop(name, None)
        else:
            index.put(name, *entry)
            entries[name] = entry
    for path in ("a/b", "b/c", "x", "a", "a/b/c", "z/b"):
        wanted = {
            name
            for name, (pattern, paths) in entries.items()
            if path in paths or (pattern is not None and pattern.matches(path))
        }
        assert index.matches(path) == wanted
    assert bool(index) is bool(entries)
