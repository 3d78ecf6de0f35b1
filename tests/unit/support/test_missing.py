"""A service that is not there is never passed over in silence."""

from __future__ import annotations

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.support.fixtures import missing


@pytest.mark.parametrize(
    ("allow", "ci", "outcome"),
    [("", "", Failed), ("1", "", Skipped), ("1", "true", Failed), ("", "true", Failed)],
)
def test_a_missing_service_fails_unless_a_developer_allows_it(monkeypatch, allow, ci, outcome):
    monkeypatch.setenv("FOREBAY_TEST_ALLOW_MISSING", allow)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no such service"):
        missing("no such service")
