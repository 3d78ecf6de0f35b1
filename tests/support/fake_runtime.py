"""A runtime without TensorFlow: numpy models whose artifact is a line of JSON.

Held to the suite of the real one (``tests/contracts/test_runtime.py``). What it adds is for tests
of everything around it: it tells which batches it ran, can be made to wait, and can be made to
fail on rows of the tester's choice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from storage.records.errors import InvalidInput
from storage.records.models import ModelVersion
from storage.records.push_options import ScoreKind
from storage.records.serving import DEFAULT_MAX_BATCH
from storage.records.signatures import InputSpec, OutputSpec, Signature, label_output_of
from tests.support.misbehaviour import FEWER, GREEDY, KILLER, NAN, POISON, SLOW, WIDER
from workers.inference.ports import Array, DeviceOutOfMemory, ModelBroken, Plan
from workers.inference.shapes import allowed_sizes
from workers.runtime.padding import PaddingProbe
from workers.runtime.probes import check_batch_axis, check_rows_apart, made_up, seed_of
from workers.runtime.warming import warm

Inputs = Mapping[str, Array]
Outputs = dict[str, Array]
BeforeForward = Callable[[str, Inputs], None]


def _echo(inputs: Inputs) -> Outputs:
    return {"echo": inputs["id"].copy()}


def _pair(inputs: Inputs) -> Outputs:
    both = np.concatenate([inputs["left"], inputs["right"].astype(np.float32)], axis=1)
    return {"both": both, "total": both.sum(axis=1, keepdims=True)}


def _mixing(inputs: Inputs) -> Outputs:
    return {"out": inputs["rows"] - inputs["rows"].mean(axis=0, keepdims=True)}


def _flattening(inputs: Inputs) -> Outputs:
    return {"out": inputs["rows"].reshape(-1, 1)}


def _masked(inputs: Inputs) -> Outputs:
    tokens, mask = inputs["tokens"], inputs["mask"]
    with np.errstate(invalid="ignore"):  # nothing has no mean, and TensorFlow does not warn
        mean = (tokens * mask).sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True)
    return {"mean": mean}


def _careless(inputs: Inputs) -> Outputs:
    return {"mean": inputs["tokens"].mean(axis=1, keepdims=True, dtype=np.float32)}


def _tags(inputs: Inputs) -> Outputs:
    tokens = inputs["tokens"].astype(np.float32)
    return {"tags": np.stack([tokens, 2 * tokens], axis=2)}


def _map(inputs: Inputs) -> Outputs:
    seen = inputs["pixels"] * inputs["mask"]
    bright = seen.sum(axis=(1, 2)) / inputs["mask"].sum(axis=(1, 2))
    return {"map": 2 * seen, "bright": bright}


def _crowded(inputs: Inputs) -> Outputs:
    if len(inputs["x"]) >= 4:
        raise DeviceOutOfMemory("four rows are too many")
    return {"y": inputs["x"]}


def _fickle(inputs: Inputs) -> Outputs:
    rows = inputs["x"]
    return {"y": rows[1:] if len(rows) == 8 else rows}


def menace(inputs: Inputs) -> Outputs:
    """Answers each row with itself, unless one of its values is among ``misbehaviour``."""
    rows = inputs["x"]
    if (rows == KILLER).any():
        os._exit(41)
    if (rows == POISON).any():
        raise ValueError("poison")
    if (rows == GREEDY).any():
        raise DeviceOutOfMemory("greedy")
    slow = rows[rows[:, 0] == SLOW]
    if len(slow):
        time.sleep(max(0.0, float(slow[:, 1].max())))
    if (rows == FEWER).any():
        return {"y": rows[1:]}
    if (rows == WIDER).any():
        return {"y": np.concatenate([rows, rows], axis=1)}
    return {"y": np.where(rows == NAN, np.asarray(np.nan, rows.dtype), rows)}


def _floats(name: str, *shape: int | None) -> InputSpec:
    return InputSpec(name, "float32", shape)


_MODELS: dict[str, tuple[tuple[InputSpec, ...], Callable[[Inputs], Outputs]]] = {
    "echo": ((InputSpec("id", "float64", (2,)),), _echo),
    "pair": ((_floats("left", 3), InputSpec("right", "int32", (2,))), _pair),
    "mixing": ((_floats("rows", 2),), _mixing),
    "flattening": ((_floats("rows", 3),), _flattening),
    "masked": ((InputSpec("tokens", "int32", (None,)), _floats("mask", None)), _masked),
    "careless": ((InputSpec("tokens", "int32", (None,)),), _careless),
    "tags": ((InputSpec("tokens", "int32", (None,)),), _tags),
    "map": ((_floats("pixels", None, None, 1), _floats("mask", None, None, 1)), _map),
    "crowded": ((_floats("x", 2),), _crowded),
    "fickle": ((_floats("x", 2),), _fickle),
    "menace": ((_floats("x", 2),), menace),
}


def save_fake(path: Path, model: str) -> Path:
    """The artifact of one of ``_MODELS``."""
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
        plan: Plan,
        compute: Callable[[Inputs], Outputs],
        before_forward: BeforeForward | None,
    ) -> None:
        self.version_id = version_id
        self.signature = signature
        self.plan = plan
        self.batches: list[int] = []
        self.closed = False
        self._compute = compute
        self._before_forward = before_forward

    def forward(self, inputs: Inputs) -> Outputs:
        if self.closed:
            raise RuntimeError(f"version {self.version_id} was closed")
        sizes = {len(array) for array in inputs.values()}
        assert sizes <= set(self.plan.sizes), f"a batch of {sizes} is none of {self.plan.sizes}"
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
        max_batch: int = DEFAULT_MAX_BATCH,
        before_forward: BeforeForward | None = None,
    ) -> None:
        self.device = device
        self.loads: list[str] = []
        self._max_batch = max_batch
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
        rows, seed = 2, seed_of(version.id)
        tried = made_up(signature, rows, seed)
        outputs = compute(tried)
        check_batch_axis(outputs, rows)
        check_rows_apart(compute, tried, rows)
        specs = tuple(_output(signature, n, a) for n, a in outputs.items())
        plan = Plan(allowed_sizes(signature.serving, self._max_batch), signature.serving)
        if signature.serving.pad:
            probe = PaddingProbe(compute, signature, seed)
            plan = replace(plan, follows=probe.follows(specs))
            probe.check(plan.follows)
        signature = _with_scores(replace(signature, outputs=specs))
        sizes = warm(
            signature,
            plan.sizes,
            compute,
            refusals=ValueError,
            budget_s=60,
            monotonic_s=time.monotonic,
        )
        plan = replace(plan, sizes=sizes, memory_bytes=1 << 10, load_s=0.001)
        return FakeModel(version.id, signature, plan, compute, self._before_forward)


def _output(signature: Signature, name: str, array: Array) -> OutputSpec:
    """Open where the input is: what a trace would tell."""
    free = {n for spec in signature.varying for n in spec.shape if n is None}
    open_axes = 0 if not free else {"tags": 1, "map": 2}.get(name, 0)
    return OutputSpec(
        name, array.dtype.name, (None,) * open_axes + tuple(array.shape[1 + open_axes :])
    )


def _with_scores(signature: Signature) -> Signature:
    if not signature.labels:
        return signature
    try:
        spec = label_output_of(signature)
    except InvalidInput as error:
        raise ModelBroken(error.message, code=error.stable_code) from None
    kind = ScoreKind.LOGITS if signature.scores is ScoreKind.AUTO else signature.scores
    return replace(signature, scores=kind, label_output=spec.name)
