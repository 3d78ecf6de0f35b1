"""S3 fails in every way we know, and nothing is lost, doubled, crossed or stuck."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import objects
from tests.faults.conftest import Survives
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", objects.FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_the_service_survives(survives: Survives, fault: Fault) -> None:
    survives(fault)
