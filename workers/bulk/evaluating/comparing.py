"""What changed since the rows were scored before: by another bulk job or evaluation over the same
files, or by the jobs of the group whose inputs they are.

Both sides stream side by side, so a million rows take no more memory than a thousand. The answers
before are read as they were stored: nothing is scored again for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from storage.records.bulk import BulkRun, BulkSpec, Part, Plan, row_id
from storage.records.errors import InvalidInput, NotFound
from storage.records.evaluations import EvaluationSpec
from storage.records.jobs import ClaimedJob
from storage.records.signatures import Signature
from workers.bulk.evaluating.asked import Asked, asked_of
from workers.bulk.evaluating.basis import Basis, not_comparable
from workers.bulk.evaluating.earlier import Earlier, basis_with, check_output, earlier_run
from workers.bulk.evaluating.group_answers import GroupAnswers
from workers.bulk.evaluating.intervals import of_share
from workers.bulk.evaluating.judging import Judging
from workers.bulk.evaluating.label_changes import LabelChanges
from workers.bulk.evaluating.matching import Matching, Pair
from workers.bulk.evaluating.number_changes import NumberChanges
from workers.bulk.evaluating.reading import Scored, scored_rows
from workers.bulk.kept import kept_of
from workers.bulk.kit import Failed, Kit, Stopped

Told = dict[str, object]
Still = Callable[[], bool]

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
    asked = asked_of(spec, run.plan.columns, run.plan.files[0].format)
    assert asked is not None
    columns = _columns(run.plan, asked)
    after = scored_rows(kit, run.plan, parts, signature, columns, still)
    if _is_group(evaluation):
        return _with_group(kit, job, evaluation, signature, after, still)
    earlier = earlier_run(kit, job.tenant, evaluation.against, run.plan, still)
    return _with_run(kit, earlier, evaluation, signature, after, asked, still)


def _with_run(
    kit: Kit,
    earlier: Earlier,
    evaluation: EvaluationSpec,
    signature: Signature,
    after: Iterator[Scored],
    asked: Asked,
    still: Still,
) -> Told:
    basis, matching = basis_with(earlier, signature), Matching()
    pairs = matching.pairs(_before(kit, earlier, still), after)
    judging = None
    if asked.label is not None:
        judging = Judging(earlier.signature, signature, partial(asked.column, asked.label))
    changes = _counted(basis, evaluation, pairs, judging)
    version = earlier.version
    told: Told = {
        "job": earlier.job_id,
        "group": None,
        "model": f"{version.name}:{version.version}",
    }
    told |= _told(changes, matching.missing)
    return told | {"metrics": judging and judging.metrics(partial(_look, still))}


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
    changes = _counted(basis, evaluation, group.pairs(after, basis), None, "job")
    only = next(iter(group.versions)) if len(group.versions) == 1 else None
    told: Told = {"job": None, "group": evaluation.against, "model": only}
    return told | _told(changes, group.missing)


def _counted(
    basis: Basis,
    evaluation: EvaluationSpec,
    pairs: Iterable[Pair],
    judging: Judging | None,
    called: str = "custom_id",
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

        changes.add(pair, None if judging is None else judging.add(pair), name)
    return changes


def _told(changes: LabelChanges | NumberChanges, missing: int) -> Told:
    rows, disagreed = changes.rows, changes.disagreed
    interval = of_share(disagreed, rows)
    return {
        "rows": rows,
        "missing": missing,
        "disagreed": disagreed,
        "share": disagreed / rows if rows else None,
        "interval": None if interval is None else list(interval),
        "metrics": None,
        **changes.told(),
    }


def _look(still: Still) -> None:
    if not still():
        raise Stopped


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


def _columns(plan: Plan, asked: Asked) -> list[str]:
    """The kept ones that are read: what the label is told from, and what rows are called."""
    schema = kept_of(plan)
    kept = [] if schema is None else schema.names
    return [name for name in dict.fromkeys((*asked.kept, *_NAMES)) if name in kept]


def _asked(spec: BulkSpec) -> EvaluationSpec:
    assert spec.evaluation is not None
    return spec.evaluation


def _is_group(evaluation: EvaluationSpec) -> bool:
    return evaluation.of_group is not None and evaluation.against == evaluation.of_group
