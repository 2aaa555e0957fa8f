"""Strategies of hypothesis for the property tests of several formats."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# All characters of UTF-8; more often those that code which splits lines or cells gets wrong.
text = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from('\r\n \t",:;\0\x0b\x0c\x1c\x85\u2028\u2029\ufeff'),
    ),
    max_size=40,
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
