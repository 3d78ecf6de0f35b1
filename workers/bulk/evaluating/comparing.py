"""What changed since the rows were scored before: by another bulk job or evaluation over the same
files, or by the jobs of the group whose inputs they are.

Both sides stream side by side, so a million rows take no more memory than a thousand. The answers
before are read as they were stored: nothing is scored again for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from storage.records.bulk import BulkRun, BulkSpec, Part, Plan, row_id
from storage.records.errors import InvalidInput, NotFound
from storage.records.evaluations import EvaluationSpec
from storage.records.jobs import ClaimedJob
from storage.records.signatures import Signature
from workers.bulk.evaluating.basis import Basis, not_comparable
from workers.bulk.evaluating.earlier import Earlier, basis_with, check_output, earlier_run
from workers.bulk.evaluating.group_answers import GroupAnswers
from workers.bulk.evaluating.label_changes import LabelChanges
from workers.bulk.evaluating.matching import Matching, Pair
from workers.bulk.evaluating.number_changes import NumberChanges
from workers.bulk.evaluating.reading import Scored, scored_rows
from workers.bulk.kept import kept_of
from workers.bulk.kit import Failed, Kit

Told = dict[str, object]
Still = Callable[[], bool]

_Z95 = 1.959963984540054
_NAMES = ("custom_id", "uri")  # kept columns that say which row it is


def check_against(
    kit: Kit, job: ClaimedJob, spec: BulkSpec, plan: Plan, signature: Signature, still: Still
) -> None:
    """That the plan's rows can be compared, before any of them is scored. Raises what ``compare``
    does; a group was looked at when its inputs were read."""
    evaluation = _asked(spec)
    if evaluation.against is None:
        return
    if _is_group(evaluation):
        GroupAnswers(kit, job.tenant, evaluation.against, still).basis(signature)
    else:
        earlier = earlier_run(kit, job.tenant, evaluation.against, plan, still)
        basis_with(earlier, signature)
        next(_before(kit, earlier, still), None)  # its parts are still there, and can be read


def compare(
    kit: Kit,
    job: ClaimedJob,
    spec: BulkSpec,
    run: BulkRun,
    parts: Sequence[Part],
    signature: Signature,
    still: Still,
) -> Told | None:
    """The document's ``against``; None where there is none. ``Failed``, ``InvalidInput`` or
    ``NotFound``: ``job_not_found``, ``group_not_found``, ``group_not_over``, ``not_comparable``,
    and ``part_gone`` or ``result_gone`` where the answers before are past their retention."""
    evaluation = _asked(spec)
    if evaluation.against is None:
        return None
    assert run.plan is not None
    after = scored_rows(kit, run.plan, parts, signature, _columns(run.plan, evaluation), still)
    if _is_group(evaluation):
        return _with_group(kit, job, evaluation, signature, after, still)
    earlier = earlier_run(kit, job.tenant, evaluation.against, run.plan, still)
    return _with_run(kit, earlier, evaluation, signature, after, still)


def _with_run(
    kit: Kit,
    earlier: Earlier,
    evaluation: EvaluationSpec,
    signature: Signature,
    after: Iterator[Scored],
    still: Still,
) -> Told:
    basis, matching = basis_with(earlier, signature), Matching()
    pairs = matching.pairs(_before(kit, earlier, still), after)
    changes = _counted(basis, evaluation, pairs)
    version = earlier.version
    told: Told = {
        "job": earlier.job_id,
        "group": None,
        "model": f"{version.name}:{version.version}",
    }
    return told | _told(changes, matching.missing)


def _with_group(
    kit: Kit,
    job: ClaimedJob,
    evaluation: EvaluationSpec,
    signature: Signature,
    after: Iterator[Scored],
    still: Still,
) -> Told:
    assert evaluation.against is not None
    group = GroupAnswers(kit, job.tenant, evaluation.against, still)
    basis = group.basis(signature)
    if basis is None:  # nothing was answered before: every answer is news
        basis = Basis(labels=bool(signature.labels))
    changes = _counted(basis, evaluation, group.pairs(after, basis), "job")
    only = next(iter(group.versions)) if len(group.versions) == 1 else None
    told: Told = {"job": None, "group": evaluation.against, "model": only}
    return told | _told(changes, group.missing)


def _counted(
    basis: Basis, evaluation: EvaluationSpec, pairs: Iterable[Pair], called: str = "custom_id"
) -> LabelChanges | NumberChanges:
    """``called``: what the custom id of a row is called where one is shown."""
    changes: LabelChanges | NumberChanges
    if basis.labels:
        changes = LabelChanges(evaluation.examples)
    else:
        changes = NumberChanges(evaluation.examples, evaluation.tolerance, basis.outputs)
    for pair in pairs:
        rows = pair[1]

        def name(at: int, rows: Scored = rows) -> Told:
            told: Told = {"row_id": row_id(rows.file, int(rows.positions[at]))}
            for column in _NAMES:
                if column in rows.kept and (value := rows.kept[column][at].as_py()) is not None:
                    told[called if column == "custom_id" else column] = value
            return told

        changes.add(pair, _truth(rows, evaluation), name)
    return changes


def _told(changes: LabelChanges | NumberChanges, missing: int) -> Told:
    rows, disagreed = changes.rows, changes.disagreed
    return {
        "rows": rows,
        "missing": missing,
        "disagreed": disagreed,
        "share": disagreed / rows if rows else None,
        "interval": _interval(disagreed, rows) if rows else None,
        "metrics": None,
        **changes.told(),
    }


def _interval(some: int, rows: int) -> list[float]:
    """Of a share, Wilson's at 95 %."""
    share, per = some / rows, _Z95**2 / rows
    middle = (share + per / 2) / (1 + per)
    half = _Z95 * math.sqrt(share * (1 - share) / rows + per / (4 * rows)) / (1 + per)
    return [max(0.0, middle - half), min(1.0, middle + half)]


def _truth(rows: Scored, evaluation: EvaluationSpec) -> pa.Array | None:
    """What is true of the rows, as text; None where no label was kept beside them."""
    column = rows.kept.get(evaluation.label) if evaluation.label is not None else None
    return None if column is None else column.cast(pa.string())


def _before(kit: Kit, earlier: Earlier, still: Still) -> Iterator[Scored]:
    """The earlier rows; what is wrong with their parts says whose they are."""
    check_output(kit, earlier, still)
    try:
        yield from scored_rows(kit, earlier.plan, earlier.parts, earlier.signature, (), still)
    except NotFound as error:
        says = f"of job {earlier.job_id}, to compare with, {error.message}"
        raise Failed(NotFound(says, code=error.stable_code)) from error
    except InvalidInput as error:
        says = f"the parts of job {earlier.job_id} cannot be read: {error.message}"
        raise Failed(not_comparable(says)) from error


def _columns(plan: Plan, evaluation: EvaluationSpec) -> list[str]:
    """The kept ones that are read: the label, and what rows are called."""
    schema = kept_of(plan)
    kept = [] if schema is None else schema.names
    asked = dict.fromkeys((evaluation.label, *_NAMES))
    return [name for name in asked if name is not None and name in kept]


def _asked(spec: BulkSpec) -> EvaluationSpec:
    assert spec.evaluation is not None
    return spec.evaluation


def _is_group(evaluation: EvaluationSpec) -> bool:
    return evaluation.of_group is not None and evaluation.against == evaluation.of_group
