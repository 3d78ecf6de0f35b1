"""Which columns an evaluation needs beside the predictions, and where its labels are.

Of pictures and lists of addresses there is one column to tell rows apart by: ``folder``, what the
folder is called that each object lies in. It is the label of a prefix of pictures unless another is
named. Requests hold no label: their answers can be compared, not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from storage.records.bulk import BulkFormat, BulkSpec
from storage.records.errors import InvalidInput
from storage.records.evaluations import FOLDER, EvaluationSpec
from storage.records.signatures import Signature
from workers.bulk.evaluating.target import target_of
from workers.bulk.reading.uris import URI

_PICTURES = (BulkFormat.URIS, BulkFormat.IMAGES)
_FOLDER_OF = r"://[^/]*/(?:.*/)?(?P<folder>[^/]+)/[^/]*$"
_SHOWN_CHARS = 500
UNLABELLED = ""  # in place of a label: there is none, whatever it would be by default


@dataclass(frozen=True, slots=True)
class Asked:
    """``label`` and ``slices`` as the caller named them; ``kept``: the columns that they are told
    from."""

    label: str | None
    slices: tuple[str, ...]
    kept: tuple[str, ...]
    of_pictures: bool = False
    by_default: bool = False  # nobody named the label: where it says nothing, there is none

    def column(self, name: str, kept: Mapping[str, pa.Array]) -> pa.Array:
        """One of those that are asked for, of rows as they are read again."""
        if self.of_pictures and name == FOLDER:
            return folders(kept[URI])
        return kept[name]

    def type_of(self, name: str, kept: pa.Schema) -> pa.DataType:
        """Its type."""
        return pa.string() if self.of_pictures and name == FOLDER else kept.field(name).type


def asked_of(spec: BulkSpec, columns: Sequence[str], form: BulkFormat) -> Asked | None:
    """What the spec's evaluation asks of files with these columns; None where it asks for none.
    ``InvalidInput``: ``unknown_column``, ``no_labels``."""
    asked = spec.evaluation
    if asked is None:
        return None
    of_pictures = form in _PICTURES
    label = None if asked.label == UNLABELLED else asked.label
    # A prefix of pictures is a list of addresses by the time that its files are planned.
    by_default = asked.label is None and of_pictures and spec.input.format is BulkFormat.IMAGES
    if by_default:
        label = FOLDER
    there = columns
    if of_pictures:
        there = (FOLDER, URI)
    elif form is BulkFormat.REQUESTS:
        there = ("custom_id",)
    _check(asked, there, form)
    if label is None and asked.against is None:
        raise no_labels(
            "no label is named, so there is nothing to hold the answers against: say"
            " evaluation.label, the column (or the array of an NPZ) that holds what is so, or"
            " evaluation.against, what to compare with"
        )
    named = [name for name in (label, *asked.slices) if name is not None]
    kept = [URI] if of_pictures else named
    # Pictures that lie in no folders of labels can still be compared.
    unsaid = by_default and asked.against is not None
    return Asked(label, asked.slices, tuple(dict.fromkeys(kept)), of_pictures, unsaid)


def check_target(asked: Asked, signature: Signature, kept: pa.Schema) -> None:
    """That labels of this type can be held against the answers: ``InvalidInput``
    (``labels_mismatch``)."""
    if asked.label is not None and not asked.by_default:
        target_of(signature, asked.type_of(asked.label, kept))


def folders(uris: pa.Array) -> pa.Array:
    """What the folder of each is called; null where an object lies in none."""
    return pc.struct_field(pc.extract_regex(uris, _FOLDER_OF), "folder")


def no_labels(says: str) -> InvalidInput:
    """The error of data that says nothing about what is so."""
    return InvalidInput(says, code="no_labels", field="evaluation.label")


def _check(asked: EvaluationSpec, columns: Sequence[str], form: BulkFormat) -> None:
    named = {f"evaluation.slices[{at}]": name for at, name in enumerate(asked.slices)}
    if asked.label:
        if form is BulkFormat.REQUESTS:
            raise no_labels(
                "evaluation.label: lines of requests hold no label; put inputs and labels into a"
                " table, or leave the label out and say evaluation.against"
            )
        named["evaluation.label"] = asked.label
    for field, name in named.items():
        if name not in columns:
            raise InvalidInput(
                f"{field} names {name[:200]!r}, which is no column of the input; it has"
                f" {', '.join(columns)[:_SHOWN_CHARS]}",
                code="unknown_column",
                field=field,
            )
