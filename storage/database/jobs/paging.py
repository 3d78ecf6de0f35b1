"""A page of jobs: which ids are on it, found along an index whatever the filter.

The one place where a query is put together: from tables, because filters come in any combination.
The ids are collected leg by leg, one leg per state asked for, each ordered by its own index and
ended by its own LIMIT, so ten million finished jobs cost no more than ten:

* a live state along the live rows' indexes, a rare end (failed, cancelled, expired) along the
  ends' ``(tenant, state, id)``,
* else a label along the label table, whose rows of one key and value are in id order,
* else a group along the group's index (a request's jobs, few enough to be sorted),
* else a model or the tenant along its index.

What else is asked of a job is looked up by its id, row by row. What a trial scores again is
nobody's to list, and has no labels.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, Table, literal_column, select, union_all

from storage.database.tables import ends, groups, job_labels, live
from storage.database.tables import jobs as j
from storage.database.texts import refuse_nul
from storage.records.jobs import LIVE, JobFilter, JobState

# Where jobs of a state are found. A literal condition: no planner proves a partial index from a
# parameter. The second halves always hold: they let the statement take one index alone.
_BY_STATE: dict[JobState, tuple[Table, str]] = {
    JobState.QUEUED: (live, "live.state = 'queued' AND live.run_deadline_at IS NULL"),
    JobState.RUNNING: (live, "live.state = 'running'"),
    **{
        state: (ends, f"ends.state = '{state}' AND ends.result_pack_id IS NULL")
        for state in (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
    },
}


def page(tenant: str, where: JobFilter, limit: int, after: str | None) -> Subquery:
    """The newest ``limit`` ids that match and are older than ``after``."""
    for key, value in where.metadata.items():
        refuse_nul(key + value, field="metadata")
    legs = [_leg(tenant, where, state, limit, after) for state in sorted(where.states)]
    if not legs:
        return _leg(tenant, where, None, limit, after)
    merged = union_all(*(select(leg.c.id) for leg in legs)).subquery()
    return select(merged.c.id).order_by(merged.c.id.desc()).limit(limit).subquery()


def _leg(
    tenant: str, where: JobFilter, state: JobState | None, limit: int, after: str | None
) -> Subquery:
    labels = list(where.metadata.items())
    leg: Select[Any]
    place: ColumnElement[str]
    if state in _BY_STATE and where.group_id is None:
        table, condition = _BY_STATE[state]
        place = table.c.id
        leg = select(place.label("id")).where(table.c.tenant == tenant, literal_column(condition))
        leg = leg.where(table.c.shadow_of.is_(None))
        state = None
        if where.kind or where.model_name or where.version is not None:
            leg = leg.join(j, j.c.id == place)
    elif labels and where.group_id is None:
        (key, value), *labels = labels
        place = job_labels.c.job_id
        leg = select(place.label("id")).join(j, j.c.id == place)
        leg = leg.where(
            job_labels.c.tenant == tenant, job_labels.c.key == key, job_labels.c.value == value
        )
    else:
        place = j.c.id
        leg = select(place.label("id")).where(_is_tenants(tenant, where), j.c.shadow_of.is_(None))
    for key, value in labels:
        leg = leg.where(_has_label(tenant, key, value, place))
    leg = leg.where(*_conditions(where))
    if state is not None:
        leg = leg.where(_is_in(state, place))
    if after is not None:
        leg = leg.where(place < after)
    return leg.order_by(place.desc()).limit(limit).subquery()


def _is_tenants(tenant: str, where: JobFilter) -> ColumnElement[bool]:
    """For a group the tenant is asked of the group, lest the tenant's index be walked."""
    if where.group_id is None:
        return j.c.tenant == tenant
    owned = select(groups.c.id).where(groups.c.id == where.group_id, groups.c.tenant == tenant)
    return owned.exists()


def _is_in(state: JobState, place: ColumnElement[str]) -> ColumnElement[bool]:
    """Asked of the one row, after the rest: a subquery for its value is never made a join."""
    table = live if state in LIVE else ends
    found = select(table.c.state).where(table.c.id == place).scalar_subquery()
    return found == state.value


def _has_label(tenant: str, key: str, value: str, place: ColumnElement[str]) -> ColumnElement[bool]:
    label = job_labels.alias()
    found = select(label.c.value).where(
        label.c.tenant == tenant,
        label.c.key == key,
        label.c.value == value,
        label.c.job_id == place,
    )
    return found.scalar_subquery().is_not(None)


def _conditions(where: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if where.kind is not None:
        conditions.append(j.c.kind == where.kind.value)
    if where.model_name is not None:
        conditions.append(j.c.model_name == where.model_name)
    if where.version is not None:
        conditions.append(j.c.version == where.version)
    if where.group_id is not None:
        conditions.append(j.c.group_id == where.group_id)
    return conditions
