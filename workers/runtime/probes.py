"""What is tried before a version is called ready: batches of made-up rows through the model.

They warm it, tell the outputs' shapes, and find the models whose answers cannot be trusted in a
batch: an output with another number of rows, or a row whose answer depends on its neighbours.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from storage.records.image_spec import ImageSpec, Layout
from storage.records.signatures import InputSpec, OutputSpec
from workers.inference.ports import Array, ModelBroken

_FREE_AXIS = 32  # what an axis of any length is tried with
_WORDS = ("one", "two words", "a third, longer text", "")

Forward = Callable[[Mapping[str, Array]], dict[str, Array]]


def made_up(
    inputs: Sequence[InputSpec], rows: int, image: ImageSpec | None, seed: int
) -> dict[str, Array]:
    """Plausible rows, all different, the same for the same seed."""
    chance = np.random.default_rng(seed)
    return {spec.name: _values(spec, rows, image, chance) for spec in inputs}


def _values(
    spec: InputSpec, rows: int, image: ImageSpec | None, chance: np.random.Generator
) -> Array:
    shape = (rows, *_axes(spec, image))
    if spec.dtype == "string":
        picked = chance.integers(0, len(_WORDS), size=shape)
        return np.array(_WORDS, dtype=object)[picked]
    if spec.dtype == "bool":
        return chance.random(shape) < 0.5
    if spec.dtype.startswith("float"):
        return chance.random(shape).astype(spec.dtype)
    # 0 and 1 are the only integers that even a small vocabulary has.
    return chance.integers(0, 2, size=shape).astype(spec.dtype)


def _axes(spec: InputSpec, image: ImageSpec | None) -> tuple[int, ...]:
    if image is not None:
        sides: tuple[int | None, int | None] = (image.height, image.width)
        first = 1 if image.layout is Layout.FIRST else 0
        sized = list(spec.shape)
        sized[first : first + 2] = sides
        return tuple(axis or _FREE_AXIS for axis in sized)
    return tuple(axis or _FREE_AXIS for axis in spec.shape)


def check_batch_axis(outputs: Mapping[str, Array], rows: int) -> None:
    """Every output has one row per input row."""
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise ModelBroken(
                f"output {name!r} has the shape {list(array.shape)} for a batch of {rows}: it"
                " must give one row for each",
                code="wrong_batch_axis",
            )


def check_rows_apart(forward: Forward, inputs: Mapping[str, Array], rows: int) -> None:
    """Turning the batch round must turn the answers round, and change nothing else."""
    straight = forward(inputs)
    turned = forward({name: np.ascontiguousarray(a[::-1]) for name, a in inputs.items()})
    alone = forward({name: np.repeat(a[:1], rows, axis=0) for name, a in inputs.items()})
    for name, array in straight.items():
        if not _alike(array, turned[name][::-1]) or not _alike(array[:1], alone[name][:1]):
            raise ModelBroken(
                f"output {name!r} of one row depends on the other rows of its batch",
                code="rows_not_independent",
            )


def _alike(left: Array, right: Array) -> bool:
    if left.dtype.kind not in "fiu":
        return bool((left == right).all())
    a, b = left.astype(np.float64), right.astype(np.float64)
    if not (np.isfinite(a) == np.isfinite(b)).all():
        return False
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    # Another place in the batch may round differently: half-precision models by about 1e-3.
    return bool(np.allclose(a, b, rtol=1e-2, atol=1e-2 * float(np.abs(a).max(initial=0.0)) + 1e-6))


def with_lengths(traced: OutputSpec, array: Array) -> OutputSpec:
    """The axes a trace left open, closed by what came out."""
    return OutputSpec(traced.name, traced.dtype, array.shape[1:])


def seed_of(version_id: str) -> int:
    """The same made-up rows at every load of a version."""
    return zlib.crc32(version_id.encode())
