"""The rest of a version's life: what is said of it later, who needs it, its end, its artifact's.

Who is about to write what depends on a version (an alias, a trial) holds it before
(``Models.hold_pointable``); ``delete`` takes it for itself before it looks. So of the two whoever
comes first is seen by the other. A submit holds nothing: a job may be written for a version that
was deleted since it was looked up, and is answered, because the artifact outlives the version
(``due``, ``collect``).
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from storage.database.models import Models
from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import storable
from storage.database.trials import Trials
from storage.records.errors import Conflict
from storage.records.lineage import Dependents, Part, Stay, check_unused
from storage.records.models import ModelRef, ModelVersion, VersionState, check_there
from storage.records.training import parent_of
from storage.records.trials import TrialKind, TrialState

OWN = Statement(
    "One version by its number, which is nobody else's until this transaction ends.",
    """
    SELECT v.id FROM versions AS v
    WHERE v.tenant = :tenant AND v.name = :name AND v.version = :number {own}
    """,
)

EDIT = Statement(
    "What is said of a version, and whether it is deprecated.",
    "UPDATE versions SET state = :state, licence = :licence, notes = :notes WHERE id = :id",
)

DELETE = Statement(
    "A version is a record only.",
    "UPDATE versions SET state = 'deleted', deleted_at = :now WHERE id = :id",
)

ALIASES = Statement(
    "The aliases that stand for a version.",
    """
    SELECT a.alias FROM aliases AS a
    WHERE a.tenant = :tenant AND a.name = :name AND a.version = :number ORDER BY a.alias
    """,
)

_QUEUED = "l.state = 'queued' AND l.run_deadline_at IS NULL"  # as the index has it

JOBS = Statement(
    "How many live jobs a version has.",
    f"""
    SELECT
        (SELECT count(*) FROM live AS l
            WHERE l.tenant = :tenant AND {_QUEUED} AND l.version_id = :version_id) AS queued,
        (SELECT count(*) FROM live AS l
            WHERE l.tenant = :tenant AND l.state = 'running' AND l.version_id = :version_id)
        AS running
    """,
)

TRAININGS = Statement(
    "Trainings of a tenant that have no model yet, with what they are to do.",
    """
    SELECT l.id, p.body
    FROM versions AS v JOIN training_runs AS r ON r.version_id = v.id
        JOIN live AS l ON l.id = r.job_id JOIN payloads AS p ON p.job_id = r.job_id
    WHERE v.state = 'training' AND v.tenant = :tenant ORDER BY l.id
    """,
)

CHILDREN = Statement(
    "Versions whose origin may name one.",
    """
    SELECT v.name, v.version, v.origin FROM versions AS v
    WHERE v.tenant = :tenant AND v.origin LIKE :like ORDER BY v.name, v.version
    """,
)

STAYS = Statement(
    "When aliases stood for a version, oldest first.",
    """
    SELECT m.alias, m.generation, m.moved_at AS since, n.moved_at AS until, n.to_version AS after,
        m.why, m.gate, m.note, m.moved_by
    FROM alias_moves AS m LEFT JOIN alias_moves AS n ON n.tenant = m.tenant AND n.name = m.name
        AND n.alias = m.alias AND n.generation = m.generation + 1
    WHERE m.tenant = :tenant AND m.name = :name AND m.to_version = :number
    ORDER BY m.moved_at, m.alias, m.generation
    """,
)

PARTS = Statement(
    "The trials that a version took part in, newest first.",
    """
    SELECT t.id, t.alias, t.kind, t.base_version_id, t.base_version, t.candidate_version_id,
        t.candidate_version, t.share, t.state, t.reason, t.created_at, t.ended_at
    FROM trials AS t
    WHERE t.tenant = :tenant AND t.name = :name
        AND (t.base_version_id = :version_id OR t.candidate_version_id = :version_id)
    ORDER BY t.created_at DESC, t.id DESC LIMIT :limit
    """,
)

_IDLE = f"""
    (SELECT l.id FROM live AS l WHERE l.tenant = v.tenant AND {_QUEUED} AND l.version_id = v.id
        LIMIT 1) IS NULL
    AND (SELECT l.id FROM live AS l WHERE l.tenant = v.tenant AND l.state = 'running'
        AND l.version_id = v.id LIMIT 1) IS NULL
