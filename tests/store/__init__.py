"""Tests of stores."""

import pytest

# Called before the contract is imported, so that its asserts show what was compared.
pytest.register_assert_rewrite("tests.store.contract")
