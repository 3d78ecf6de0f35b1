"""Relays that die, and two of what there is usually one of, do each job once."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import crowds
from tests.faults.conftest import Survives, name_of
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", crowds.FAULTS, ids=name_of)
def test_the_service_survives(survives: Survives, fault: Fault) -> None:
    survives(fault)
