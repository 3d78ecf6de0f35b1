"""Receivers of webhooks misbehave, and the others are told of every end, once it is one."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import receivers
from tests.faults.conftest import Survives
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", receivers.FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_the_service_survives(survives: Survives, fault: Fault) -> None:
    survives(fault)
