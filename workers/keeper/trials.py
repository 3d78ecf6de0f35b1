"""Trials: candidates are judged by what came of their jobs, and returned when they cross a limit.

Each trial is looked after in a transaction of its own, by one keeper at a time. What is scored
again is the lowest of all work, and at most so much of it waits; of more inputs than that the
newest are taken. When a trial has ended, what is still queued for its candidate goes back until
nothing of it is live any more: a submit may have looked before the end, and a worker may give a
job back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from storage.clock import random_bits
from storage.database import Database, Transaction
from storage.database.trials import AnsweredTwice, ToScoreAgain
from storage.objects import Objects
from storage.objects.packs import read_slices
from storage.records.errors import NotFound, ObjectCorrupt
from storage.records.ids import uuid7_series
from storage.records.jobs import MIN_PRIORITY, JobKind, NewJob, PackSlice
from storage.records.models import VersionState
from storage.records.packs import PackState
from storage.records.trials import (
    RECENT_JOBS,
    Disagreement,
    Progress,
    Trial,
    TrialState,
    judge,
)
from workers.agreement import agree, shown
from workers.inference.gate import TROUBLE

log = logging.getLogger(__name__)

_MOST_EXAMPLES = 10
_SAME, _DIFFERENT = "s", "d"
_MOST_BYTES = 32 << 20  # of answers that are read at once
_SERVED = (VersionState.READY, VersionState.DEPRECATED)


@dataclass(frozen=True, slots=True)
class TrialsConfig:
    """How soon a bad candidate is found, and how much is scored again."""

    every_s: float = 1.0  # pause between two runs
    most_live: int = 200  # shadows of a trial that wait or run
    newest: int = 400  # answered jobs that are looked at for some to score again
    compare: int = 500  # pairs of answers in one run
    shadow_expires_in_s: float = 600.0  # what was not scored again by then is left
    settle_after_s: float = 60.0  # from its end, if nothing of it is live


@dataclass(frozen=True, slots=True)
class Looked:
    """What one run did."""

    returned: int = 0
    repointed: int = 0
    shadows: int = 0
    compared: int = 0

    @property
    def more(self) -> bool:
        return False  # every trial was looked at

    def with_(self, other: Looked) -> Looked:
        """Both together."""
        return Looked(
            self.returned + other.returned,
            self.repointed + other.repointed,
            self.shadows + other.shadows,
            self.compared + other.compared,
        )


class Trials:
    """See the module."""

    name = "trials"

    def __init__(
        self,
        config: TrialsConfig | None = None,
        *,
        chance: Callable[[int], int] = random_bits,
    ) -> None:
        self.config = config or TrialsConfig()
        self._chance = chance

    def run_once(self, database: Database, objects: Objects) -> Looked:
        with database.read() as tx:
            unsettled = tx.trials.unsettled()
        looked = Looked()
        for trial_id in unsettled:
            try:
                looked = looked.with_(self._look_at(database, objects, trial_id))
            except TROUBLE as trouble:  # of this one: the others have their turn
                log.warning("a trial is looked at later: %s", type(trouble).__name__)
            except Exception:
                log.exception("a trial cannot be looked after")
        return looked

    def _look_at(self, database: Database, objects: Objects, trial_id: str) -> Looked:
        try:
            compared = self._compare(database, objects, trial_id)
        except TROUBLE as trouble:  # what is told by the jobs alone is judged all the same
            log.warning("answers cannot be compared now: %s", type(trouble).__name__)
            compared = Compared(Progress(), Progress())
        with database.begin() as tx:
            trial = tx.trials.hold(trial_id)
            if trial is None:
                return Looked()
            done = self._look_after(tx, trial, compared)
        if trial.state is not TrialState.RUNNING:
            # By itself: jobs are held in the order of their ids, all of a transaction's at once.
            with database.begin() as tx:
                tx.jobs.cancel_arm(trial.shadow_arm_id)
        return done

    def _look_after(self, tx: Transaction, trial: Trial, found: Compared) -> Looked:
        if trial.state is not TrialState.RUNNING:
            return self._wind_up(tx, trial)
        if found.after != trial.progress:  # another keeper has counted them meanwhile
            found = Compared(trial.progress, trial.progress)
        seen = {arm: tx.trials.arm(arm_id) for arm, arm_id in _arms(trial).items()}
        tx.trials.note(
            trial.id,
            seen,
            found.progress,
            compared=found.compared,
            disagreed=found.disagreed,
        )
        recent = found.progress.recent
        reason = _unserved(tx, trial) or judge(
            trial.limits, seen["candidate"], seen["base"], len(recent), recent.count(_DIFFERENT)
        )
        if reason is not None:
            log.warning(
                "%s:%d is returned from %r: %s",
                trial.name,
                trial.candidate_version,
                trial.alias,
                reason,
            )
            tx.trials.end(trial, TrialState.RETURNED, reason)
            return Looked(returned=1, compared=found.compared)
        return Looked(shadows=self._score_again(tx, trial), compared=found.compared)

    def _wind_up(self, tx: Transaction, trial: Trial) -> Looked:
        """It has ended: nothing is left behind."""
        moved = 0 if trial.state is TrialState.PROMOTED else tx.trials.give_back(trial)
        assert trial.ended_at is not None
        live = tx.trials.live(trial.candidate_arm_id, 1) + tx.trials.live(trial.shadow_arm_id, 1)
        if not live and tx.now() - trial.ended_at >= self.config.settle_after_s * 1000:
            tx.trials.settle(trial.id)
        return Looked(repointed=moved)

    def _score_again(self, tx: Transaction, trial: Trial) -> int:
        """New shadows; how many."""
        config = self.config
        if not trial.compares:
            return 0
        room = config.most_live - tx.trials.live(trial.shadow_arm_id, config.most_live)
        if room <= 0:
            return 0
        asked = tx.trials.to_score_again(trial, newest=config.newest, limit=room)
        if asked:
            ids = uuid7_series(len(asked), tx.now(), self._chance(80))
            jobs = [
                self._shadow(trial, one, job_id) for one, job_id in zip(asked, ids, strict=True)
            ]
            tx.jobs.submit(trial.tenant, jobs)
        return len(asked)

    def _shadow(self, trial: Trial, asked: ToScoreAgain, job_id: str) -> NewJob:
        version_id, version = trial.other_version
        return NewJob(
            id=job_id,
            kind=JobKind.INFERENCE,
            model_name=asked.model_name,
            version_id=version_id,
            version=version,
            pool=asked.pool,
            payload=asked.payload,
            priority=MIN_PRIORITY,
            expires_in_ms=int(self.config.shadow_expires_in_s * 1000),
            arm_id=trial.shadow_arm_id,
            shadow_of=asked.job_id,
        )

    def _compare(self, database: Database, objects: Objects, trial_id: str) -> Compared:
        """Both answers of what was scored twice, read before the trial is held: storage may take
        its time."""
        with database.read() as tx:
            trial = tx.trials.get(trial_id)
            if trial is None or not trial.compares or trial.state is not TrialState.RUNNING:
                return Compared(Progress(), Progress())
            pairs = in_bytes(tx.trials.answered_twice(trial, self.config.compare))
            keys = _keys(tx, pairs)
        if not pairs:
            return Compared(trial.progress, trial.progress)
        answers = _answers(objects, keys, pairs)
        return compared(trial, pairs, answers)


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing found, after the progress that it went on from."""

    after: Progress
    progress: Progress
    compared: int = 0
    disagreed: int = 0


