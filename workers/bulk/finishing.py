"""The end of a run: error lines in one file, a manifest over everything, and the job's commit.

All of it may be done twice, by an owner that died half-way and by the one after it: the objects
have the same content, and only one commit can end the job.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson

from storage.database import Transaction
from storage.records.bulk import (
    ERRORS,
    MANIFEST,
    PARTIAL_MANIFEST,
    BulkRun,
    BulkSpec,
    Part,
    own_name,
)
from storage.records.errors import ForebayError
from storage.records.evaluations import Evaluation
from storage.records.jobs import (
    ClaimedJob,
    JobError,
    JobState,
    Millis,
    Outcome,
    Verdict,
)
from storage.records.models import ModelVersion
from workers.bulk.destination import Destination, Stored, destination_of
from workers.bulk.error_lines import ErrorsSummary, merge
from workers.bulk.evaluating.comparing import compare
from workers.bulk.evaluating.document import Evaluated
from workers.bulk.files import COLUMNS, ranges_of
from workers.bulk.kit import Kit, Stopped
from workers.bulk.manifest import Outcome as RunOutcome
from workers.bulk.manifest import manifest_of
from workers.bulk.names import is_ours
from workers.inference.gate import TROUBLE
from workers.result_packs import ResultPack, settle_with

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a run at its end."""

    run: BulkRun
    parts: Sequence[Part]
    version: ModelVersion
    now: Millis


@dataclass(frozen=True, slots=True)
class _Written:
    """What lies beside the parts."""

    errors: str | None  # names
    manifest: str
    stored: Sequence[Stored]


