from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.training_data import DataDesk


@pytest.fixture
def desk(tmp_path: Path) -> DataDesk:
    return DataDesk(tmp_path)
