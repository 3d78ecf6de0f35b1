"""Services fail and rows do harm under bulk jobs, and every row has one answer."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import bulk_services
from tests.faults.conftest import Survives, name_of
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", bulk_services.FAULTS, ids=name_of)
def test_every_row_has_one_answer(survives: Survives, fault: Fault) -> None:
    survives(fault)
