"""What versions were measured at, as a gate compares them: on the same data, or not at all.

A candidate's evaluations count, newest first; where the gate names an alias as well, the newest
data on which all versions that it names were evaluated. A version that was trained and never
evaluated has what its own training measured on held-out rows, as long as nothing is compared with
it: no other version saw those rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.database import Transaction
from storage.records.errors import Unprocessable
from storage.records.evaluations import Evaluation
from storage.records.gates import Gate, Metric, Values, metrics_of
from storage.records.models import ModelRef, ModelVersion

_MOST = 1_000  # evaluations of a version that a gate looks through
_PLAIN = ("accuracy", "auc", "mse", "mae", "rmse", "r2", "rows")
_OF_LABELS = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class Measured:
    """The values, and whose measurements they are: jobs by version."""

    values: Values
    jobs: Mapping[str, str]
    data_digest: str | None  # None: the rows that its training held out

    def told(self) -> dict[str, object]:
        """For the history, and for callers."""
        return {
            "values": {str(metric): value for metric, value in self.values.items()},
            "evaluations": dict(self.jobs),
            "data_digest": self.data_digest,
        }


@dataclass(frozen=True, slots=True)
class _Side:
    """A version, what the gate wants to know of it, and its evaluations."""

    version: ModelVersion
    metrics: frozenset[Metric]
    evaluations: Sequence[Evaluation]

    @property
    def name(self) -> str:
        return f"{self.version.name}:{self.version.version}"

    @property
    def names(self) -> list[str]:
        return sorted({metric.name for metric in self.metrics})

    def on(self, digest: str) -> Evaluation | None:
        """The newest evaluation on these data that has all of the metrics."""
        return next(
            (one for one in self.evaluations if one.data_digest == digest and self._has(one)), None
        )

    def has_all(self) -> Iterable[Evaluation]:
        """Those that have all of the metrics, newest first."""
        return (one for one in self.evaluations if self._has(one))

    def _has(self, one: Evaluation) -> bool:
        return all(one.metrics.get(name) is not None for name in self.names)


def values_of(tx: Transaction, tenant: str, candidate: ModelVersion, gate: Gate) -> Measured:
    """What the gate asks for. ``Unprocessable`` with code ``metric_not_measured`` says what is
    missing, and how it comes to be there; ``NotFound`` when an alias that it names is unknown."""
    sides = [
        _Side(version, metrics, tx.evaluations.measured(version.id, _MOST))
        for version, metrics in _wanted(tx, tenant, candidate, gate)
    ]
    first = sides[0]
    for mine in first.has_all():
        found = [side.on(mine.data_digest) for side in sides]
        if None not in found:
            return _measured(sides, [one for one in found if one is not None])
    learned = trained_metrics(first.version)
    if len(sides) == 1 and learned.keys() >= set(first.names):
        values = {metric: learned[metric.name] for metric in first.metrics}
        job = str((first.version.origin or {}).get("job_id"))
        return Measured(values, {first.name: job}, None)
    raise _not_measured(sides, learned)


def trained_metrics(version: ModelVersion) -> dict[str, float]:
    """What its own training measured, under the names that evaluations have."""
    told = (version.origin or {}).get("evaluation")
    if not isinstance(told, Mapping):
        return {}
    found = {name: told.get(name) for name in _PLAIN}
    macro, positive = told.get("macro"), told.get("positive")
    if isinstance(macro, Mapping):
        found |= {f"macro_{name}": macro.get(name) for name in _OF_LABELS}
        one = positive if isinstance(positive, Mapping) else macro
        found |= {name: one.get(name) for name in _OF_LABELS}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _wanted(
    tx: Transaction, tenant: str, candidate: ModelVersion, gate: Gate
) -> list[tuple[ModelVersion, frozenset[Metric]]]:
    """The versions that a gate is about, each with its metrics: the candidate first, unless the
    gate asks for nothing of it."""
    metrics = metrics_of(gate)
    aliases = sorted({metric.alias for metric in metrics if metric.alias is not None})
    own = frozenset(one for one in metrics if one.alias is None)
    wanted = [(candidate, own)] if own else []
    for alias in aliases:
        ref = ModelRef(candidate.name, alias=alias)
        version = tx.models.resolve(tenant, ref, only_shown=True)
        wanted.append((version, frozenset(one for one in metrics if one.alias == alias)))
    return wanted


def _measured(sides: Sequence[_Side], found: Sequence[Evaluation]) -> Measured:
    values: dict[Metric, float] = {}
    for side, one in zip(sides, found, strict=True):
        for metric in side.metrics:
            value = one.metrics[metric.name]
            assert value is not None
            values[metric] = value
    jobs = {side.name: one.job_id for side, one in zip(sides, found, strict=True)}
    return Measured(values, jobs, found[0].data_digest)


def _not_measured(sides: Sequence[_Side], learned: Mapping[str, float]) -> Unprocessable:
    """The first reason that there is."""
    for side in sides:
        if any(side.has_all()):
            continue
        known = {
            name
            for one in side.evaluations
            for name, value in one.metrics.items()
            if value is not None
        }
        if len(sides) == 1:
            known |= learned.keys()
        missing = [name for name in side.names if name not in known]
        if missing:
            near = difflib.get_close_matches(missing[0], sorted(known), n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            has = f"it has {', '.join(sorted(known))}" if known else "nothing is"
            says = f"{missing[0]} of {side.name} was never measured{hint}: {has}"
        else:
            says = f"no single evaluation of {side.name} has all of {', '.join(side.names)}"
        return _refused(f"{says}. Measure it: forebay evaluate {side.name} DATA --label COLUMN")
    names = " and ".join(side.name for side in sides)
    again = " ".join(f"forebay evaluate {side.name} DATA --label COLUMN;" for side in sides)
    return _refused(f"{names} were never evaluated on the same data. Do so: {again[:-1]}")


def _refused(says: str) -> Unprocessable:
    return Unprocessable(says, code="metric_not_measured", field="if")
