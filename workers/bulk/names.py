"""What the objects of a run are called.

A part's name holds its shard, the epoch that wrote it and its first position, so two attempts never
write the same object and one prefix tells all. Names that begin with an underscore are passed over
by what reads a folder of parts as one data set.
"""

from __future__ import annotations

import re

from storage.records.bulk import ERRORS, MANIFEST, PARTIAL_MANIFEST, PartFormat

_PLACE = r"\d{5,}-\d{3,}-\d{12,}"
_FORMATS = "|".join(PartFormat)
_OURS = re.compile(rf"part-{_PLACE}\.(?:{_FORMATS})|_errors-{_PLACE}\.jsonl")
_SINGLE = frozenset({MANIFEST, PARTIAL_MANIFEST, ERRORS})


def part_name(number: int, epoch: int, start: int, form: PartFormat) -> str:
    """Of the predictions of shard ``number`` from position ``start`` on."""
    return f"part-{_place(number, epoch, start)}.{form}"


def errors_part_name(number: int, epoch: int, start: int) -> str:
    """Of the errors beside them."""
    return f"_errors-{_place(number, epoch, start)}.jsonl"


def is_ours(name: str) -> bool:
    """Whether a run could have written an object of this name, below its base."""
    return name in _SINGLE or _OURS.fullmatch(name) is not None


def _place(number: int, epoch: int, start: int) -> str:
    return f"{number:05d}-{epoch:03d}-{start:012d}"
