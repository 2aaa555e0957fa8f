"""Tests of stores."""

import pytest

# Before it is imported, so that its asserts tell what was compared.
pytest.register_assert_rewrite("tests.store.contract")
