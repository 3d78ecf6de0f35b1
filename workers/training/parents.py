"""A version to train on, and the data to go on with: the one must mean what the other means.

A network knows its inputs and outputs by their places alone. Columns in another order, other
categories or other labels fit its shapes, and what it has learned would be about something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from storage.records.errors import InvalidInput
from storage.records.models import ModelVersion
from storage.records.push_options import Column
from storage.records.signatures import Signature
from workers.training.ports import Prepared

_MOST_TOLD = 20  # names in a message


def must_go_on(parent: ModelVersion, prepared: Prepared) -> None:
    """``InvalidInput`` (``version_mismatch``) that names the first difference. What the version's
    signature does not tell is not compared, nor are shapes: the network is asked for those."""
    signature = Signature.from_json(parent.signature)
    known, name = signature.deferred or signature, f"{parent.name}:{parent.version}"
    if known.columns and prepared.options.columns:
        _same_columns(name, known.columns, prepared.options.columns)
    if known.labels and prepared.labels:
        _same_labels(name, known.labels, prepared.labels)


def _same_columns(name: str, theirs: Sequence[Column], ours: Sequence[Column]) -> None:
    names = [one.name for one in theirs]
    place = _first_difference(names, [one.name for one in ours])
    if place is not None:
        raise _mismatch(
            f"column {place + 1} of {name} is {_at(names, place)}, and that of the data is"
            f" {_at([one.name for one in ours], place)}: name the version's columns, in its order:"
            f" {_told(names)}",
            "data.features",
        )
    for one, other in zip(theirs, ours, strict=True):
        if bool(one.categories) != bool(other.categories):
            kinds = ["categories" if some.categories else "numbers" for some in (one, other)]
            raise _mismatch(
                f"the column {one.name!r} is of {kinds[0]} in {name}, and of {kinds[1]} in the"
                " data",
                "data.features",
            )
        _same_categories(name, one, other)


def _same_categories(name: str, one: Column, other: Column) -> None:
    theirs, ours = [[str(word) for word in some.categories] for some in (one, other)]
    place = _first_difference(theirs, ours)
    if place is not None:
        raise _mismatch(
            f"category {place + 1} of {one.name!r} is {_at(theirs, place)} in {name}, and"
            f" {_at(ours, place)} in the data: name the version's, in its order: {_told(theirs)}",
            f"prepare.categories.{one.name}",
        )
    if one.one_hot != other.one_hot:
        raise _mismatch(
            f"{name} takes the categories of {one.name!r} as one number, and the data has one for"
            " each: that version cannot be trained on by this service",
            "network.version",
        )


def _same_labels(name: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    place = _first_difference(theirs, ours)
    if place is not None:
        raise _mismatch(
            f"label {place + 1} of {name} is {_at(theirs, place)}, and that of the data is"
            f" {_at(ours, place)}: name the version's labels, in its order: {_told(theirs)}; other"
            " labels need a network of their own",
            "prepare.labels",
        )


def _first_difference(theirs: Sequence[str], ours: Sequence[str]) -> int | None:
    pairs = enumerate(zip_longest(theirs, ours))
    return next((place for place, (one, other) in pairs if one != other), None)


def _at(names: Sequence[str], place: int) -> str:
    return repr(names[place]) if place < len(names) else "missing"


def _told(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return f"[{', '.join(names[:_MOST_TOLD])}{more}]"


def _mismatch(message: str, field: str) -> InvalidInput:
    return InvalidInput(message, code="version_mismatch", field=f"spec.{field}")