"""

DUE = Statement(
    "Versions that were deleted long ago and have no live job, the longest deleted first.",
    f"""
    SELECT v.id, v.tenant, v.object_key FROM versions AS v
    WHERE v.collected_at IS NULL AND v.deleted_at IS NOT NULL AND v.deleted_at <= :before
        AND {_IDLE}
    ORDER BY v.deleted_at LIMIT :limit
    """,
)

HOLD_DELETED = Statement(
    "The deleted versions of an artifact, which stay as they are until this transaction ends.",
    """
    SELECT j.id FROM versions AS j
    WHERE j.tenant = :tenant AND j.object_key = :key AND j.deleted_at IS NOT NULL
    ORDER BY j.id {lock}
    """,
)

COLLECT = Statement(
    "A deleted version needs its artifact no more, if it still has no live job.",
    f"""
    UPDATE versions SET collected_at = :now WHERE id = (
        SELECT v.id FROM versions AS v
        WHERE v.id = :version_id AND v.collected_at IS NULL AND v.deleted_at IS NOT NULL
            AND {_IDLE})
    """,
)

NEEDED = Statement(
    "Whether a version needs an artifact. By itself: what a push that was waited for wrote is seen"
    " by a statement that begins after the hold.",
    """
    SELECT v.id FROM versions AS v
    WHERE v.tenant = :tenant AND v.object_key = :key AND v.collected_at IS NULL LIMIT 1
    """,
)


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to be said of a version from now on. None: as it is; an empty text: nothing."""

    licence: str | None = None
    notes: str | None = None
    deprecated: bool | None = None


@dataclass(frozen=True, slots=True)
class DueArtifact:
    """A deleted version whose artifact may go."""

    version_id: str
    tenant: str
    object_key: str  # empty: it never had one


