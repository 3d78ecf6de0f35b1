"""Models: versions that never change, and aliases that move atomically."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import storable
from storage.database.trials import TRIED, trial_of
from storage.records.errors import Conflict, NotFound
from storage.records.ids import is_id
from storage.records.models import (
    Model,
    ModelFormat,
    ModelRef,
    ModelVersion,
    NewVersion,
    VersionState,
    check_pointable,
    check_there,
)
from storage.records.training_runs import TrainedVersion
from storage.records.trials import Trial

_VERSION = """
    v.id, v.tenant, v.name, v.version, v.state, v.format, v.digest, v.size_bytes, v.object_key,
    v.signature, v.trusted, v.error, v.created_at, v.loaded_at, v.origin, v.uploader, v.licence,
    v.notes, v.deleted_at, v.collected_at
"""

NEXT_NUMBER = Statement(
    "The next version number of a name; concurrent pushes of one name wait for each other here.",
    """
    INSERT INTO models (tenant, name, latest_version, created_at)
    VALUES (:tenant, :name, 1, :now)
    ON CONFLICT (tenant, name) DO UPDATE SET latest_version = models.latest_version + 1
    RETURNING latest_version
    """,
)

PUSH = Statement(
    "A version under its number.",
    """
    INSERT INTO versions (id, tenant, name, version, state, format, digest, size_bytes,
        object_key, signature, trusted, created_at, uploader, licence, notes)
    VALUES (:id, :tenant, :name, :version, 'pending', :format, :digest, :size_bytes,
        :object_key, :signature, :trusted, :now, :uploader, :licence, :notes)
    """,
)

RESERVE = Statement(
    "A number of a name, for what a training will make of it.",
    """
    INSERT INTO versions (id, tenant, name, version, state, format, digest, size_bytes,
        object_key, signature, trusted, created_at, uploader)
    VALUES (:id, :tenant, :name, :version, 'training', 'keras', '', 0, '', '{{}}', :trusted, :now,
        'training')
    """,
)

FILL_IN = Statement(
    "A training is over: its version has an artifact, which a worker is to load.",
    """
    UPDATE versions SET state = 'pending', digest = :digest, size_bytes = :size_bytes,
        object_key = :object_key, signature = :signature, origin = :origin
    WHERE id = :id AND state = 'training'
    """,
)

ABANDON = Statement(
    "Trainings that are over have no artifact for their versions.",
    """
    UPDATE versions SET state = 'broken', error = :error
    WHERE id {among_ids} AND state || '' = 'training'
    """,
)

# A submit writes version, run and live job in one transaction, and a job that is queued again never
# leaves ``live``: so a version without a live job is nobody's, however young it is.
ORPHANS = Statement(
    "Versions in training whose job is over.",
    """
    WITH held AS MATERIALIZED (
        SELECT j.id, (SELECT r.job_id FROM training_runs AS r WHERE r.version_id = j.id LIMIT 1)
            AS job_id
        FROM versions AS j
        WHERE j.state = 'training' AND (
            SELECT l.id FROM training_runs AS t JOIN live AS l ON l.id = t.job_id
            WHERE t.version_id = j.id LIMIT 1) IS NULL
        LIMIT :limit {lock_free}
    )
    UPDATE versions SET state = 'broken', error = COALESCE(
        'training job ' || CAST(held.job_id AS text) || ' is over and left no model',
        'the training job that was to fill it in is gone')
    FROM held WHERE versions.id = held.id AND versions.state || '' = 'training'
    """,
)

BY_ID = Statement("One version.", f"SELECT {_VERSION} FROM versions AS v WHERE v.id = :id")

BY_NUMBER = Statement(
    "One version by its number.",
    f"""
    SELECT {_VERSION} FROM versions AS v
    WHERE v.tenant = :tenant AND v.name = :name AND v.version = :version
    """,
)

BY_ALIAS = Statement(
    "The version that an alias stands for now.",
    f"""
    SELECT {_VERSION} FROM aliases AS a JOIN versions AS v
        ON v.tenant = a.tenant AND v.name = a.name AND v.version = a.version
    WHERE a.tenant = :tenant AND a.name = :name AND a.alias = :alias
    """,
)

BY_ALIAS_TRIED = Statement(
    "The version that an alias stands for now, and the trial that runs on it, if one does.",
    f"""
    SELECT {_VERSION}, {TRIED} FROM aliases AS a
        JOIN versions AS v ON v.tenant = a.tenant AND v.name = a.name AND v.version = a.version
        LEFT JOIN trials AS j ON j.tenant = a.tenant AND j.name = a.name AND j.alias = a.alias
            AND j.state = 'running' AND j.base_version_id = v.id
    WHERE a.tenant = :tenant AND a.name = :name AND a.alias = :alias
    """,
)

LATEST = Statement(
    "The highest version that is not broken, and not in training.",
    f"""
    SELECT {_VERSION} FROM versions AS v
    WHERE v.tenant = :tenant AND v.name = :name AND v.state IN ('pending', 'ready')
    ORDER BY v.version DESC LIMIT 1
    """,
)

VERSIONS = Statement(
    "Every version of a name, newest first.",
    f"""
    SELECT {_VERSION} FROM versions AS v
    WHERE v.tenant = :tenant AND v.name = :name ORDER BY v.version DESC
    """,
)

MODELS = Statement(
    "A page of models by name.",
    """
    SELECT m.tenant, m.name, m.latest_version, m.created_at,
        (SELECT count(*) FROM versions AS v WHERE v.tenant = m.tenant AND v.name = m.name)
        AS versions
    FROM models AS m
    WHERE m.tenant = :tenant AND m.name > :after AND m.name >= :first
    ORDER BY m.name LIMIT :limit
    """,
)

ALIASES = Statement(
    "The aliases of a range of names.",
    """
    SELECT a.name, a.alias, a.version, a.generation, a.updated_at FROM aliases AS a
    WHERE a.tenant = :tenant AND a.name >= :first AND a.name <= :last ORDER BY a.name, a.alias
    """,
)

HOLD = Statement(
    "A version by its number, which nobody deletes until this transaction ends.",
    f"""
    SELECT {_VERSION} FROM versions AS v
    WHERE v.tenant = :tenant AND v.name = :name AND v.version = :version {{share}}
    """,
)

PENDING = Statement(
    "Versions that no worker has loaded yet, oldest first.",
    f"""
    SELECT {_VERSION} FROM versions AS v WHERE v.state = 'pending'
    ORDER BY v.created_at LIMIT :limit
    """,
)

MARK_READY = Statement(
    "A worker loaded it.",
    """
    UPDATE versions SET state = 'ready', loaded_at = :now, signature = :signature
    WHERE id = :id AND state = 'pending'
    """,
)

MARK_BROKEN = Statement(
    "A worker could not load it.",
    "UPDATE versions SET state = 'broken', error = :error WHERE id = :id AND state = 'pending'",
)


BREAK_READY = Statement(
    "It was loaded before, and turned out to harm its workers.",
    """
    UPDATE versions SET state = 'broken', error = :error, loaded_at = NULL
    WHERE id = :id AND state IN ('pending', 'ready', 'deprecated')
    """,
)


class Models(Store):
    """The registry."""

    def push(self, tenant: str, version: NewVersion) -> ModelVersion:
        """Write a version under the next number of its name, ``pending``."""
        work = self._work
        now = work.now()
        number = work.change(NEXT_NUMBER, tenant=tenant, name=version.name, now=now)[0][0]
        work.count(
            PUSH,
            id=version.id,
            tenant=tenant,
            name=version.name,
            version=number,
            format=version.format.value,
            digest=version.digest,
            size_bytes=version.size_bytes,
            object_key=version.object_key,
            signature=orjson.dumps(version.signature).decode(),
            trusted=version.trusted,
            uploader=version.uploader,
            licence=version.licence,
            notes=version.notes,
            now=now,
        )
        row = work.row(BY_ID, id=version.id)
        assert row is not None
        return _version_of(row)

    def reserve(self, tenant: str, version_id: str, name: str) -> ModelVersion:
        """The next number of a name for a training that is submitted in this transaction:
        ``training``, without an artifact."""
        work = self._work
        now = work.now()
        number = work.change(NEXT_NUMBER, tenant=tenant, name=name, now=now)[0][0]
        work.count(
            RESERVE,
            id=version_id,
            tenant=tenant,
            name=name,
            version=number,
            trusted=False,
            now=now,
        )
        row = work.row(BY_ID, id=version_id)
        assert row is not None
        return _version_of(row)

    def fill_in(self, version_id: str, made: TrainedVersion) -> bool:
        """Give a version in training its artifact; ``False`` when it is not in training any
        more. Use ``training.finish``, which looks whether the caller may."""
        return (
            self._work.count(
                FILL_IN,
                id=version_id,
                digest=made.digest,
                size_bytes=made.size_bytes,
                object_key=made.object_key,
                signature=orjson.dumps(made.signature).decode(),
                origin=orjson.dumps(made.origin).decode(),
            )
            == 1
        )

    def abandon(self, version_ids: Sequence[str], error: str) -> int:
        """Versions in training break, as their jobs ended without a model; how many did."""
        ids = self._work.ids(version_ids)
        return self._work.count(ABANDON, ids=ids, error=storable(error))

    def abandon_orphans(self, limit: int = 1000) -> int:
        """Versions in training whose job is over break; how many there were. For the ends that
        nobody saw: cancelled or expired in the queue, lost too often, timed out."""
        return self._work.count(ORPHANS, limit=limit)

    def resolve(self, tenant: str, ref: ModelRef, *, only_shown: bool = False) -> ModelVersion:
        """The version that a reference means now; a bare name means the highest that is neither
        broken nor in training.

        ``NotFound`` says which part is unknown: ``model_not_found``, ``version_not_found`` or
        ``alias_not_found``. ``Conflict`` with code ``version_in_training`` for one that has no
        artifact yet, and ``Gone`` with code ``version_deleted``, unless the caller only shows it.
        """
        work = self._work
        named = {"tenant": tenant, "name": ref.name}
        if ref.version is not None:
            row = work.row(BY_NUMBER, **named, version=ref.version)
        elif ref.alias is not None:
            row = work.row(BY_ALIAS, **named, alias=ref.alias)
        else:
            row = work.row(LATEST, **named)
        if row is not None:
            version = _version_of(row)
            if not only_shown:
                _check_served(version)
            return version
        if self.model(tenant, ref.name) is None:
            raise NotFound(f"there is no model {ref.name!r}", code="model_not_found", field="model")
        if ref.alias is not None:
            raise NotFound(
                f"model {ref.name!r} has no alias {ref.alias!r}",
                code="alias_not_found",
                field="model",
            )
        what = f"version {ref.version}" if ref.version else "version that can be loaded"
        raise NotFound(f"model {ref.name!r} has no {what}", code="version_not_found", field="model")

    def resolve_tried(self, tenant: str, ref: ModelRef) -> tuple[ModelVersion, Trial | None]:
        """The same, for who submits: with the trial that runs on the alias, if it is one."""
        if ref.alias is not None:
            row = self._work.row(BY_ALIAS_TRIED, tenant=tenant, name=ref.name, alias=ref.alias)
            if row is not None:
                version = _version_of(row)
                _check_served(version)
                return version, None if row.trial_id is None else trial_of(row, "trial_")
        return self.resolve(tenant, ref), None

    def by_id(self, version_id: str) -> ModelVersion | None:
        """The version with this id, whoever's it is (for workers)."""
        row = self._work.row(BY_ID, id=version_id) if is_id(version_id) else None
        return None if row is None else _version_of(row)

    def versions(self, tenant: str, name: str) -> list[ModelVersion]:
        """Every version of a name, newest first."""
        rows = self._work.rows(VERSIONS, tenant=tenant, name=name)
        return [_version_of(row) for row in rows]

    def model(self, tenant: str, name: str) -> Model | None:
        """One model."""
        rows = self._work.rows(MODELS, tenant=tenant, after="", first=name, limit=1)
        found = [row for row in rows if row.name == name]
        return self._with_aliases(tenant, found)[0] if found else None

    def _with_aliases(self, tenant: str, rows: Iterable[Row[Any]]) -> list[Model]:
        heads = list(rows)
        aliases: dict[str, dict[str, int]] = {}
        for one in self._work.rows(
            ALIASES, tenant=tenant, first=heads[0].name, last=heads[-1].name
        ):
            aliases.setdefault(one.name, {})[one.alias] = one.version
        return [
            Model(
                row.tenant,
                row.name,
                row.latest_version,
                row.versions,
                aliases.get(row.name, {}),
                row.created_at,
            )
            for row in heads
        ]

    def hold_pointable(self, tenant: str, name: str, version: int) -> ModelVersion:
        """A version that an alias may be pointed at, and nobody deletes until this transaction
        ends. ``NotFound``, or ``Conflict`` that says why it may not be (``check_pointable``)."""
        self._work.change(HOLD, tenant=tenant, name=name, version=version)
        found = self.resolve(tenant, ModelRef(name, version=version))
        check_pointable(found)
        return found

    def pending(self, limit: int) -> list[ModelVersion]:
        """Versions that no worker has loaded yet, of any tenant, oldest first."""
        return [_version_of(row) for row in self._work.rows(PENDING, limit=limit)]

    def mark_ready(self, version_id: str, signature: dict[str, object]) -> bool:
        """A worker loaded it; ``False`` when that was decided before."""
        return (
            self._work.count(
                MARK_READY,
                id=version_id,
                signature=orjson.dumps(signature).decode(),
                now=self._work.now(),
            )
            == 1
        )

    def mark_broken(self, version_id: str, error: str, *, even_ready: bool = False) -> bool:
        """A worker could not load it; ``False`` when that was decided before.

        ``even_ready`` is for what shows only later, such as a version that kills its workers.
        """
        statement = BREAK_READY if even_ready else MARK_BROKEN
        return self._work.count(statement, id=version_id, error=storable(error)) == 1

    def list(self, tenant: str, limit: int, after: str | None = None) -> list[Model]:
        """A page of models by name."""
        rows = self._work.rows(MODELS, tenant=tenant, after=after or "", first="", limit=limit)
        if not rows:
            return []
        return self._with_aliases(tenant, rows)


def _check_served(version: ModelVersion) -> None:
    check_there(version)
    if version.state is VersionState.TRAINING:
        raise Conflict(
            f"{version.name}:{version.version} is still in training: wait until its job is"
            " over, or name another version",
            code="version_in_training",
            field="model",
        )


def _version_of(row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        version=row.version,
        state=VersionState(row.state),
        format=ModelFormat(row.format),
        digest=row.digest,
        size_bytes=row.size_bytes,
        object_key=row.object_key,
        signature=orjson.loads(row.signature),
        trusted=bool(row.trusted),
        error=row.error,
        created_at=row.created_at,
        loaded_at=row.loaded_at,
        origin=None if row.origin is None else orjson.loads(row.origin),
        uploader=row.uploader,
        licence=row.licence,
        notes=row.notes,
        deleted_at=row.deleted_at,
        collected_at=row.collected_at,
    )