class Finishing:
    """One owner's last steps."""

    def __init__(self, kit: Kit, job: ClaimedJob, session_id: str, spec: BulkSpec) -> None:
        self._kit, self._job, self._session_id, self._spec = kit, job, session_id, spec
        self._is_mine = partial(kit.holds, session_id)

    def succeed(self) -> None:
        """Every shard is done: merge, describe, commit, tidy up."""
        facts = self._look()
        assert facts.run.plan is not None
        place = destination_of(self._kit, self._spec, facts.run.plan.base)
        document, evaluation = self._evaluated(facts)
        written = self._write(place, facts, JobState.SUCCEEDED)
        result = self._result(facts, written) | document
        match self._commit(result, written.stored, evaluation):
            case JobState.SUCCEEDED:
                self._tidy(place, facts.parts, written)
            case JobState.CANCELLED:
                self._take_back(place, written)

    def answer(self, result: dict[str, object]) -> None:
        """A run that wrote nothing: its result is all there is."""
        self._commit(result, ())

    def fail(self, error: JobError) -> None:
        """The job fails; what is done stays, with a manifest that says so."""
        stored: Sequence[Stored] = ()
        try:
            facts = self._look()
            if facts.run.plan is not None and not self._spec.dry_run:
                place = destination_of(self._kit, self._spec, facts.run.plan.base)
                stored = self._write(place, facts, JobState.FAILED).stored
        except Stopped:
            raise
        except Exception as trouble:
            log.warning("a failed run has no manifest", exc_info=trouble)
        outcome = Outcome(self._job.id, self._job.epoch, Verdict.FAILED, False, error=error)

        def commit() -> None:
            with self._kit.database.begin() as tx:
                if self._job.id in tx.jobs.commit(self._session_id, [outcome]).settled:
                    _publish(tx, stored)

        self._kit.patiently(commit, self._is_mine)

    # --- inside

    def _look(self) -> _Facts:
        def look() -> _Facts | None:
            with self._kit.database.read() as tx:
                run, version = tx.bulk.run(self._job.id), tx.models.by_id(self._job.version_id)
                if run is None or version is None:
                    return None
                return _Facts(run, tx.bulk.parts(self._job.id), version, tx.now())

        facts = self._kit.patiently(look, self._is_mine)
        if facts is None:
            raise Stopped
        return facts

    def _evaluated(self, facts: _Facts) -> tuple[dict[str, Any], Evaluation | None]:
        """What an evaluation adds to the result, and how it is kept with the version."""
        if self._spec.evaluation is None:
            return {}, None
        evaluated = Evaluated(
            self._kit,
            self._job,
            self._spec,
            facts.run,
            facts.parts,
            facts.version,
            self._is_mine,
        )
        document = evaluated.document(compare)
        return document, evaluated.record(document)

    def _write(self, place: Destination, facts: _Facts, state: JobState) -> _Written:
        """The merged error lines, and the manifest."""
        kit, plan = self._kit, facts.run.plan
        assert plan is not None
        stored: list[Stored] = []
        errors: ErrorsSummary | None = None
        name: str | None = None
        path = kit.spool / f"{self._job.id}-end"
        complete = state is JobState.SUCCEEDED
        try:
            if complete and any(one.part.errors_key for one in facts.parts):
                errors = kit.patiently(
                    lambda: merge(facts.parts, kit.objects.get_range, path), self._is_mine
                )
                name = self._name(place, ERRORS)
                stored.append(self._put(place, name, path))
            columns = cast("Sequence[Mapping[str, str]]", plan.extra.get(COLUMNS, ()))
            outcome = RunOutcome(state, complete, facts.now, errors, columns, ranges_of(plan))
            document = manifest_of(facts.run, self._spec, facts.parts, facts.version, outcome)
            path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
            manifest = self._name(place, MANIFEST if complete else PARTIAL_MANIFEST)
            stored.append(self._put(place, manifest, path))
        finally:
            path.unlink(missing_ok=True)
        return _Written(name, manifest, stored)

    def _name(self, place: Destination, name: str) -> str:
        return own_name(name, self._job.epoch) if place.is_own else name

    def _put(self, place: Destination, name: str, path: Path) -> Stored:
        kit = self._kit
        if not place.is_own:  # an owner before us may have been here
            kit.patiently(lambda: place.delete([name]), self._is_mine, ours=False)
        return place.put(kit, self._job.tenant, name, path, self._is_mine)

    def _result(self, facts: _Facts, written: _Written) -> dict[str, object]:
        parts = [one.part for one in facts.parts]
        where = self._spec.output.uri
        return {
            "rows": sum(part.rows for part in parts),
            "failed": sum(part.failed for part in parts),
            "skipped": sum(part.skipped for part in parts),
            "parts": sum(part.key is not None for part in parts),
            "size_bytes": sum(part.size_bytes for part in parts),
            "device_s": round(sum(part.device_ms for part in parts) / 1000, 3),
            "wall_s": round((facts.now - facts.run.created_at) / 1000, 3),
            "output": where.rstrip("/") if where else None,
            "manifest": _address(where, written.manifest),
            "errors": _address(where, written.errors) if written.errors else None,
            "names": {"manifest": written.manifest, "errors": written.errors},
        }

    def _commit(
        self,
        result: dict[str, object],
        stored: Sequence[Stored],
        evaluation: Evaluation | None = None,
    ) -> JobState | None:
        """How the job ended, by this commit or an earlier try whose answer was lost; None when it
        is somebody else's."""
        kit, job = self._kit, self._job

        def commit(pack: ResultPack) -> JobState | None:
            outcome = Outcome(job.id, job.epoch, Verdict.SUCCEEDED, False, result=pack.slice)
            with kit.database.begin() as tx:
                report = tx.jobs.commit(self._session_id, [outcome], packs=[pack.summary])
                state = report.settled.get(job.id)
                if state is JobState.SUCCEEDED:
                    _publish(tx, stored)
                    if evaluation is not None:
                        tx.evaluations.record(replace(evaluation, document=result))
                if state is not None:
                    return state
                known = tx.jobs.get(job.tenant, job.id)
                return known.state if known is not None else None

        return settle_with(kit, job, orjson.dumps(result), self._is_mine, commit)

    def _tidy(self, place: Destination, parts: Sequence[Part], written: _Written) -> None:
        """What attempts that lost have left in the output. (In our own store the collector does
        that.)"""
        if place.is_own:
            return
        kept = {one.part.key for one in parts if one.part.key} | {written.manifest}
        if written.errors is not None:
            kept.add(written.errors)
        with contextlib.suppress(ForebayError, *TROUBLE):
            place.delete([one for one in place.names() if is_ours(one) and one not in kept])

    def _take_back(self, place: Destination, written: _Written) -> None:
        """The job was cancelled before it could end: nothing says that it is complete."""
        if place.is_own:
            return
        with contextlib.suppress(ForebayError, *TROUBLE):
            place.delete([name for name in (written.manifest, written.errors) if name])


def _publish(tx: Transaction, stored: Sequence[Stored]) -> None:
    for one in stored:
        one.publish(tx)


def _address(where: str | None, name: str) -> str | None:
    return f"{where.rstrip('/')}/{name}" if where else name
