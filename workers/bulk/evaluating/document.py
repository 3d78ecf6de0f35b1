"""What an evaluation says at its end: its parts are read, measured and put into one document.

Columns by whose values rows are told apart are read once before, to know their values. Everything
is worked out anew by whoever ends the job: from the same parts comes the same document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from storage.records.bulk import BulkRun, BulkSpec, Part, Plan
from storage.records.errors import InvalidInput
from storage.records.evaluations import Evaluation
from storage.records.jobs import ClaimedJob
from storage.records.models import ModelVersion
from storage.records.refs import FILES_PREFIX
from storage.records.signatures import Signature
from workers.bulk.evaluating.asked import UNLABELLED, Asked, asked_of, no_labels
from workers.bulk.evaluating.digest import data_digest
from workers.bulk.evaluating.intervals import of_share
from workers.bulk.evaluating.measuring import Measures
from workers.bulk.evaluating.reading import scored_rows
from workers.bulk.evaluating.slices import Counting, Values
from workers.bulk.evaluating.target import target_of
from workers.bulk.kept import kept_of
from workers.bulk.kit import Kit, Stopped

Told = dict[str, Any]
Still = Callable[[], bool]
_SHOWN_URIS = 1_000


class Compare(Protocol):
    """The document's ``against``."""

    def __call__(
        self,
        kit: Kit,
        job: ClaimedJob,
        spec: BulkSpec,
        run: BulkRun,
        parts: Sequence[Part],
        signature: Signature,
        still: Still,
    ) -> Mapping[str, object] | None:
        """None where there is nothing to compare with."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A run at its end, ready to be measured."""

    kit: Kit
    job: ClaimedJob
    spec: BulkSpec
    run: BulkRun
    parts: Sequence[Part]
    version: ModelVersion
    still: Still

    def document(self, compare: Compare | None) -> Told:
        """See the module; what every bulk job says besides is not in it. ``InvalidInput``:
        ``no_labels`` where no row that was answered has a label, and what reading raises;
        ``Stopped`` when ``still`` does not hold any more."""
        plan, signature = self.plan, Signature.from_json(self.version.signature)
        asked = asked_of(self.spec, plan.columns, plan.files[0].format)
        assert asked is not None
        failed = sum(one.part.failed for one in self.parts)
        slices = self._values(signature, asked)
        told = self._head(asked)
        told |= {"failed": failed, "skipped": sum(one.part.skipped for one in self.parts)}
        spec, judged = self.spec, None
        if asked.label is not None:
            judged = self._judged(signature, asked, slices)
            if judged is None and spec.evaluation is not None:
                told["data"]["label"] = None
                spec = replace(spec, evaluation=replace(spec.evaluation, label=UNLABELLED))
        told |= self._unjudged(slices) if judged is None else judged
        told["metrics"]["rows"] = told["rows"]
        told["metrics"]["failed_share"] = _share(failed, self._answered + failed)
        if (share := of_share(failed, self._answered + failed)) is not None:
            told["intervals"]["failed_share"] = list(share)
        told["against"] = None
        if compare is not None and self.spec.evaluation and self.spec.evaluation.against:
            against = compare(self.kit, self.job, spec, self.run, self.parts, signature, self.still)
            told["against"] = against
            if against is not None:
                told["metrics"]["disagreement"] = against["share"]
                if against["interval"] is not None:
                    told["intervals"]["disagreement"] = against["interval"]
        return told

    def record(self, document: Mapping[str, Any]) -> Evaluation:
        """The document as it is kept with the version; its time is set when it is written."""
        return Evaluation(
            job_id=self.job.id,
            tenant=self.job.tenant,
            version_id=self.version.id,
            model_name=self.version.name,
            version=self.version.version,
            data_digest=document["data"]["digest"],
            rows=document["rows"],
            metrics=document["metrics"],
            document=document,
            created_at=0,
        )

    @property
    def plan(self) -> Plan:
        """The run's."""
        assert self.run.plan is not None
        return self.run.plan

    @property
    def _answered(self) -> int:
        return sum(one.part.rows for one in self.parts)

    def _contents(self) -> dict[str, str]:
        """SHA-256 by address, of those of the files that were uploaded."""
        uploaded = [one.uri for one in self.plan.files if one.uri.startswith(FILES_PREFIX)]
        if not uploaded:
            return {}

        def look() -> dict[str, str]:
            with self.kit.database.read() as tx:
                found = {
                    uri: tx.files.get(self.job.tenant, uri.removeprefix(FILES_PREFIX))
                    for uri in uploaded
                }
            return {uri: file.digest for uri, file in found.items() if file is not None}

        return self.kit.patiently(look, self.still)

    def _look(self) -> None:
        if not self.still():
            raise Stopped

    def _head(self, asked: Asked) -> Told:
        plan, spec = self.plan, self.spec
        return {
            "model": f"{self.version.name}:{self.version.version}",
            "version_id": self.version.id,
            "task": None,
            "data": {
                "digest": data_digest(spec, plan, asked.label, self._contents()),
                "uris": list(spec.input.uris[:_SHOWN_URIS]),
                "files": len(plan.files),
                "label": asked.label,
                "where": [[one.column, one.op, one.value] for one in spec.input.where],
            },
        }

    def _values(self, signature: Signature, asked: Asked) -> dict[str, Values]:
        """Which there are of each column that rows are told apart by."""
        if not asked.slices:
            return {}
        counting = {name: Counting() for name in asked.slices}
        bare = replace(signature, outputs=(), labels=(), label_output=None)
        for rows in scored_rows(self.kit, self.plan, self.parts, bare, asked.kept, self.still):
            for name, one in counting.items():
                one.add(asked.column(name, rows.kept))
        return {name: one.values() for name, one in counting.items()}

    def _judged(
        self, signature: Signature, asked: Asked, slices: Mapping[str, Values]
    ) -> Told | None:
        """None where a label that nobody named says nothing."""
        assert asked.label is not None
        schema = kept_of(self.plan)
        assert schema is not None, "a plan with kept columns has noted them"
        try:
            target = target_of(signature, asked.type_of(asked.label, schema))
        except InvalidInput:
            if asked.by_default:
                return None
            raise
        measures = Measures(target, slices)
        for rows in scored_rows(self.kit, self.plan, self.parts, signature, asked.kept, self.still):
            columns = {name: asked.column(name, rows.kept) for name in slices}
            measures.add(rows, asked.column(asked.label, rows.kept), columns)
        truth = measures.truth
        if not measures.rows:
            if asked.by_default:
                return None
            raise no_labels(self._says_nothing(asked.label, measures))
        return {
            "task": target.task,
            "rows": measures.rows,
            "unlabelled": truth.unlabelled,
            "unknown_labels": truth.unknown,
            "unknown_label_values": list(truth.unknown_values),
            **measures.told(self._look),
        }

    def _unjudged(self, slices: Mapping[str, Values]) -> Told:
        """Of rows whose answers are only compared."""
        return {
            "rows": self._answered,
            "unlabelled": 0,
            "unknown_labels": 0,
            "unknown_label_values": [],
            "metrics": {},
            "intervals": {},
            "labels": [],
            "confusion": None,
            "calibration": None,
            "slices": [
                {
                    "column": name,
                    "values": [
                        {"value": word, "rows": rows, "metrics": {}, "intervals": {}}
                        for word, rows in zip(values.words, values.rows, strict=True)
                    ],
                    "other_values": values.others,
                    "other_rows": self._answered - sum(values.rows),
                }
                for name, values in slices.items()
            ],
        }

    def _says_nothing(self, label: str, measures: Measures) -> str:
        truth = measures.truth
        values = ", ".join(truth.unknown_values)[:500]
        strange = f" ({values})" if values else ""
        return (
            f"no row has both an answer and a label: of {self._answered} rows that were answered"
            f" {truth.unlabelled} have nothing in {label!r}, and {truth.unknown} a value that the"
            f" model has no label for{strange}"
        )


def _share(some: int, rows: int) -> float | None:
    return some / rows if rows else None
