"""Every fault, by the part that it strikes. A module's ``FAULTS`` is one share of the tests."""

from __future__ import annotations

from tests.faults.catalogue import deaths, stops
from tests.faults.fault import Fault

MODULES = (deaths, stops)
ALL: tuple[Fault, ...] = tuple(fault for module in MODULES for fault in module.FAULTS)
