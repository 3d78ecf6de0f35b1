"""Models of one matrix: what they answer is worked out in a line of numpy, so that versions differ
by what a test wrote into them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from storage.records.models import ModelVersion
from storage.records.push_options import InputForm, ScoreKind
from storage.records.signatures import InputSpec, OutputSpec, Signature
from tests.support.household import Household
from tests.support.numpy_runtime import NumpyRuntime
from workers.inference.ports import Array, LoadedModel, Plan

WIDTH = 4


def signature(outputs: int, labels: Sequence[str] = ()) -> Signature:
    """Four float32 numbers in; scores of the labels, or so many numbers, out."""
    return Signature(
        form=InputForm.TENSOR,
        inputs=(InputSpec("x", "float32", (WIDTH,)),),
        outputs=(OutputSpec("y", "float32", (outputs,)),),
        labels=tuple(labels),
        top_k=min(3, len(labels)),
        scores=ScoreKind.PROBABILITIES if labels else ScoreKind.AUTO,
        label_output="y" if labels else None,
    )


def push(house: Household, name: str, matrix: Array, labels: Sequence[str] = ()) -> ModelVersion:
    """A version of this matrix, (4, outputs)."""
    file = io.BytesIO()
    np.save(file, matrix.astype(np.float32))
    return house.push(name, file.getvalue(), like=signature(matrix.shape[1], labels))


def answers(matrix: Array, rows: Array, *, labelled: bool) -> Array:
    """What a version of this matrix gives for these rows."""
    made = rows.astype(np.float32) @ matrix.astype(np.float32)
    if not labelled:
        return np.asarray(made)
    powers = np.exp(made - made.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


class LinearRuntime(NumpyRuntime):
    """Loads what ``push`` pushed."""

    def load(self, version: ModelVersion, artifact: Path) -> LoadedModel:
        return _Linear(version, np.load(io.BytesIO(artifact.read_bytes())))


class _Linear:
    def __init__(self, version: ModelVersion, matrix: Array) -> None:
        self.version_id = version.id
        self.signature = Signature.from_json(version.signature)
        self.plan = Plan((1, 8, 64, 256), self.signature.serving)
        self._matrix = matrix

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        labelled = bool(self.signature.labels)
        return {"y": answers(self._matrix, inputs["x"], labelled=labelled)}

    def close(self) -> None:
        pass
