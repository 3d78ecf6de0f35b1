"""What inference asks of a runtime. The only TensorFlow is behind these two protocols.

``forward`` knows nothing of jobs: rows in, rows out, in the same order. Whoever calls it pads to
the sizes of ``plan``, cuts the padding off (``shapes``) and counts the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy.typing as npt

from storage.records.errors import ForebayError
from storage.records.models import ModelVersion
from storage.records.serving import Serving
from storage.records.signatures import Signature

Array: TypeAlias = npt.NDArray[Any]
Row: TypeAlias = dict[str, Array]
"""One item's tensors by input name, without the batch axis and without masks."""

Ragged: TypeAlias = Array | list[Array]
"""An output: one array for all rows, or one array for each where their lengths differ."""


class ModelBroken(ForebayError):
    """The model itself cannot be served: no retry and no other worker can help.

    Anything else that ``load`` or ``forward`` raises is trouble of the infrastructure.
    """

    code: ClassVar[str] = "model_broken"
    http_status: ClassVar[int] = 422


class DeviceOutOfMemory(ForebayError):
    """A pass needs more memory than the device has: smaller ones may fit, and no item is blamed."""

    code: ClassVar[str] = "out_of_memory"


@dataclass(frozen=True, slots=True)
class Follows:
    """How long one axis of an output is, by one axis of an input: ``scale × ((n + add) // by)``."""

    input: str
    axis: int  # which of the input's axes of any length
    scale: int = 1
    add: int = 0
    by: int = 1

    def length(self, n: int) -> int:
        """The output's length for an input that is ``n`` long."""
        return self.scale * ((n + self.add) // self.by)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a loaded version is run on this device."""

    sizes: tuple[int, ...]  # ascending; ``forward`` takes batches of exactly these
    serving: Serving = field(default_factory=Serving)
    memory_bytes: int = 0  # measured: what it holds while it is loaded
    pass_bytes: int = 0  # measured: what its largest pass takes besides
    load_s: float = 0.0
    follows: Mapping[str, tuple[Follows | None, ...]] = field(default_factory=dict)
    """By output: what each of its axes follows. Only for models that are padded (``pad``)."""


class LoadedModel(Protocol):
    """One version, ready to compute on this device."""

    @property
    def version_id(self) -> str: ...

    @property
    def signature(self) -> Signature:
        """Completed: outputs and the kind of scores are known."""
        ...

    @property
    def plan(self) -> Plan: ...

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; row ``i`` of each belongs to row ``i`` of the inputs.

        Several threads may call it at once. Raises ``DeviceOutOfMemory``; whatever else it raises
        is for the caller to blame on a row.
        """
        ...

    def close(self) -> None:
        """Free what it holds on the device."""
        ...


class Runtime(Protocol):
    """One device of this process."""

    @property
    def device(self) -> str:
        """Which one: ``cpu``, ``gpu:0``."""
        ...

    @property
    def device_kind(self) -> str:
        """What it is, for figures that are kept: ``cpu``, ``NVIDIA H200``."""
        ...

    def memory_budget_bytes(self) -> int:
        """How much of the device's memory models may hold together."""
        ...

    def load(self, version: ModelVersion, artifact: Path) -> LoadedModel:
        """Load and warm; the caller has checked the artifact's digest. Raises ``ModelBroken``."""
        ...
