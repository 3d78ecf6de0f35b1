"""Trials are started: a candidate that can stand in for what an alias stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storage.database import Transaction
from storage.records.compatibility import check_stands_in
from storage.records.errors import Conflict, InvalidInput, NotFound
from storage.records.ids import uuid7_series
from storage.records.models import ModelRef, check_ready
from storage.records.trials import Limits, Trial, TrialKind


@dataclass(frozen=True, slots=True)
class NewTrial:
    """What is asked for."""

    version: int
    kind: TrialKind
    share: float
    limits: Limits


def start(
    tx: Transaction,
    tenant: str,
    name: str,
    alias: str,
    asked: NewTrial,
    *,
    started_by: str | None,
    chance: Callable[[int], int],
) -> Trial:
    """``NotFound`` without the alias or the version; ``Conflict`` when a trial runs on the alias
    (``trial_running``), when the candidate is not ready, stands there already
    (``same_version``), or takes or gives something else (``signature_differs``)."""
    _check_limits(asked)
    candidate = tx.models.hold_pointable(tenant, name, asked.version)
    stands = tx.aliases.hold(tenant, name, alias)
    if stands is None:
        says = f"model {name!r} has no alias {alias!r} beside which a version could be tried"
        raise NotFound(says, code="alias_not_found", field="alias")
    check_ready(candidate, field="version")
    base = tx.models.resolve(tenant, ModelRef(name, version=stands.version))
    if base.id == candidate.id:
        says = f"{name}@{alias} stands for version {asked.version}: try another one beside it"
        raise Conflict(says, code="same_version", field="version")
    check_stands_in(base, candidate, field="version")
    own, base_arm, candidate_arm, shadow_arm = uuid7_series(4, tx.now(), chance(80))
    return tx.trials.start(
        Trial(
            id=own,
            tenant=tenant,
            name=name,
            alias=alias,
            kind=asked.kind,
            base_version_id=base.id,
            base_version=base.version,
            candidate_version_id=candidate.id,
            candidate_version=candidate.version,
            base_arm_id=base_arm,
            candidate_arm_id=candidate_arm,
            shadow_arm_id=shadow_arm,
            share=asked.share,
            limits=asked.limits,
            started_by=started_by,
        )
    )


def _check_limits(asked: NewTrial) -> None:
    """Limits that could never be judged, or would say nothing, are no limits."""
    limits, says = asked.limits, None
    if asked.kind is TrialKind.SHADOW:
        for name in ("latency_ratio", "latency_ms"):
            if getattr(limits, name) is not None:
                says = "a shadow's jobs wait behind all others, so how long they take says nothing"
                break
    elif limits.latency_ratio is not None and asked.share >= 1:
        name = "latency_ratio"
        says = "with a share of 1 there is nothing left to compare with: say latency_ms"
    if says is not None:
        raise InvalidInput(f"limits.{name}: {says}", code="invalid_value", field=f"limits.{name}")
