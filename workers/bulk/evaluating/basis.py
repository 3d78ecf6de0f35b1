"""What of two versions' answers can be compared: labels, or numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.records.errors import InvalidInput
from storage.records.signatures import NUMBER_TYPES, OutputSpec, Signature


@dataclass(frozen=True, slots=True)
class Basis:
    """Labels as text, or pairs of outputs by the names that they have before and after."""

    labels: bool
    outputs: tuple[tuple[str, str], ...] = ()


def basis_of(before: Signature, after: Signature) -> Basis:
    """Labels where both have them, and one at least in common. Else the outputs of numbers of
    fixed and equal sizes: by name, or the only one of each. ``InvalidInput`` (``not_comparable``)
    where nothing is left."""
    if before.labels and after.labels:
        if set(before.labels).isdisjoint(after.labels):
            raise not_comparable(
                f"the versions have no label in common: {_listed(before.labels)} before, and"
                f" {_listed(after.labels)} now"
            )
        return Basis(labels=True)
    was, now = _numbers(before), _numbers(after)
    pairs = tuple((name, name) for name in was if was[name] == now.get(name))
    if len(was) == len(now) == 1 and set(was.values()) == set(now.values()):
        pairs = ((next(iter(was)), next(iter(now))),)
    if not pairs:
        only = " (only one of the versions has labels)" if before.labels or after.labels else ""
        raise not_comparable(
            f"the versions have no output of numbers in common{only}: {_told(before.outputs)}"
            f" before, and {_told(after.outputs)} now"
        )
    return Basis(labels=False, outputs=pairs)


def not_comparable(says: str) -> InvalidInput:
    """The error of what cannot be compared; it says what to do."""
    return InvalidInput(
        f"{says}; compare with a bulk job, an evaluation or a group that fits, or leave against"
        " out",
        code="not_comparable",
        field="evaluation.against",
    )


def _numbers(signature: Signature) -> Mapping[str, int]:
    """How many numbers each output has, of those that have as many in every row."""
    return {
        spec.name: math.prod(axis or 0 for axis in spec.shape)
        for spec in signature.outputs
        if spec.dtype in NUMBER_TYPES and None not in spec.shape and 0 not in spec.shape
    }


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")


def _told(specs: Sequence[OutputSpec]) -> str:
    shown = (f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in specs)
    return ", ".join(shown)[:200] or "none"
