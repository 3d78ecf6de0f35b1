"""Do these serving knobs fit this model? Asked at push, and again when a worker has loaded it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage.records.errors import InvalidInput
from storage.records.image_spec import ImageSpec
from storage.records.option_values import refuse
from storage.records.serving import Cost, Pad, Serving

if TYPE_CHECKING:
    from storage.records.signatures import InputSpec, Shape

_INTEGERS = {"int": 1, "uint": 0}  # whether one bit is the sign


def check_serving(
    serving: Serving, inputs: Sequence[InputSpec], image: ImageSpec | None, field: str
) -> None:
    """Refuse what could have no effect, or none that is meant."""
    specs = {spec.name: spec for spec in inputs}
    masks: dict[str, str] = {}
    for name, pad in serving.pad.items():
        where = f"{field}.pad.{name[:80]}"
        if name not in specs:
            raise refuse(f"the model has no input {name[:80]!r}; it has {', '.join(specs)}", where)
        _check_pad(specs[name], pad, image, where)
        if pad.mask is None:
            continue
        if pad.mask in masks or pad.mask in serving.pad:
            raise refuse(f"{pad.mask!r} cannot be the mask of {name!r} as well", f"{where}.mask")
        if pad.mask not in specs:
            raise refuse(f"the model has no input {pad.mask[:80]!r}", f"{where}.mask")
        masks[pad.mask] = name
        _check_mask(specs[name], specs[pad.mask], f"{where}.mask")
    if serving.xla and any(spec.dtype == "string" for spec in inputs):
        raise refuse("XLA compiles no strings: the model takes some", f"{field}.xla")
    asked = [spec for spec in inputs if spec.name not in masks]
    _check_cost(serving, asked, image, field)


def fill_of(pad: Pad, dtype: str) -> float | str:
    """What fills an input of this type."""
    if pad.value is None:
        return "" if dtype == "string" else 0
    return pad.value


def _check_pad(spec: InputSpec, pad: Pad, image: ImageSpec | None, where: str) -> None:
    if None not in spec.shape:
        raise refuse(
            f"input {spec.name!r} has no axis of any length: its shape is {list(spec.shape)}", where
        )
    if image is not None and image.height is not None:
        raise refuse("pictures are brought to one size by options.image: nothing to pad", where)
    value = fill_of(pad, spec.dtype)
    if isinstance(value, str) != (spec.dtype == "string") or not _holds(spec.dtype, value):
        raise refuse(f"{value!r} is no value of type {spec.dtype}", f"{where}.value")


def _holds(dtype: str, value: float | str) -> bool:
    if isinstance(value, str) or dtype.startswith("float"):
        return True
    if dtype == "bool":
        return value in (0, 1)
    kind = dtype.rstrip("0123456789")
    bits = int(dtype[len(kind) :])
    low = -(1 << (bits - 1)) if kind == "int" else 0
    return float(value).is_integer() and low <= value < 1 << (bits - _INTEGERS[kind])


def _check_mask(padded: InputSpec, mask: InputSpec, where: str) -> None:
    free = tuple(axis for axis in padded.shape if axis is None)
    if tuple(axis for axis in mask.shape if axis != 1) != free:
        raise refuse(
            f"a mask of {padded.name!r} has an axis for each of its axes of any length,"
            f" which are {len(free)}; the shape of {mask.name!r} is {list(mask.shape)}",
            where,
        )
    if mask.dtype == "string":
        raise refuse(f"{mask.name!r} holds strings; a mask holds 0 and 1", where)


def _check_cost(
    serving: Serving, asked: Sequence[InputSpec], image: ImageSpec | None, field: str
) -> None:
    free = max((spec.shape.count(None) for spec in asked), default=0)
    if serving.cost is Cost.TOKENS and not free:
        raise refuse(
            "no input has an axis of any length: every row costs the same", f"{field}.cost"
        )
    if serving.cost is Cost.PIXELS and image is None and free < 2:
        raise refuse("the model takes no pictures", f"{field}.cost")
    if serving.max_cost is None:
        return
    padded = [spec for spec in asked if spec.name in serving.pad]
    costs = [largest_cost(spec.shape, serving.pad[spec.name]) for spec in padded]
    if image is not None and image.height is not None and image.width is not None:
        costs.append(float(image.height * image.width))
    dearest = max(costs, default=1.0)
    if serving.cost is not Cost.ROWS and serving.max_cost < dearest:
        raise refuse(
            f"one item of the largest size costs {dearest:g}: it would never run",
            f"{field}.max_cost",
        )
    if serving.cost is Cost.ROWS and serving.max_cost < 1:
        raise refuse("one row costs 1: it would never run", f"{field}.max_cost")


def largest_cost(shape: Shape, pad: Pad) -> float:
    """What one item costs whose every axis has the largest allowed size."""
    return float(math.prod(pad.sizes[-1] for axis in shape if axis is None))


def check_lengths(spec: InputSpec, pad: Pad, shape: tuple[int, ...], where: str) -> None:
    """Refuse an item that fits into none of the allowed sizes."""
    longest = max((have for axis, have in zip(spec.shape, shape, strict=True) if axis is None))
    if longest > pad.sizes[-1]:
        raise InvalidInput(
            f"{spec.name!r} is {longest} long; this model is served up to {pad.sizes[-1]}",
            code="too_long",
            field=where,
        )
