"""Whatever dies or fails, a training goes on where it was, and its version is made once."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import training
from tests.faults.conftest import Survives, name_of
from tests.faults.fault import Fault


@pytest.mark.parametrize("fault", training.FAULTS, ids=name_of)
def test_it_goes_on_where_it_was(survives: Survives, fault: Fault) -> None:
    survives(fault)
