"""Two versions on the same data: ``Forebay().models.compare``.

The first is evaluated, then the second against the first: so both scored the same rows, and what
they disagree on is known row by row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from producers.client.bulk import parts_of
from producers.client.errors import BadArgument, NotFound
from producers.client.evaluations import EvaluationJob, evaluate, evaluations_of, submitted
from producers.client.jobs import Job
from producers.client.transport import Transport

LOWER_IS_BETTER = frozenset(
    {"log_loss", "brier", "ece", "mce", "mse", "mae", "rmse", "failed_share", "disagreement"}
)
_COUNTS = ("rows", "disagreement")  # of one of both, or the same of both

Progress = Callable[[Job], object]


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of both versions. ``overlap``: whether their 95 % intervals do; None where one of
    them has none."""

    name: str
    first: float | None
    second: float | None
    difference: float | None  # second less first
    first_interval: Sequence[float] | None
    second_interval: Sequence[float] | None
    overlap: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both versions came to: the evaluations' documents, with the ids of their jobs."""

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    first_job: str
    second_job: str
    first_model: str
    second_model: str

    @property
    def against(self) -> Mapping[str, Any]:
        """Where they disagree: ``rows``, ``disagreed``, ``share``, ``transitions``, ``examples``,
        and, of labelled rows, what the second ``fixed`` and what it ``broken``."""
        return dict(self.second.get("against") or {})

    @property
    def metrics(self) -> list[Measure]:
        """Side by side, in the order of the documents."""
        first = dict(self.first.get("metrics") or {})
        # A first that was scored without a label is measured by the second's labels.
        first = {**(self.against.get("metrics") or {}), **first}
        second = self.second.get("metrics") or {}
        names = [name for name in (*first, *second) if name not in _COUNTS]
        return [
            _measure(name, first.get(name), second.get(name), self.first, self.second)
            for name in dict.fromkeys(names)
        ]

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "first": {
                "model": self.first_model,
                "job": self.first_job,
                "document": dict(self.first),
            },
            "second": {
                "model": self.second_model,
                "job": self.second_job,
                "document": dict(self.second),
            },
            "metrics": [asdict(one) for one in self.metrics],
            "against": self.against or None,
        }


def _measure(
    name: str,
    first: float | None,
    second: float | None,
    first_document: Mapping[str, Any],
    second_document: Mapping[str, Any],
) -> Measure:
    of_first = (first_document.get("intervals") or {}).get(name)
    of_second = (second_document.get("intervals") or {}).get(name)
    return Measure(
        name,
        first,
        second,
        None if first is None or second is None else second - first,
        of_first,
        of_second,
        _overlap(of_first, of_second),
    )


def _overlap(first: Sequence[float] | None, second: Sequence[float] | None) -> bool | None:
    if not first or not second or None in (*first, *second):
        return None
    return first[0] <= second[1] and second[0] <= first[1]


class Comparing:
    """One comparison on its way: every job of it is waited for, all of them for ``timeout_s``.
    ``options`` are those of every job of it."""

    def __init__(
        self,
        transport: Transport,
        first: str,
        second: str,
        options: Mapping[str, Any],
        *,
        timeout_s: float | None = None,
        on_progress: Progress | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._first, self._second = first, second
        self._options = options
        self._on_progress = on_progress
        self._monotonic = monotonic
        self._end_s = None if timeout_s is None else monotonic() + timeout_s

    def on(self, told: Mapping[str, Any], label: str | None, slices: Sequence[str]) -> Comparison:
        """On these data."""
        if label is None and told.get("format") != "images":
            first: Job = self._scored(told)
            second = self._evaluated(self._second, {"job": first.id}, slices=slices)
        else:
            first = self._evaluated(self._first, told, label=label, slices=slices)
            second = self._evaluated(self._second, {"job": first.id})
        return _comparison(first, second)

    def on_newest(self, label: str | None, slices: Sequence[str]) -> Comparison:
        """On the data of the newest evaluation of either. The first's own is taken as it stands
        if it saw the same, unless another label or other slices are asked for."""
        first_known = evaluations_of(self._transport, self._first, limit=100)
        second_known = evaluations_of(self._transport, self._second, limit=1)
        newest = max(
            (*first_known[:1], *second_known), key=lambda one: str(one["created_at"]), default=None
        )
        if newest is None:
            raise BadArgument(
                f"neither {self._first} nor {self._second} was ever evaluated: say on what data",
                code="no_evaluation",
            )
        first = None
        if label is None and not slices:
            alike = (one for one in first_known if one["data_digest"] == newest["data_digest"])
            first = self._still_there(alike)
        try:
            if first is None:
                told = {"job": newest["job"]}
                first = self._evaluated(self._first, told, label=label, slices=slices)
            second = self._evaluated(self._second, {"job": first.id})
        except NotFound as error:
            if error.code != "job_not_found":
                raise
            raise BadArgument(
                f"the data of the newest evaluation ({newest['job']}) are past their retention:"
                " say on what data",
                code="no_evaluation",
            ) from error
        return _comparison(first, second)

    def _still_there(self, known: Iterable[Mapping[str, Any]]) -> EvaluationJob | None:
        """The newest of these evaluations whose job, and so what it scored, is still there."""
        for one in known:
            try:
                document = self._transport.json("GET", f"/v1/jobs/{one['job']}")
                if parts_of(self._transport, one["job"]):
                    return EvaluationJob(self._transport, document)
            except NotFound:
                continue
        return None

    def _evaluated(self, model: str, told: Mapping[str, Any], **asked: Any) -> EvaluationJob:
        job = evaluate(self._transport, model, told, **asked, **self._options)
        self._wait(job)
        return job

    def _scored(self, told: Mapping[str, Any]) -> Job:
        """The first version's answers alone, as there is no label to measure them by."""
        plain = {n: v for n, v in self._options.items() if n not in ("examples", "tolerance")}
        body = {"kind": "bulk", "model": self._first, "input": dict(told), **plain}
        job = Job(self._transport, submitted(self._transport, body))
        self._wait(job)
        return job

    def _wait(self, job: Job) -> None:
        left_s = None if self._end_s is None else max(0.0, self._end_s - self._monotonic())
        job.wait(left_s, on_progress=self._on_progress)
        _ = job.result  # raises if it did not succeed


def _comparison(first: Job, second: EvaluationJob) -> Comparison:
    return Comparison(first.result, second.result, first.id, second.id, first.model, second.model)
