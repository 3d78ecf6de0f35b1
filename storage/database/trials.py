"""Trials: started and ended here, looked after by a keeper, and given up by whoever finds that the
candidate cannot be served.

Whoever changes a trial holds its row first, then jobs by id, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson
from sqlalchemy import Row

from storage.database.job_rows import payload_of, slice_of
from storage.database.jobs.repointing import MOST, Repointing
from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import storable
from storage.records.errors import Conflict
from storage.records.ids import FIRST_ID, is_id
from storage.records.jobs import Millis, PackSlice
from storage.records.trials import (
    RECENT_JOBS,
    ArmSeen,
    Progress,
    Trial,
    TrialKind,
    TrialState,
    limits_from_json,
    limits_to_json,
    p95,
    progress_from_json,
    progress_to_json,
)

_NAMES = tuple(one.name for one in fields(Trial))  # the table's columns
_TRIAL = ", ".join(f"j.{name}" for name in _NAMES)
TRIED = ", ".join(f"j.{name} AS trial_{name}" for name in _NAMES)  # beside a version's columns

START = Statement(
    "A trial begins, unless one runs on this alias.",
    """
    INSERT INTO trials (id, tenant, name, alias, kind, base_version_id, base_version,
        candidate_version_id, candidate_version, base_arm_id, candidate_arm_id, shadow_arm_id,
        share, limits, state, started_by, created_at, repointed, compared, disagreed)
    VALUES (:id, :tenant, :name, :alias, :kind, :base_id, :base_version, :candidate_id,
        :candidate_version, :base_arm, :candidate_arm, :shadow_arm, :share, :limits, 'running',
        :started_by, :now, 0, 0, 0)
    """,
)

GET = Statement("One trial.", f"SELECT {_TRIAL} FROM trials AS j WHERE j.id = :id")

RUNNING = Statement(
    "The trial that runs on an alias, held until this transaction ends.",
    f"""
    SELECT {_TRIAL} FROM trials AS j
    WHERE j.tenant = :tenant AND j.name = :name AND j.alias = :alias AND j.state = 'running' {{own}}
    """,
)

OF_ALIAS = Statement(
    "The trials of an alias, the newest first.",
    f"""
    SELECT {_TRIAL} FROM trials AS j
    WHERE j.tenant = :tenant AND j.name = :name AND j.alias = :alias
    ORDER BY j.created_at DESC, j.id DESC LIMIT :limit
    """,
)

FORGET = Statement(
    "Answers that trials showed which have ended that long ago.",
    "UPDATE trials SET progress = NULL WHERE ended_at < :before AND progress IS NOT NULL",
)

UNSETTLED = Statement(
    "Trials that somebody has to look after.",
    "SELECT j.id FROM trials AS j WHERE j.settled_at IS NULL ORDER BY j.id",
)

HOLD = Statement(
    "One of them, unless somebody else looks after it at this moment.",
    f"SELECT {_TRIAL} FROM trials AS j WHERE j.id = :id AND j.settled_at IS NULL {{lock_free}}",
)

OF_CANDIDATE = Statement(
    "Unsettled trials of a candidate, held until this transaction ends.",
    f"""
    SELECT {_TRIAL} FROM trials AS j
    WHERE j.settled_at IS NULL AND j.candidate_version_id = :version ORDER BY j.id {{lock}}
    """,
)

ON_VERSION = Statement(
    "Running trials that need a version.",
    f"""
    SELECT {_TRIAL} FROM trials AS j
    WHERE j.settled_at IS NULL AND j.state = 'running'
        AND (j.candidate_version_id = :version OR j.base_version_id = :version)
    ORDER BY j.id
    """,
)

END = Statement(
    "A trial ends, once.",
    """
    UPDATE trials SET state = :state, reason = :reason, ended_at = :now
    WHERE id = :id AND state = 'running'
    """,
)

SEEN = Statement(
    "What was counted of it.",
    """
    UPDATE trials SET seen = :seen, progress = :progress, compared = compared + :compared,
        disagreed = disagreed + :disagreed
    WHERE id = :id
    """,
)

REPOINTED = Statement(
    "So many of its jobs went back to the base.",
    "UPDATE trials SET repointed = repointed + :moved WHERE id = :id",
)

SETTLED = Statement(
    "Nothing is left to do of it.",
    "UPDATE trials SET settled_at = :now WHERE id = :id AND ended_at IS NOT NULL",
)

LAST_OF_ARM = Statement(
    "What became of the last jobs of an arm, of which the version can help what they came to.",
    """
    SELECT e.state, e.finished_at - e.started_at AS took_ms FROM ends AS e
    WHERE e.arm_id = :arm AND e.state IN ('succeeded', 'failed')
        AND COALESCE(e.error_code, '') <> 'lost'
    ORDER BY e.finished_at DESC LIMIT :limit
    """,
)

LIVE_OF_ARM = Statement(
    "Live jobs of an arm, counted no further than the cap.",
    """
    SELECT count(*) AS jobs FROM (
        SELECT 1 FROM live AS l WHERE l.arm_id = :arm LIMIT :cap
    ) AS counted
    """,
)

# Of more than can be scored again the newest: a trial is about what comes in now.
UNSHADOWED = Statement(
    "The newest answered jobs of an arm that were not scored again, with their inputs.",
    """
    SELECT few.id, n.model_name, n.pool, p.body, p.pack_id, p.offset_bytes, p.length_bytes, p.digest
    FROM (
        SELECT id FROM ends WHERE arm_id = :arm AND result_pack_id IS NOT NULL
        ORDER BY finished_at DESC LIMIT :newest
    ) AS few
    JOIN jobs AS n ON n.id = few.id
    JOIN payloads AS p ON p.job_id = few.id
    WHERE (SELECT s.id FROM jobs AS s WHERE s.shadow_of = few.id) IS NULL
    LIMIT :limit
    """,
)

ANSWERED_TWICE = Statement(
    "Shadows that are over, after the one compared last, with both answers' places.",
    """
    SELECT few.id, few.finished_at, s.shadow_of, few.result_pack_id, few.result_offset_bytes,
        few.result_length_bytes, few.result_digest, o.result_pack_id AS own_pack_id,
        o.result_offset_bytes AS own_offset_bytes, o.result_length_bytes AS own_length_bytes,
        o.result_digest AS own_digest
    FROM (
        SELECT * FROM ends WHERE arm_id = :arm AND finished_at >= :at
            AND (finished_at > :at OR id > :last)
            AND finished_at <= :now - CAST(:rest AS bigint)
        ORDER BY finished_at, id LIMIT :limit
    ) AS few
    JOIN jobs AS s ON s.id = few.id
    LEFT JOIN ends AS o ON o.id = s.shadow_of
    ORDER BY few.finished_at, few.id
    """,
)

_REST_MS = 1_000  # a commit may come a moment after the time that it writes


@dataclass(frozen=True, slots=True)
class ToScoreAgain:
    """An answered job, and what it was asked."""

    job_id: str
    model_name: str
    pool: str
    payload: bytes | PackSlice


@dataclass(frozen=True, slots=True)
class AnsweredTwice:
    """A shadow that is over. An answer is None where there is none, or the job was erased."""

    shadow_id: str
    finished_at: Millis
    job_id: str
    own: PackSlice | None
    shadow: PackSlice | None


class Trials(Store):
    """Candidates beside what aliases stand for."""

    def start(self, trial: Trial) -> Trial:
        """Write it; its time is set here. ``Conflict`` with code ``trial_running`` when one runs on
        this alias."""
        work = self._work
        running = self.running(trial.tenant, trial.name, trial.alias)
        if running is not None:
            raise _runs(running)
        try:
            work.count(
                START,
                id=trial.id,
                tenant=trial.tenant,
                name=trial.name,
                alias=trial.alias,
                kind=trial.kind.value,
                base_id=trial.base_version_id,
                base_version=trial.base_version,
                candidate_id=trial.candidate_version_id,
                candidate_version=trial.candidate_version,
                base_arm=trial.base_arm_id,
                candidate_arm=trial.candidate_arm_id,
                shadow_arm=trial.shadow_arm_id,
                share=trial.share,
                limits=orjson.dumps(limits_to_json(trial.limits)).decode(),
                started_by=trial.started_by,
                now=work.now(),
            )
        except Conflict:
            raise _runs(trial) from None
        started = self.get(trial.id, tenant=trial.tenant)
        assert started is not None
        return started

    def get(self, trial_id: str, *, tenant: str | None = None) -> Trial | None:
        """The trial, if it is this tenant's."""
        row = self._work.row(GET, id=trial_id) if is_id(trial_id) else None
        return None if row is None or tenant not in (None, row.tenant) else trial_of(row)

    def running(self, tenant: str, name: str, alias: str) -> Trial | None:
        """The one that runs on this alias, in this transaction's hands."""
        rows = self._work.change(RUNNING, tenant=tenant, name=name, alias=alias)
        return trial_of(rows[0]) if rows else None

    def of_alias(self, tenant: str, name: str, alias: str, limit: int) -> list[Trial]:
        """An alias's, the newest first."""
        rows = self._work.rows(OF_ALIAS, tenant=tenant, name=name, alias=alias, limit=limit)
        return [trial_of(row) for row in rows]

    def forget(self, before: Millis) -> int:
        """The answers that were shown of trials which ended before then are kept no longer."""
        return self._work.count(FORGET, before=before)

    def on_version(self, version_id: str) -> list[Trial]:
        """Running ones that need this version."""
        return [trial_of(row) for row in self._work.rows(ON_VERSION, version=version_id)]

    def end(self, trial: Trial, state: TrialState, reason: str) -> bool:
        """It ends; False when it had ended before. Unless the candidate was promoted, the jobs
        that are queued for it go to the base, up to ``MOST`` in one statement; a keeper does the
        rest."""
        work = self._work
        ended = work.count(END, id=trial.id, state=state.value, reason=storable(reason)) == 1
        if ended and state is not TrialState.PROMOTED:
            self.give_back(trial)
        return ended

    def give_back(self, trial: Trial) -> int:
        """Jobs that are queued for the candidate of a trial that ended go to the base; how many."""
        moved = Repointing(self._work).repoint_arm(
            trial.candidate_arm_id,
            trial.candidate_version_id,
            trial.base_version_id,
            trial.base_version,
        )
        if moved:
            self._work.count(REPOINTED, id=trial.id, moved=moved)
        return moved

    def give_up(self, version_id: str, reason: str) -> None:
        """A version cannot be served: its trials end, and no job that is queued for it as a
        candidate fails for that. In the transaction that would fail the others."""
        for row in self._work.change(OF_CANDIDATE, version=version_id):
            trial = trial_of(row)
            if trial.state is TrialState.RUNNING:
                self._work.count(
                    END, id=trial.id, state=TrialState.RETURNED.value, reason=storable(reason)
                )
            if trial.state is not TrialState.PROMOTED:
                while self.give_back(trial) == MOST:
                    pass

    def alias_moved(self, tenant: str, name: str, alias: str, to_version: int) -> None:
        """An alias moved, in this transaction: a trial on it is over, unless it was only put where
        it stood."""
        trial = self.running(tenant, name, alias)
        if trial is None or to_version == trial.base_version:
            return
        if to_version == trial.candidate_version:
            self.end(trial, TrialState.PROMOTED, f"{alias!r} stands for version {to_version}")
        else:
            self.end(trial, TrialState.STOPPED, f"{alias!r} was moved to version {to_version}")

    # --- what a keeper does

    def unsettled(self) -> list[str]:
        """Ids of those that somebody has to look after."""
        return [row.id for row in self._work.rows(UNSETTLED)]

    def hold(self, trial_id: str) -> Trial | None:
        """The trial, in this transaction's hands; None when somebody else has it, or nothing is
        left to do."""
        rows = self._work.change(HOLD, id=trial_id)
        return trial_of(rows[0]) if rows else None

    def arm(self, arm_id: str) -> ArmSeen:
        """What became of its last jobs."""
        jobs, failed, took_ms = 0, 0, []
        for row in self._work.rows(LAST_OF_ARM, arm=arm_id, limit=RECENT_JOBS):
            if row.state == "succeeded":
                took_ms.append(float(row.took_ms or 0))
            else:
                failed += 1
            jobs += 1
        return ArmSeen(jobs, failed, p95(took_ms))

    def live(self, arm_id: str, cap: int) -> int:
        """Its live jobs, counted no further than ``cap``."""
        row = self._work.row(LIVE_OF_ARM, arm=arm_id, cap=cap)
        return row.jobs if row else 0

    def to_score_again(self, trial: Trial, *, newest: int, limit: int) -> list[ToScoreAgain]:
        """Of its ``newest`` answered jobs up to ``limit`` that were not scored again."""
        rows = self._work.rows(UNSHADOWED, arm=trial.compared_arm_id, newest=newest, limit=limit)
        return [
            ToScoreAgain(row.id, row.model_name, row.pool, payload_of(*list(row)[3:]))
            for row in rows
        ]

    def answered_twice(self, trial: Trial, limit: int) -> list[AnsweredTwice]:
        """Up to ``limit`` shadows that are over and were not compared yet, in their order."""
        rows = self._work.rows(
            ANSWERED_TWICE,
            arm=trial.shadow_arm_id,
            at=trial.progress.at,
            last=trial.progress.id or FIRST_ID,
            rest=_REST_MS,
            limit=limit,
        )
        return [
            AnsweredTwice(
                row.id,
                row.finished_at,
                row.shadow_of,
                slice_of(*list(row)[7:11]),
                slice_of(*list(row)[3:7]),
            )
            for row in rows
        ]

    def note(
        self,
        trial_id: str,
        seen: Mapping[str, ArmSeen],
        progress: Progress,
        *,
        compared: int = 0,
        disagreed: int = 0,
    ) -> None:
        """Keep what was counted."""
        self._work.count(
            SEEN,
            id=trial_id,
            seen=orjson.dumps({arm: asdict(one) for arm, one in seen.items()}).decode(),
            progress=orjson.dumps(progress_to_json(progress)).decode(),
            compared=compared,
            disagreed=disagreed,
        )

    def settle(self, trial_id: str) -> None:
        """Nothing of it is live any more."""
        self._work.count(SETTLED, id=trial_id)


def trial_of(row: Row[Any], prefix: str = "") -> Trial:
    """The record of a row selected with ``TRIED``, or as here."""
    told = {name: getattr(row, prefix + name) for name in _NAMES}
    seen, progress = told["seen"], told["progress"]
    return Trial(
        **{
            **told,
            "kind": TrialKind(told["kind"]),
            "state": TrialState(told["state"]),
            "limits": limits_from_json(orjson.loads(told["limits"])),
            "seen": {arm: ArmSeen(**one) for arm, one in orjson.loads(seen).items()}
            if seen
            else {},
            "progress": progress_from_json(orjson.loads(progress)) if progress else Progress(),
        }
    )


def _runs(trial: Trial) -> Conflict:
    return Conflict(
        f"a trial runs on {trial.name}@{trial.alias} already: stop it, or promote its candidate",
        code="trial_running",
        field="alias",
    )
