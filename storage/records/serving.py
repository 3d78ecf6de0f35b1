"""How a version is served: what its pusher may turn, with defaults that need no turning.

``{"serving": {"max_batch": 64, "latency_objective_ms": 50, "batch_sizes": [1, 8, 64],
"pad": {"tokens": {"sizes": [32, 128, 512], "mask": "mask"}}, "cost": "tokens"}}``.
It travels in the push options and is kept in the signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_MAX_BATCH = 512
DEFAULT_LATENCY_OBJECTIVE_MS = 50.0


class Cost(StrEnum):
    """What a batch is measured by."""

    ROWS = "rows"
    TOKENS = "tokens"  # the padded length of the variable axis, summed over the rows
    PIXELS = "pixels"  # the padded height times width, summed over the rows


class Precision(StrEnum):
    """The type a model computes in."""

    NATIVE = "native"  # as it was saved
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class Pad:
    """How one input's axes of any length are brought to a few sizes."""

    sizes: tuple[int, ...]  # allowed lengths of every variable axis, ascending
    value: float | str = 0  # what fills it
    mask: str | None = None  # the input that gets 1 where there is data and 0 where there is none


@dataclass(frozen=True, slots=True)
class Serving:
    """The knobs of one version."""

    max_batch: int = DEFAULT_MAX_BATCH  # most rows in one pass
    latency_objective_ms: float = DEFAULT_LATENCY_OBJECTIVE_MS
    batch_sizes: tuple[int, ...] = ()  # allowed sizes; empty means powers of two
    pad: Mapping[str, Pad] = field(default_factory=dict)  # by input name
    cost: Cost = Cost.ROWS
    max_cost: float | None = None  # most cost in one pass, padding included
    instances: int = 1  # passes of this version that may run at once on a device
    xla: bool = False
    precision: Precision = Precision.NATIVE
