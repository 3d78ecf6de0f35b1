"""Trials for tests, written past the API: two versions of a model, an alias, jobs of the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from storage.database import Database
from storage.objects import Objects
from storage.objects.packs import PackWriter
from storage.records.aliases import Why
from storage.records.jobs import JobError, Outcome, PackSlice, Verdict
from storage.records.models import ModelFormat, NewVersion
from storage.records.packs import NewPack, PackKind
from storage.records.trials import Limits, Trial, TrialKind
from tests.support.database import ALICE, claim, failure, new_id, open_session, submit

NAME, ALIAS = "digits", "prod"
SIGNATURE: dict[str, object] = {"v": 1, "form": "tensor", "inputs": [], "outputs": []}


@dataclass(frozen=True)
class Beside:
    """A trial, and how jobs come to its arms."""

    database: Database
    trial: Trial

    def submit(self, arm: str = "candidate", count: int = 1, **fields: Any) -> list[str]:
        """Jobs of an arm, queued."""
        trial = self.trial
        base = arm == "base"
        return submit(
            self.database,
            trial.tenant,
            count,
            version_id=trial.base_version_id if base else trial.candidate_version_id,
            version=trial.base_version if base else trial.candidate_version,
            arm_id=trial.base_arm_id if base else trial.candidate_arm_id,
            **fields,
        )

    def fail(self, count: int, arm: str = "candidate") -> list[str]:
        """Jobs of an arm that failed."""
        session, ids = open_session(self.database), self.submit(arm, count)
        claimed = claim(self.database, session, ids)
        with self.database.begin() as tx:
            tx.jobs.commit(session, [failure(job) for job in claimed])
        return ids

    def now(self) -> Trial:
        """As it stands."""
        with self.database.read() as tx:
            found = tx.trials.get(self.trial.id)
        assert found is not None
        return found

    def versions(self, ids: list[str]) -> list[int]:
        """What jobs record."""
        with self.database.read() as tx:
            return [job.version for job in tx.jobs.get_many(self.trial.tenant, ids)]


def new_trial(database: Database, tenant: str = ALICE, **fields: Any) -> Trial:
    """Two ready versions, an alias on the first, and what a trial of the second would be."""
    versions = []
    with database.begin() as tx:
        for _ in range(2):
            pushed = tx.models.push(
                tenant, NewVersion(new_id(), NAME, ModelFormat.KERAS, "d", 1, "k", {}, False)
            )
            assert tx.models.mark_ready(pushed.id, SIGNATURE)
            versions.append(pushed)
        one, two = versions
        tx.aliases.move(tenant, NAME, ALIAS, one.version, Why())
    told: dict[str, Any] = {
        "id": new_id(),
        "tenant": tenant,
        "name": NAME,
        "alias": ALIAS,
        "kind": TrialKind.CANARY,
        "base_version_id": one.id,
        "base_version": one.version,
        "candidate_version_id": two.id,
        "candidate_version": two.version,
        "base_arm_id": new_id(),
        "candidate_arm_id": new_id(),
        "shadow_arm_id": new_id(),
        "share": 0.5,
        "limits": Limits(),
    }
    return Trial(**told | fields)


def begin(database: Database, tenant: str = ALICE, **fields: Any) -> Beside:
    """A trial that runs."""
    trial = new_trial(database, tenant, **fields)
    with database.begin() as tx:
        return Beside(database, tx.trials.start(trial))


def answer(database: Database, objects: Objects, answers: Mapping[str, Any]) -> None:
    """These queued jobs end with these answers; None fails."""
    session, pack_id = open_session(database), new_id()
    writer, key = PackWriter(pack_id), f"packs/{pack_id}"
    slices: dict[str, PackSlice] = {}
    for job_id, told in answers.items():
        if told is not None:
            slices[job_id] = writer.add(job_id, orjson.dumps(told))
    data, summary = writer.finish()
    objects.put(key, data)
    with database.begin() as tx:
        tx.packs.open(NewPack(pack_id, ALICE, PackKind.RESULT, key))
        claimed = tx.jobs.claim(session, list(answers))
        assert len(claimed) == len(answers)
        outcomes = [
            Outcome(one.id, one.epoch, Verdict.SUCCEEDED, True, result=slices[one.id])
            if one.id in slices
            else Outcome(one.id, one.epoch, Verdict.FAILED, True, error=JobError("bad", "no"))
            for one in claimed
        ]
        packs = [summary] if slices else []
        tx.jobs.commit(session, outcomes, packs=packs)
