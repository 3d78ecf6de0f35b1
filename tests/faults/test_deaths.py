"""Processes of ours die at their worst moments, and nothing is lost, doubled, crossed or stuck."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import deaths
from tests.faults.conftest import Survives, name_of
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", deaths.FAULTS, ids=name_of)
def test_the_service_survives(survives: Survives, fault: Fault) -> None:
    survives(fault)
