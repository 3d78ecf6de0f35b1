"""What is tried before a version is called ready: batches of made-up rows through the model.

They warm it, tell the outputs' shapes, and find the models whose answers cannot be trusted in a
batch: an output with another number of rows, or a row whose answer depends on its neighbours.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from storage.records.image_spec import ImageSpec, Layout
from storage.records.signatures import InputSpec, OutputSpec, Signature
from workers.inference.ports import Array, ModelBroken, Row
from workers.inference.shapes import Lengths, free_axes, shape_of, stack

_FREE_AXIS = 32  # what an axis of any length is tried with
_WORDS = ("one", "two words", "a third, longer text", "")

Forward = Callable[[Mapping[str, Array]], dict[str, Array]]


def made_up(signature: Signature, rows: int, seed: int) -> dict[str, Array]:
    """A batch of plausible rows, all different, the same for the same seed."""
    given = made_up_rows(signature, [usual_lengths(signature)] * rows, seed)
    return stack(signature, given, shape_of(signature, given), rows)


def made_up_rows(
    signature: Signature, lengths: Sequence[Mapping[str, Lengths]], seed: int
) -> list[Row]:
    """One plausible row for each set of lengths that its axes of any length shall have."""
    chance = np.random.default_rng(seed)
    return [
        {
            spec.name: _values(spec.dtype, _shape(spec, signature.image, one), chance)
            for spec in signature.asked
        }
        for one in lengths
    ]


def usual_lengths(signature: Signature, step: int = 0) -> dict[str, Lengths]:
    """The allowed lengths at this place of their order; where nothing is declared, any."""
    found: dict[str, Lengths] = {}
    for spec in signature.varying:
        pad = signature.serving.pad.get(spec.name)
        length = pad.sizes[min(step, len(pad.sizes) - 1)] if pad else _FREE_AXIS
        found[spec.name] = (length,) * len(free_axes(spec))
    return found


def _values(dtype: str, shape: tuple[int, ...], chance: np.random.Generator) -> Array:
    if dtype == "string":
        words = np.empty(shape, dtype=object)
        words[...] = np.array(_WORDS, dtype=object)[chance.integers(0, len(_WORDS), size=shape)]
        return words
    if dtype == "bool":
        return np.asarray(chance.random(shape) < 0.5)
    if dtype.startswith("float"):
        return np.asarray(chance.random(shape)).astype(dtype)
    # 0 and 1 are the only integers that even a small vocabulary has.
    return np.asarray(chance.integers(0, 2, size=shape)).astype(dtype)


def _shape(
    spec: InputSpec, image: ImageSpec | None, lengths: Mapping[str, Lengths]
) -> tuple[int, ...]:
    axes = list(spec.shape)
    if image is not None and image.height is not None:
        first = 1 if image.layout is Layout.FIRST else 0
        axes[first : first + 2] = image.height, image.width
    closed = iter(lengths.get(spec.name, ()))
    return tuple(next(closed, _FREE_AXIS) if axis is None else axis for axis in axes)


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
        if not alike(array, turned[name][::-1]) or not alike(array[:1], alone[name][:1]):
            raise ModelBroken(
                f"output {name!r} of one row depends on the other rows of its batch",
                code="rows_not_independent",
            )


def alike(left: Array, right: Array, tolerance: float = 1e-2) -> bool:
    """Whether two answers to the same question are the same but for rounding.

    Another place in the batch may round differently: half-precision models by about 1e-3.
    """
    if left.shape != right.shape:
        return False
    if left.dtype.kind not in "fiu":
        return bool((left == right).all())
    a, b = left.astype(np.float64), right.astype(np.float64)
    if not (np.isfinite(a) == np.isfinite(b)).all():
        return False
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    largest = float(np.abs(a).max(initial=0.0))
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * largest + 1e-6))


def with_lengths(traced: OutputSpec, array: Array) -> OutputSpec:
    """The axes a trace left open, closed by what came out."""
    return OutputSpec(traced.name, traced.dtype, array.shape[1:])


def seed_of(version_id: str) -> int:
    """The same made-up rows at every load of a version."""
    return zlib.crc32(version_id.encode())
