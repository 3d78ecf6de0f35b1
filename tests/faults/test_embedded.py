"""SQLite is locked or the disk is full, and nothing is lost, doubled, crossed or stuck."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.catalogue import embedded
from tests.faults.conftest import SOON, Survives
from tests.faults.embedded import SmallStage
from tests.faults.fault import Fault
from tests.support.fixtures import missing


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallStage]:
    """Instead of the usual one."""
    if os.geteuid():
        missing("a disk that can be full is a tmpfs, and to mount one takes root")
    made = SmallStage(tmp_path_factory.mktemp("embedded"), SOON)
    try:
        yield made
    finally:
        made.drop()


@pytest.mark.parametrize("fault", embedded.FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_the_service_survives(survives: Survives, fault: Fault) -> None:
    survives(fault)
