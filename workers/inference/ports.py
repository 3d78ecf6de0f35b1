"""What inference asks of a runtime. The only TensorFlow is behind these two protocols.

``forward`` knows nothing of jobs: rows in, rows out, in the same order. Whoever calls it pads to
one of ``batch_sizes``, slices the padding off and counts the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from storage.records.errors import ForebayError
from storage.records.models import ModelVersion
from storage.records.signatures import Signature

Array: TypeAlias = npt.NDArray[Any]
Row: TypeAlias = dict[str, Array]
"""One item's tensors by input name, without the batch axis."""


class ModelBroken(ForebayError):
    """The model itself cannot be served: no retry and no other worker can help.

    Anything else that ``load`` or ``forward`` raises is trouble of the infrastructure.
    """

    code: ClassVar[str] = "model_broken"
    http_status: ClassVar[int] = 422


class LoadedModel(Protocol):
    """One version, ready to compute on this device."""

    @property
    def version_id(self) -> str: ...

    @property
    def signature(self) -> Signature:
        """Completed: outputs and the kind of scores are known."""
        ...

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Ascending; ``forward`` takes batches of exactly these sizes."""
        ...

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; row ``i`` of each belongs to row ``i`` of the inputs."""
        ...

    def close(self) -> None:
        """Free what it holds on the device."""
        ...


class Runtime(Protocol):
    """One device of this process."""

    @property
    def device(self) -> str: ...

    def load(self, version: ModelVersion, artifact: Path) -> LoadedModel:
        """Load and warm; the caller has checked the artifact's digest. Raises ``ModelBroken``."""
        ...


def stack_rows(rows: list[Row], batch_size: int) -> dict[str, Array]:
    """Rows of equal shapes as one batch, padded to ``batch_size`` by repeating the first row.

    Padding repeats real data, so that it cannot put a NaN or an unknown word into the model.
    """
    padded = rows + [rows[0]] * (batch_size - len(rows))
    return {name: np.stack([row[name] for row in padded]) for name in rows[0]}


def shapes_of(row: Row) -> tuple[tuple[int, ...], ...]:
    """What rows of one batch must share; differs only for models with axes of any length."""
    return tuple(array.shape for array in row.values())
