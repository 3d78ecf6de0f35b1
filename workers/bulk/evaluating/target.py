"""What of a model's answers is held against the labels: one of its labels, or numbers.

==============================  ======================  ===========================================
the model                       the label column        then
==============================  ======================  ===========================================
has labels                      anything                classes: its labels
one output of several numbers   one value               classes: ``"0"`` … by the outputs' places
one output of several numbers   lists of as many        numbers
one output of one number        integers or booleans,   classes: 0 and 1 (``false``, ``true``)
that is a probability
one output of one number        anything else           numbers
==============================  ======================  ===========================================

A single output is a probability where the signature says so (``scores: probabilities`` or
``logits``); of a model with labels that is found out when it is loaded, of others a pusher says it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyarrow as pa

from storage.records.errors import InvalidInput
from storage.records.push_options import ScoreKind
from storage.records.signatures import NUMBER_TYPES, OutputSpec, Signature, label_output_of

CLASSES, NUMBERS = "classes", "numbers"


@dataclass(frozen=True, slots=True)
class Target:
    """``labels`` of a task of classes; ``width``: the output's numbers a row."""

    task: str
    output: str
    width: int
    labels: tuple[str, ...] = ()
    scores: ScoreKind = ScoreKind.AUTO


def target_of(signature: Signature, label: pa.DataType) -> Target:
    """For a label column of this type. ``InvalidInput`` (``labels_mismatch``)."""
    if signature.labels:
        spec = label_output_of(signature)
        width = math.prod(axis or 1 for axis in spec.shape)
        return Target(CLASSES, spec.name, width, signature.labels, signature.scores)
    spec = _only_output(signature)
    width = math.prod(axis or 0 for axis in spec.shape)
    length = _length(label)
    if length is not None:
        if length not in (width, 0):
            raise _mismatch(
                f"its values are lists of {length} numbers, the output {spec.name!r} has {width}"
            )
        return Target(NUMBERS, spec.name, width)
    if width > 1:
        return Target(CLASSES, spec.name, width, tuple(map(str, range(width))), signature.scores)
    is_word = pa.types.is_boolean(label)
    if signature.scores is not ScoreKind.AUTO and (is_word or pa.types.is_integer(label)):
        labels = ("false", "true") if is_word else ("0", "1")
        return Target(CLASSES, spec.name, 1, labels, signature.scores)
    return Target(NUMBERS, spec.name, 1)


def _only_output(signature: Signature) -> OutputSpec:
    named = signature.label_output
    outputs = [one for one in signature.outputs if named in (None, one.name)]
    fit = [one for one in outputs if one.dtype in NUMBER_TYPES and not {None, 0} & {*one.shape}]
    if len(outputs) != 1 or len(fit) != 1:
        told = ", ".join(f"{one.name} {one.dtype}{list(one.shape)}" for one in signature.outputs)
        raise _mismatch(
            f"the model has no labels, and not one output of numbers of a fixed shape ({told});"
            " push it with labels, or with label_output"
        )
    return fit[0]


def _length(label: pa.DataType) -> int | None:
    """Of a column of lists how many numbers each has, 0 where that differs; None of others."""
    if isinstance(label, pa.BaseExtensionType):  # an array of several axes
        label = label.storage_type
    if pa.types.is_fixed_size_list(label):
        inner = _length(label.value_type)
        length = int(label.list_size) * (1 if inner is None else inner)
        return None if length == 1 else length
    return 0 if pa.types.is_list(label) or pa.types.is_large_list(label) else None


def _mismatch(says: str) -> InvalidInput:
    return InvalidInput(
        f"evaluation.label cannot be held against the answers: {says}",
        code="labels_mismatch",
        field="evaluation.label",
    )
