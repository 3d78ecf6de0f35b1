"""Tests that share what is slow to start run in one process."""

from __future__ import annotations

import pytest

from tests.support.distribution import group_of


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/acceptance/test_a.py::test_it[full]", "full"),
        ("tests/acceptance/test_a.py::test_it[full-no route]", "full"),
        ("tests/acceptance/test_b.py::test_it[embedded-full]", "embedded"),
        ("tests/acceptance/test_b.py::test_it[fuller]", "tests/acceptance/test_b.py"),
        ("tests/integration/test_a.py::test_it[full]", "tests/integration/test_a.py"),
        ("tests/unit/test_a.py::TestIt::test_it", "tests/unit/test_a.py"),
    ],
)
def test_a_group_is_a_mode_or_a_module(test, group):
    assert group_of(test) == group
