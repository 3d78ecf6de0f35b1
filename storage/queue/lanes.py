"""The lanes of a pool and their queues: names only, so that a pure choice may use them.

One queue per pool and lane: quorum queues have no priorities we could rely on from 3.10 to 4.x.
Workers consume all of them and decide themselves what goes first.

Trainings take a worker's place for hours where all else takes milliseconds. So they are a pool of
their own beside the one they belong to, with a window and a fairness of its own, and one queue
whatever the priority: ``train.<pool>`` is the name of both. The pool's workers serve it too.
"""

from __future__ import annotations

from enum import StrEnum

from storage.records.errors import InvalidInput
from storage.records.jobs import HIGH_PRIORITY, is_bulk
from storage.records.models import check_name

_INFER, _BULK, _TRAIN, _HIGH = "infer.", "bulk.", "train.", ".hi"


class Lane(StrEnum):
    """How a wake-up travels."""

    HIGH = "high"  # first of all: high priority, or a tenant that has had little so far
    NORMAL = "normal"
    BULK = "bulk"  # fills what the others leave over
    TRAIN = "train"  # trainings: beside the device, not over it


DEVICE_LANES = (Lane.HIGH, Lane.NORMAL, Lane.BULK)  # whose jobs go over a worker's device


def class_of(priority: int) -> Lane:
    """The lane that a job's own priority asks for."""
    if is_bulk(priority):
        return Lane.BULK
    return Lane.HIGH if priority >= HIGH_PRIORITY else Lane.NORMAL


def training_pool(pool: str) -> str:
    """The pool of the trainings that the workers of ``pool`` run."""
    return pool if is_training_pool(pool) else _TRAIN + pool


def is_training_pool(pool: str) -> bool:
    """Whether a job's pool is one of trainings."""
    return pool.startswith(_TRAIN)


def worker_pool(pool: str) -> str:
    """The pool under which the workers that serve ``pool`` are registered."""
    return pool.removeprefix(_TRAIN)


def check_pool(pool: str, *, field: str = "pool") -> None:
    """Raise ``InvalidInput`` unless an operator may call a pool so."""
    check_name(pool, field=field)
    if pool.endswith(_HIGH):  # its queue would be another pool's high lane
        raise InvalidInput(
            f"a pool's name must not end with '{_HIGH}': {pool!r}",
            code="invalid_name",
            field=field,
        )
    if is_training_pool(pool):  # its queue would be that of another pool's trainings
        raise InvalidInput(
            f"a pool's name must not begin with '{_TRAIN}': {pool!r}",
            code="invalid_name",
            field=field,
        )


def queue_name(pool: str, lane: Lane) -> str:
    """The queue of a pool and lane: ``infer.<pool>.hi``, ``infer.<pool>``, ``bulk.<pool>`` or
    ``train.<pool>``; of a pool of trainings it is the last one in every lane."""
    check_pool(worker_pool(pool))
    if lane is Lane.TRAIN or is_training_pool(pool):
        return training_pool(pool)
    if lane is Lane.BULK:
        return f"{_BULK}{pool}"
    return f"{_INFER}{pool}{_HIGH if lane is Lane.HIGH else ''}"


def queue_names(pool: str) -> list[str]:
    """All queues of a pool, the high lane first; a pool's own are those of its trainings too."""
    return list(dict.fromkeys(queue_name(pool, lane) for lane in Lane))


def lane_of(queue: str) -> Lane:
    """The lane of a queue that ``queue_name`` named; of any other queue the normal one."""
    if queue.startswith(_BULK):
        return Lane.BULK
    if queue.startswith(_TRAIN) and not queue.endswith(_HIGH):
        return Lane.TRAIN
    return Lane.HIGH if queue.startswith(_INFER) and queue.endswith(_HIGH) else Lane.NORMAL
