"""A runtime without TensorFlow: numpy models whose artifact is a line of JSON.

Held to the suite of the real one (``tests/contracts/test_runtime.py``). What it adds is for tests
of everything around it: it tells which batches it ran, can be made to wait, and can be made to
fail on rows of the tester's choice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from storage.records.errors import InvalidInput
from storage.records.models import ModelVersion
from storage.records.push_options import ScoreKind
from storage.records.signatures import InputSpec, OutputSpec, Signature, label_output_of
from workers.inference.ports import Array, ModelBroken, Plan
from workers.runtime.probes import check_batch_axis, check_rows_apart, made_up, seed_of

Outputs = dict[str, Array]
BeforeForward = Callable[[str, Mapping[str, Array]], None]


def _echo(inputs: Mapping[str, Array]) -> Outputs:
    return {"echo": inputs["id"].copy()}


def _pair(inputs: Mapping[str, Array]) -> Outputs:
    both = np.concatenate([inputs["left"], inputs["right"].astype(np.float32)], axis=1)
    return {"both": both, "total": both.sum(axis=1, keepdims=True)}


def _mixing(inputs: Mapping[str, Array]) -> Outputs:
    return {"out": inputs["rows"] - inputs["rows"].mean(axis=0, keepdims=True)}


def _flattening(inputs: Mapping[str, Array]) -> Outputs:
    return {"out": inputs["rows"].reshape(-1, 1)}


_MODELS: dict[str, tuple[tuple[InputSpec, ...], Callable[[Mapping[str, Array]], Outputs]]] = {
    "echo": ((InputSpec("id", "float64", (2,)),), _echo),
    "pair": ((InputSpec("left", "float32", (3,)), InputSpec("right", "int32", (2,))), _pair),
    "mixing": ((InputSpec("rows", "float32", (2,)),), _mixing),
    "flattening": ((InputSpec("rows", "float32", (3,)),), _flattening),
}


def save_fake(path: Path, model: str) -> Path:
    """The artifact of one of ``echo``, ``pair``, ``mixing``, ``flattening``."""
    path.write_text(json.dumps({"model": model}))
    return path


def fake_inputs(model: str) -> tuple[InputSpec, ...]:
    """What the model takes."""
    return _MODELS[model][0]


class FakeModel:
    """One loaded version. ``batches`` lists the sizes it ran, the newest last."""

    def __init__(
        self,
        version_id: str,
        signature: Signature,
        batch_sizes: tuple[int, ...],
        compute: Callable[[Mapping[str, Array]], Outputs],
        before_forward: BeforeForward | None,
    ) -> None:
        self.version_id = version_id
        self.signature = signature
        self.plan = Plan(batch_sizes, signature.serving)
        self.batch_sizes = batch_sizes
        self.batches: list[int] = []
        self.closed = False
        self._compute = compute
        self._before_forward = before_forward

    def forward(self, inputs: Mapping[str, Array]) -> Outputs:
        if self.closed:
            raise RuntimeError(f"version {self.version_id} was closed")
        sizes = {len(array) for array in inputs.values()}
        assert sizes <= set(self.batch_sizes), f"a batch of {sizes} is none of {self.batch_sizes}"
        if self._before_forward is not None:
            self._before_forward(self.version_id, inputs)
        self.batches.extend(sizes)
        return self._compute({spec.name: inputs[spec.name] for spec in self.signature.inputs})

    def close(self) -> None:
        self.closed = True


class FakeRuntime:
    """``before_forward(version_id, inputs)`` runs before each pass: it may wait or raise."""

    def __init__(
        self,
        device: str = "cpu",
        *,
        max_batch: int = 128,
        before_forward: BeforeForward | None = None,
    ) -> None:
        self.device = device
        self.loads: list[str] = []
        self._batch_sizes = tuple(1 << p for p in range(max_batch.bit_length()))
        self._before_forward = before_forward

    @property
    def device_kind(self) -> str:
        return self.device

    def memory_budget_bytes(self) -> int:
        return 1 << 30

    def load(self, version: ModelVersion, artifact: Path) -> FakeModel:
        self.loads.append(version.id)
        try:
            inputs, compute = _MODELS[json.loads(artifact.read_bytes())["model"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelBroken(f"no fake model: {error}") from None
        signature = Signature.from_json(version.signature)
        if signature.inputs != inputs:
            raise ModelBroken("the inputs are not what was pushed", code="signature_mismatch")
        rows = min(4, self._batch_sizes[-1])
        tried = made_up(inputs, rows, signature.image, seed_of(version.id))
        outputs = compute(tried)
        check_batch_axis(outputs, rows)
        check_rows_apart(compute, tried, rows)
        specs = tuple(OutputSpec(n, a.dtype.name, a.shape[1:]) for n, a in outputs.items())
        signature = replace(signature, outputs=specs)
        if signature.labels:
            try:
                spec = label_output_of(signature)
            except InvalidInput as error:
                raise ModelBroken(error.message, code=error.stable_code) from None
            kind = ScoreKind.LOGITS if signature.scores is ScoreKind.AUTO else signature.scores
            signature = replace(signature, scores=kind, label_output=spec.name)
        return FakeModel(version.id, signature, self._batch_sizes, compute, self._before_forward)
