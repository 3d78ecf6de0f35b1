"""Trainings: each has one version, which is ready exactly if it succeeded; its curves tell each
step once; and the checkpoint that it could go on from is there.

A checkpoint is an object below a row among the packs, and no pack. The ones before it are doomed,
and what was put and never kept is still ``writing``: the collector knows both by their rows.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.faults.auditor.evidence import Evidence, Promise, Row
from tests.faults.auditor.packs import Damaged, read

LOST, DOUBLED, CROSSED, STUCK = "lost", "doubled", "crossed", "stuck"
Found = Iterator[tuple[str, str]]


def checkpoints(evidence: Evidence) -> set[str]:
    """Of the packs those that are where a training could go on."""
    rows = evidence.table("training_runs")
    return {row["checkpoint_pack_id"] for row in rows if row["checkpoint_pack_id"] is not None}


def trainings(evidence: Evidence) -> Found:
    """Each training that was accepted, and each version that was reserved for one."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in evidence.table("training_runs"):
        rows[row["job_id"]].append(row)
    ends = {row["id"]: row for row in evidence.table("ends")}
    twins: dict[str, dict[str, list[Any]]] = defaultdict(dict)
    for promise in evidence.book.promises.values():
        if promise.training is None:
            continue
        found, end = rows.pop(promise.id, []), ends.get(promise.id)
        if len(found) != 1:
            yield (DOUBLED if found else LOST), f"{_name(promise)} has {len(found)} runs"
        elif end is not None:
            one = _Training(evidence, promise, found[0], end)
            yield from one.check()
            if end["state"] == "succeeded":
                twins[promise.training["twins"]][_name(promise)] = one.losses
    for job_id in rows:
        yield CROSSED, f"there is a run of job {job_id}, which is no accepted training"
    for same in twins.values():
        first, *others = same.items()
        for name, losses in others:
            if losses != first[1]:
                yield CROSSED, f"{name} measured something else than {first[0]}"
    yield from _versions(evidence)


def _versions(evidence: Evidence) -> Found:
    """Nobody reserved a number twice, and no number waits for a training that is over."""
    asked = Counter(
        (one.tenant, one.training["model"])
        for one in evidence.book.promises.values()
        if one.training is not None
    )
    made = Counter((row["tenant"], row["name"]) for row in evidence.table("versions"))
    for (tenant, name), count in asked.items():
        if made[tenant, name] != count:
            yield (
                DOUBLED,
                f"{count} trainings of {tenant} {name} have {made[tenant, name]} versions",
            )


class _Training:
    """One that has ended."""

    def __init__(self, evidence: Evidence, promise: Promise, run: Row, end: Row) -> None:
        self._evidence, self._promise, self._run, self._end = evidence, promise, run, end
        assert promise.training is not None
        self._told = promise.training
        self._name = _name(promise)
        told = [one for one in evidence.table("training_measures") if one["job_id"] == promise.id]
        told.sort(key=lambda one: one["step"])
        steps = [json.loads(one["told"]) for one in told if one["scope"] == "steps"]
        self._steps = [step for one in steps for step in one["step"]]
        self.losses = [loss for one in steps for loss in one["loss"]]
        epochs = [json.loads(one["told"]) for one in told if one["scope"] == "epoch"]
        self._epochs = [one["epoch"] for one in epochs]

    def check(self) -> Found:
        if self._run["tenant"] != self._promise.tenant:
            yield CROSSED, f"{self._name} runs as {self._run['tenant']}"
        succeeded = self._end["state"] == "succeeded"
        yield from self._version(succeeded)
        yield from self._curves(succeeded)
        yield from self._checkpoint(succeeded)
        if succeeded:
            yield from self._result()

    def _version(self, succeeded: bool) -> Found:
        rows = self._evidence.table("versions")
        row = next((one for one in rows if one["id"] == self._run["version_id"]), None)
        if row is None:
            yield LOST, f"the version of {self._name} is gone"
            return
        if (row["tenant"], row["name"]) != (self._promise.tenant, self._told["model"]):
            yield CROSSED, f"{self._name} made {row['tenant']} {row['name']}"
        if row["state"] != ("ready" if succeeded else "broken"):
            kind = STUCK if row["state"] in ("training", "pending") else LOST
            yield kind, f"{self._name} {self._end['state']}, and its version is {row['state']}"
        if succeeded:
            data = self._evidence.object(row["object_key"])
            if data is None or hashlib.sha256(data).hexdigest() != row["digest"]:
                yield LOST, f"the artifact of {self._name} is not there as its version says"

    def _curves(self, succeeded: bool) -> Found:
        for what, seen in (("step", self._steps), ("epoch", self._epochs)):
            twice = [number for number, count in Counter(seen).items() if count > 1]
            if twice:
                yield DOUBLED, f"{self._name} tells {what} {min(twice)} more than once"
            whole = self._told[f"{what}s"] if succeeded else max(seen, default=0)
            missing = set(range(1, whole + 1)) - set(seen)
            if missing:
                yield LOST, f"{self._name} does not tell {len(missing)} {what}s: {min(missing)}"
            if max(seen, default=0) > self._told[f"{what}s"]:
                yield CROSSED, f"{self._name} tells {what} {max(seen)} of {self._told[f'{what}s']}"

    def _checkpoint(self, succeeded: bool) -> Found:
        pack_id = self._run["checkpoint_pack_id"]
        if pack_id is None:
            if succeeded:
                yield LOST, f"{self._name} succeeded and kept no checkpoint"
            return
        packs = {row["id"]: row for row in self._evidence.table("packs")}
        if pack_id not in packs or packs[pack_id]["state"] != "live":
            yield LOST, f"the checkpoint of {self._name} has no live row"
        data = self._evidence.object(self._run["checkpoint_key"])
        if data is None or hashlib.sha256(data).hexdigest() != self._run["checkpoint_digest"]:
            yield LOST, f"the checkpoint of {self._name} is not there as its run says"
        if succeeded and self._run["checkpoint_step"] != self._told["steps"]:
            yield LOST, f"the last checkpoint of {self._name} is of {self._run['checkpoint_step']}"

    def _result(self) -> Found:
        if self._run["result"] is None:
            yield LOST, f"{self._name} succeeded, and its run has no result"
        packs = {row["id"]: row for row in self._evidence.table("packs")}
        pack = packs.get(self._end["result_pack_id"])
        data = self._evidence.object(pack["object_key"]) if pack else None
        try:
            result = json.loads(read(data or b"")[self._promise.id].data)
        except (Damaged, KeyError, ValueError):
            yield LOST, f"{self._name} has a result that cannot be read"
            return
        said = (result["steps"], result["epochs"], result["version"].rpartition(":")[0])
        if said != (self._told["steps"], self._told["epochs"], self._told["model"]):
            yield CROSSED, f"{self._name} has a result of {said}"


def _name(promise: Promise) -> str:
    return f"training {promise.id} ({promise.tenant} {promise.custom_id})"
