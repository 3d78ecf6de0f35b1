"""Whether one version can stand in for another: what callers send, and what they get back.

How a version is served (batch sizes, padding) is its own affair, and so is how it decodes a
picture.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.records.errors import Conflict
from storage.records.models import ModelVersion
from storage.records.signatures import InputSpec, OutputSpec, Signature


def differences(one: Signature, other: Signature) -> list[str]:
    """What a caller of ``one`` would notice of ``other``, each a few words; empty where they are
    alike."""
    found = []
    if one.form is not other.form:
        found.append(f"it takes {other.form.value}, not {one.form.value}")
    for what, before, after in (
        ("inputs", one.asked, other.asked),
        ("outputs", one.outputs, other.outputs),
    ):
        if _told(before) != _told(after):
            found.append(f"its {what} are {_shown(after)}, not {_shown(before)}")
    columns = [(column.name, column.type) for column in one.columns]
    if columns != [(column.name, column.type) for column in other.columns]:
        found.append("its columns are others")
    if one.labels != other.labels:
        found.append(f"it has {len(other.labels)} labels and not the same {len(one.labels)}")
    return found


def check_stands_in(base: ModelVersion, candidate: ModelVersion, *, field: str) -> None:
    """``Conflict`` with code ``signature_differs`` when callers of ``base`` would notice."""
    found = differences(
        Signature.from_json(base.signature), Signature.from_json(candidate.signature)
    )
    if found:
        raise Conflict(
            f"{candidate.name}:{candidate.version} cannot stand in for {base.name}:{base.version}:"
            f" {'; '.join(found)}",
            code="signature_differs",
            field=field,
        )


def _told(specs: Sequence[InputSpec | OutputSpec]) -> list[tuple[object, ...]]:
    return sorted((spec.name, spec.dtype, spec.shape) for spec in specs)


def _shown(specs: Sequence[InputSpec | OutputSpec]) -> str:
    shown = (f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in specs)
    return ", ".join(shown)[:300] or "not known"
