"""Messages, items and clocks that are wrong harm nobody but themselves."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import clocks, items, messages
from tests.faults.conftest import Survives, name_of
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", (*messages.FAULTS, *items.FAULTS, *clocks.FAULTS), ids=name_of)
def test_the_service_survives(survives: Survives, fault: Fault) -> None:
    survives(fault)
