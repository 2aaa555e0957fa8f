"""Patterns over stream paths: `*` is one segment, `**` is zero or more.

A pattern comes from a client and is matched with every path, so its cost must be bounded: no
regular expressions and no recursion. Matching goes back to the last `**` only, so at worst it
compares each segment of the pattern with each segment of the path.
"""

from __future__ import annotations

from collections.abc import Iterable

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.store import INTERNAL

__all__ = ["PathIndex", "Pattern"]

_ONE = "*"
_ANY = "**"


class Pattern:
    """A compiled pattern.

    Args:
        text: Segments with `/` between them. A star stands alone in its segment.

    Raises:
        SubscriptionRefused: Empty, too long, or a star within a segment (400).

    Source: Durable Streams 6.2.
    """

    __slots__ = ("_segments", "prefix", "text")

    def __init__(self, text: str) -> None:
        if not text or len(text.encode()) > limits.MAX_PATTERN_BYTES:
            raise _refused(f"it must have 1 to {limits.MAX_PATTERN_BYTES:,} bytes")
        segments = text.split("/")
        if len(segments) > limits.MAX_PATTERN_SEGMENTS:
            raise _refused(f"it may have at most {limits.MAX_PATTERN_SEGMENTS} segments")
        if any("*" in each and each not in (_ONE, _ANY) for each in segments):
            raise _refused("a star stands for whole segments: write * or ** between slashes")
        self.text = text
        self._segments = tuple(segments)
        literal = []
        for each in segments:
            if each in (_ONE, _ANY):
                break
            literal.append(each)
        self.prefix = "/".join(literal)
        """The segments before the first star: each path that matches begins with them."""

    def matches(self, path: str) -> bool:
        """Whether a path matches. Our own paths (`__ds/`) never do."""
        if not path.startswith(self.prefix) or path.startswith(INTERNAL):
            return False
        pattern, segments = self._segments, path.split("/")
        at = place = 0
        retry: tuple[int, int] | None = None  # behind the last `**`: in the pattern, in the path
        while place < len(segments):
            here = pattern[at] if at < len(pattern) else None
            if here == _ANY:
                at += 1
                retry = (at, place)
            elif here is not None and here in (_ONE, segments[place]):
                at, place = at + 1, place + 1
            elif retry is not None:
                at, place = retry[0], retry[1] + 1
                retry = (at, place)
            else:
                return False
        return all(each == _ANY for each in pattern[at:])


class PathIndex:
    """Finds the subscriptions that follow a path.

    It is asked at each append, so it tries only the patterns whose prefix fits.
    """

    __slots__ = ("_by_path", "_by_prefix", "_entries")

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Pattern | None, frozenset[str]]] = {}
        self._by_path: dict[str, set[str]] = {}
        self._by_prefix: dict[str, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def put(self, name: str, pattern: Pattern | None, explicit: Iterable[str]) -> None:
        """Set what a subscription follows, in place of what it followed before."""
        paths = frozenset(explicit)
        if self._entries.get(name) == (pattern, paths):
            return
        self.drop(name)
        self._entries[name] = (pattern, paths)
        for path in paths:
            self._by_path.setdefault(path, set()).add(name)
        if pattern is not None:
            self._by_prefix.setdefault(pattern.prefix, set()).add(name)

    def drop(self, name: str) -> None:
        """Forget a subscription."""
        pattern, paths = self._entries.pop(name, (None, frozenset()))
        for path in paths:
            _discard(self._by_path, path, name)
        if pattern is not None:
            _discard(self._by_prefix, pattern.prefix, name)

    def matches(self, path: str) -> set[str]:
        """The subscriptions that follow a path."""
        found = set(self._by_path.get(path, ()))
        prefix = path
        while True:
            for name in self._by_prefix.get(prefix, ()):
                pattern = self._entries[name][0]
                if name not in found and pattern is not None and pattern.matches(path):
                    found.add(name)
            if not prefix:
                return found
            prefix = prefix.rpartition("/")[0]


def _discard(groups: dict[str, set[str]], key: str, name: str) -> None:
    names = groups[key]
    names.discard(name)
    if not names:
        del groups[key]


def _refused(why: str) -> SubscriptionRefused:
    return SubscriptionRefused("INVALID_REQUEST", 400, f"not a valid pattern: {why}")
