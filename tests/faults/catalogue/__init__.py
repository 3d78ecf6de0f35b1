"""Every fault, by the part that it strikes. A module's ``FAULTS`` is one share of the tests; what
takes too long for them is in its ``ON_DEMAND``."""

from __future__ import annotations

from tests.faults.catalogue import (
    broker,
    bulk,
    bulk_services,
    clocks,
    crowds,
    database,
    deaths,
    embedded,
    items,
    messages,
    objects,
    receivers,
    stops,
    training,
)
from tests.faults.fault import Fault

MODULES = (
    deaths,
    stops,
    items,
    messages,
    crowds,
    clocks,
    broker,
    database,
    objects,
    receivers,
    bulk,
    bulk_services,
    training,
    embedded,
)
ALL: tuple[Fault, ...] = tuple(
    fault for module in MODULES for fault in (*module.FAULTS, *getattr(module, "ON_DEMAND", ()))
)
