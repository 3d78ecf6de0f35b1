"""Numbers into the model's type, with the checks of the online decoder in the order it has them.

Each check goes over all parts of an input before the next one begins, as online one row's numbers
are one array: so a row that is wrong twice gets the same reason here and there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workers.bulk.decode.verdicts import Indices, Mask, Verdicts
from workers.inference.ports import Array

_EXACT = 2.0**53  # every whole float up to here is one integer's and no other's


@dataclass(frozen=True, slots=True)
class Part:
    """Some of an input's numbers, of all rows, in any shape."""

    values: Array
    row_of: Callable[[Indices], Indices]  # by index into the flat values
    label: str  # how a message names it
    holes: Mask | None = None  # NaN on purpose


def by_rows(width: int) -> Callable[[Indices], Indices]:
    """``row_of`` where every row has so many."""
    return lambda places: places // width


def by_bounds(bounds: Indices) -> Callable[[Indices], Indices]:
    """``row_of`` where row i has those from ``bounds[i]`` to ``bounds[i + 1]``."""
    return lambda places: np.searchsorted(bounds, places, side="right") - 1


def fit_parts(dtype: str, parts: Sequence[Part], verdicts: Verdicts) -> list[Array]:
    """Each part in the model's type. What is in the place of a wrong row means nothing."""
    want = np.dtype(dtype)
    for part in parts:
        if (want.kind == "b") != (part.values.dtype.kind == "b"):
            have = "true and false" if part.values.dtype.kind == "b" else part.values.dtype.name
            message = f"{part.label}: {have} where the model takes {dtype}"
            verdicts.refuse_rows(None, "wrong_dtype", message)
    if want.kind == "b":
        return [part.values.astype(want, copy=False) for part in parts]
    if want.kind == "f":
        return _to_floats(want, parts, verdicts)
    return _to_integers(want, parts, verdicts)


def whole(values: Array) -> Mask:
    """Which floats stand for one integer and no other."""
    values = _comparable(values)
    mask: Mask = (np.floor(values) == values) & (np.abs(values) <= _EXACT)
    return mask


def _to_floats(want: np.dtype[Any], parts: Sequence[Part], verdicts: Verdicts) -> list[Array]:
    fitted = []
    large: list[tuple[Part, Mask]] = []
    for part in parts:
        with np.errstate(over="ignore", invalid="ignore"):
            values = part.values.astype(want, copy=False)
        fitted.append(values)
        if _always_finite(part.values.dtype, want):
            continue
        finite = np.isfinite(values)
        if finite.all():
            continue
        wrong = ~finite if part.holes is None else ~finite & ~part.holes
        if part.values.dtype.kind == "f":
            endless = wrong & ~np.isfinite(part.values)
            _blame(
                part, endless, verdicts, "not_finite", lambda _: "NaN and infinity are no numbers"
            )
            wrong &= ~endless
        large.append((part, wrong))
    for part, wrong in large:
        _blame(part, wrong, verdicts, "out_of_range", lambda v: f"{v:g} does not fit {want.name}")
    return fitted


def _always_finite(have: np.dtype[Any], want: np.dtype[Any]) -> bool:
    return have.kind != "f" and (want.itemsize > 2 or have.itemsize == 1)


def _to_integers(want: np.dtype[Any], parts: Sequence[Part], verdicts: Verdicts) -> list[Array]:
    parts = [replace(part, values=_comparable(part.values)) for part in parts]
    floats = [part for part in parts if part.values.dtype.kind == "f"]
    for part in floats:
        finite = np.isfinite(part.values)
        if not finite.all():
            _blame(
                part, ~finite, verdicts, "not_finite", lambda _: "NaN and infinity are no numbers"
            )
    for part in floats:
        beyond = (np.abs(part.values) >= 2.0**63) & np.isfinite(part.values)
        _blame(part, beyond, verdicts, "out_of_range", lambda v: f"{v:g} does not fit {want.name}")
    said = f"where the model takes {want.name}"
    for part in floats:
        _blame(part, ~whole(part.values), verdicts, "wrong_dtype", lambda v: f"{v!s} {said}")
    return [_in_range(want, part, verdicts) for part in parts]


def _comparable(values: Array) -> Array:
    """float16 has no number as large as those it is compared with."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _in_range(want: np.dtype[Any], part: Part, verdicts: Verdicts) -> Array:
    values = part.values
    if values.dtype.kind == "b" or np.can_cast(values.dtype, want) or not values.size:
        return values.astype(want, copy=False)
    if values.dtype.kind == "f":
        values = np.where(np.abs(values) <= _EXACT, values, 0).astype(np.int64)
    limits = np.iinfo(want)
    if int(values.min()) < limits.min or int(values.max()) > limits.max:
        wrong = (values < limits.min) | (values > limits.max)
        said = f"does not fit {want.name} ({limits.min} to {limits.max})"
        integers = Part(values, part.row_of, part.label)
        _blame(integers, wrong, verdicts, "out_of_range", lambda v: f"{v} {said}")
    return values.astype(want)


def _blame(
    part: Part, wrong: Mask, verdicts: Verdicts, code: str, say: Callable[[Any], str]
) -> None:
    places = np.flatnonzero(wrong)
    if len(places):
        flat = part.values.reshape(-1)
        verdicts.refuse_each(
            part.row_of(places), code, lambda first: f"{part.label}: {say(flat[places[first]])}"
        )