def compared(
    trial: Trial, pairs: Sequence[AnsweredTwice], answers: Mapping[PackSlice, Any]
) -> Compared:
    """Pure. What has no two answers counts for nothing: one failed, or was erased."""
    outcomes, differ = "", []
    for pair in pairs:
        own, shadow = answers.get(pair.own), answers.get(pair.shadow)  # type: ignore[arg-type]
        if own is None or shadow is None:
            continue
        same = agree(own, shadow, trial.limits.tolerance)
        outcomes += _SAME if same else _DIFFERENT
        if not same:
            both = (own, shadow) if trial.compared_arm_id == trial.base_arm_id else (shadow, own)
            differ.append(Disagreement(pair.job_id, *map(shown, both)))
    last = pairs[-1]
    examples = (*trial.progress.examples, *differ)[-_MOST_EXAMPLES:]
    recent = (trial.progress.recent + outcomes)[-RECENT_JOBS:]
    progress = Progress(last.finished_at, last.shadow_id, recent, examples)
    return Compared(trial.progress, progress, len(outcomes), len(differ))


def in_bytes(pairs: Sequence[AnsweredTwice]) -> Sequence[AnsweredTwice]:
    """The first of them, as many as may be in memory at once; at least one. A pair that is too
    large by itself is not read."""
    total = 0
    found: list[AnsweredTwice] = []
    for pair in pairs:
        size = sum(one.length_bytes for one in (pair.own, pair.shadow) if one is not None)
        if size > _MOST_BYTES:
            pair, size = replace(pair, own=None, shadow=None), 0
        if found and total + size > _MOST_BYTES:
            break
        total += size
        found.append(pair)
    return found


def _arms(trial: Trial) -> dict[str, str]:
    """The arms that are counted; the candidate's own jobs of a shadow are those nobody sees."""
    return {"base": trial.base_arm_id, "candidate": trial.judged_arm_id}


def _unserved(tx: Transaction, trial: Trial) -> str | None:
    """Why the candidate can take no job, if it cannot."""
    version = tx.models.by_id(trial.candidate_version_id)
    if version is None or version.state not in _SERVED:
        return f"it is {'gone' if version is None else version.state.value}"
    return None


def _keys(tx: Transaction, pairs: Sequence[AnsweredTwice]) -> dict[str, str]:
    """Where the packs of both answers lie."""
    slices = [one for pair in pairs for one in (pair.own, pair.shadow) if one is not None]
    found = {}
    for pack_id in {one.pack_id for one in slices}:
        pack = tx.packs.get(pack_id)
        if pack is not None and pack.state is not PackState.DOOMED:
            found[pack_id] = pack.key
    return found


def _answers(
    objects: Objects, keys: Mapping[str, str], pairs: Sequence[AnsweredTwice]
) -> dict[PackSlice, Any]:
    by_pack: dict[str, list[PackSlice]] = {}
    for pair in pairs:
        for one in (pair.own, pair.shadow):
            if one is not None and one.pack_id in keys:
                by_pack.setdefault(one.pack_id, []).append(one)
    found: dict[PackSlice, Any] = {}
    for pack_id, slices in by_pack.items():
        try:
            texts = read_slices(objects, keys[pack_id], slices)
        except (NotFound, ObjectCorrupt):  # its retention has passed, or it is damaged
            continue
        found.update(zip(slices, map(orjson.loads, texts), strict=True))
    return found
