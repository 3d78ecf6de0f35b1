"""Evaluations: what a version is worth on some data.

An evaluation is a bulk run with one step more: its rows are scored as any bulk job's are, by what
serves the model, and at its end its owner reads the parts and works out how good the answers are.
So a million rows are evaluated as they are scored, and what is measured is what callers get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage.records.jobs import Millis

MAX_SLICES = 16
MAX_EXAMPLES, DEFAULT_EXAMPLES = 100, 20


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """What an evaluation adds to a bulk job.

    Without a label only what changed since ``against`` can be said. Of pictures below a prefix the
    label is the folder that each lies in, unless ``label`` says otherwise.
    """

    label: str | None = None  # a column, an array of an NPZ, or ``FOLDER`` of pictures
    slices: tuple[str, ...] = ()  # columns by whose values the rows are told apart
    against: str | None = None  # a bulk job or evaluation over the same rows, or a group's id
    of_group: str | None = None  # its rows are the inputs of this finished group's jobs
    examples: int = DEFAULT_EXAMPLES  # disagreements that are shown one by one
    tolerance: float = 1e-3  # relative: numbers that differ by less agree


FOLDER = "folder"  # as a label: what the folder of a picture is called


def evaluation_to_json(spec: EvaluationSpec) -> dict[str, Any]:
    """As a payload holds it."""
    return asdict(spec)


def evaluation_from_json(told: Mapping[str, Any]) -> EvaluationSpec:
    """What ``evaluation_to_json`` wrote."""
    return EvaluationSpec(**{**told, "slices": tuple(told["slices"])})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A stored one. ``metrics`` is what gates ask for: numbers by name, None where there is
    nothing to tell it from. ``data_digest`` is the same for two that saw the same rows and labels.
    """

    job_id: str
    tenant: str
    version_id: str
    model_name: str
    version: int
    data_digest: str
    rows: int
    metrics: Mapping[str, float | None]
    document: Mapping[str, Any]  # the job's result, whole
    created_at: Millis
