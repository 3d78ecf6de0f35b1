"""The lanes of a pool and their queues: names only, so that a pure choice may use them.

One queue per pool and lane: quorum queues have no priorities we could rely on from 3.10 to 4.x.
Workers consume all three and decide themselves what goes first.
"""

from __future__ import annotations

from enum import StrEnum

from storage.records.errors import InvalidInput
from storage.records.jobs import HIGH_PRIORITY, is_bulk
from storage.records.models import check_name

_INFER, _BULK, _HIGH = "infer.", "bulk.", ".hi"


class Lane(StrEnum):
    """How a wake-up travels."""

    HIGH = "high"  # first of all: high priority, or a tenant that has had little so far
    NORMAL = "normal"
    BULK = "bulk"  # fills what the others leave over


def class_of(priority: int) -> Lane:
    """The lane that a job's own priority asks for."""
    if is_bulk(priority):
        return Lane.BULK
    return Lane.HIGH if priority >= HIGH_PRIORITY else Lane.NORMAL


def training_pool(pool: str) -> str:
    """The pool of the trainings that the workers of ``pool`` run."""
    return f"train.{pool}"


def queue_name(pool: str, lane: Lane) -> str:
    """The queue of a pool and lane: ``infer.<pool>.hi``, ``infer.<pool>`` or ``bulk.<pool>``."""
    check_name(pool, field="pool")
    if pool.endswith(_HIGH):  # its queue would be another pool's high lane
        raise InvalidInput(
            f"a pool's name must not end with '{_HIGH}': {pool!r}",
            code="invalid_name",
            field="pool",
        )
    if lane is Lane.BULK:
        return f"{_BULK}{pool}"
    return f"{_INFER}{pool}{_HIGH if lane is Lane.HIGH else ''}"


def lane_of(queue: str) -> Lane:
    """The lane of a queue that ``queue_name`` named; of any other queue the normal one."""
    if queue.startswith(_BULK):
        return Lane.BULK
    return Lane.HIGH if queue.startswith(_INFER) and queue.endswith(_HIGH) else Lane.NORMAL
