"""Processes that are told to end, or stand still, lose nothing; a graceful stop spends nothing."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import stops
from tests.faults.conftest import Survives, name_of
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", stops.FAULTS, ids=name_of)
def test_the_service_survives(survives: Survives, fault: Fault) -> None:
    survives(fault)