class Lifecycle(Store):
    """What becomes of versions after they were pushed or trained."""

    def edit(self, tenant: str, name: str, version: int, edit: Edit) -> ModelVersion:
        """The version after the edit. ``NotFound`` as ``Models.resolve``; ``Gone`` with code
        ``version_deleted``; ``Conflict`` with ``version_not_ready`` where something that is
        neither ready nor deprecated is to become one of the two."""
        found = self._own(tenant, name, version)
        check_there(found, field="version")
        state = found.state
        if edit.deprecated is not None:
            state = VersionState.DEPRECATED if edit.deprecated else VersionState.READY
            if found.state not in (VersionState.READY, VersionState.DEPRECATED):
                raise Conflict(
                    f"{name}:{version} is {found.state.value}: only a ready version can be"
                    " deprecated, and only a deprecated one restored",
                    code="version_not_ready",
                    field="state",
                )
        self._work.count(
            EDIT,
            id=found.id,
            state=state.value,
            licence=_said(edit.licence, found.licence),
            notes=_said(edit.notes, found.notes),
        )
        return self._again(found)

    def delete(self, tenant: str, name: str, version: int) -> ModelVersion:
        """The version, which is a record only from now on; unchanged when it was before.

        ``NotFound`` as ``Models.resolve``. ``Conflict`` with code ``version_in_training`` for one
        that its job is still to fill in, ``version_in_use`` as ``check_unused`` has it.
        """
        found = self._own(tenant, name, version)
        if found.state is VersionState.DELETED:
            return found
        if found.state is VersionState.TRAINING:
            raise Conflict(
                f"{name}:{version} is still in training: cancel its job first",
                code="version_in_training",
                field="version",
            )
        check_unused(found, self.dependents(found))
        self._work.count(DELETE, id=found.id)
        return self._again(found)

    def dependents(self, version: ModelVersion) -> Dependents:
        """Who needs the version now, and what was made from it."""
        work, tenant = self._work, version.tenant
        named = {"tenant": tenant, "name": version.name, "number": version.version}
        jobs = work.row(JOBS, tenant=tenant, version_id=version.id)
        assert jobs is not None
        trials = Trials(work).on_version(version.id)
        trainings = work.rows(TRAININGS, tenant=tenant)
        ref = f"{version.name}:{version.version}"
        children = work.rows(CHILDREN, tenant=tenant, like=f'%"{ref}"%')
        return Dependents(
            aliases=tuple(row.alias for row in work.rows(ALIASES, **named)),
            queued=jobs.queued,
            running=jobs.running,
            trials=tuple(one.id for one in trials),
            trainings=tuple(row.id for row in trainings if parent_of(row.body) == version.id),
            children=tuple(
                f"{row.name}:{row.version}"
                for row in children
                if ref in orjson.loads(row.origin).get("parents", ())
            ),
        )

    def stays(self, version: ModelVersion) -> list[Stay]:
        """When aliases stood for it, oldest first."""
        rows = self._work.rows(
            STAYS, tenant=version.tenant, name=version.name, number=version.version
        )
        return [Stay(*row) for row in rows]

    def parts(self, version: ModelVersion, limit: int = 100) -> list[Part]:
        """The newest trials that it took part in, newest first."""
        rows = self._work.rows(
            PARTS,
            tenant=version.tenant,
            name=version.name,
            version_id=version.id,
            limit=limit,
        )
        parts = []
        for row in rows:
            is_candidate = row.candidate_version_id == version.id
            parts.append(
                Part(
                    row.id,
                    row.alias,
                    TrialKind(row.kind),
                    is_candidate,
                    row.base_version if is_candidate else row.candidate_version,
                    row.share,
                    TrialState(row.state),
                    row.reason,
                    row.created_at,
                    row.ended_at,
                )
            )
        return parts

    def due(self, older_than_ms: int, limit: int = 100) -> list[DueArtifact]:
        """Versions that were deleted so long ago and that no live job is for, nor a training that
        is to begin with one."""
        before = self._work.now() - older_than_ms
        rows = self._work.rows(DUE, before=before, limit=limit)
        begun_with: set[str | None] = set()
        for tenant in sorted({row.tenant for row in rows}):
            trainings = self._work.rows(TRAININGS, tenant=tenant)
            begun_with |= {parent_of(row.body) for row in trainings}
        return [DueArtifact(*row) for row in rows if row.id not in begun_with]

    def collect(self, due: DueArtifact) -> tuple[bool, bool]:
        """The version needs its artifact no more: whether that is so since now, and whether the
        caller is to delete the object, before it commits. Until then no push of the same bytes
        goes on (``hold_deleted``)."""
        work = self._work
        named = {"tenant": due.tenant, "key": due.object_key}
        work.change(HOLD_DELETED, **named)
        if not work.count(COLLECT, version_id=due.version_id):
            return False, False
        return True, bool(due.object_key) and work.row(NEEDED, **named) is None

    def hold_deleted(self, tenant: str, object_key: str) -> bool:
        """Whether deleted versions have this artifact. If so nobody collects it from now until
        this transaction ends; it may have been before, so look whether it is there."""
        return bool(self._work.change(HOLD_DELETED, tenant=tenant, key=object_key))

    def _own(self, tenant: str, name: str, version: int) -> ModelVersion:
        self._work.change(OWN, tenant=tenant, name=name, number=version)
        named = ModelRef(name, version=version)
        return Models(self._work).resolve(tenant, named, only_shown=True)

    def _again(self, version: ModelVersion) -> ModelVersion:
        found = Models(self._work).by_id(version.id)
        assert found is not None
        return found


def _said(new: str | None, old: str | None) -> str | None:
    return old if new is None else storable(new) or None
