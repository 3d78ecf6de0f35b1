"""Aliases that move: because somebody says so, because a gate holds, or back again.

Everything that decides a move is read in the transaction that makes it, with the alias held: what
a gate saw is what was so when the alias moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from producers.gate_values import Measured, values_of
from storage.database import Database, Transaction
from storage.database.aliases import check_unmoved
from storage.database.jobs.repointing import MOST
from storage.records.aliases import AliasMove, MoveReason, Why
from storage.records.compatibility import check_stands_in
from storage.records.errors import Conflict, Unavailable
from storage.records.gates import Decision, decide, parse_gate
from storage.records.models import ModelRef, ModelVersion, VersionState, check_ready


class GateFailed(Conflict):
    """The gate does not hold: nothing was changed. ``details`` has each comparison."""

    code = "gate_failed"


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is asked for."""

    version: int
    gate: str | None = None
    expected: int | None = None  # where the alias is thought to stand
    note: str | None = None
    requeue: bool = False  # jobs queued for the version that it leaves go to the one it comes to
    allow_other_signature: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of it."""

    move: AliasMove | None  # None of a dry run
    decision: Decision | None = None
    measured: Measured | None = None
    requeued: int | None = 0  # None: it moved, and not all jobs that were to come along did


def point(
    tx: Transaction,
    tenant: str,
    name: str,
    alias: str,
    version: int,
    *,
    expected: int | None,
    moved_by: str | None,
) -> AliasMove:
    """The alias stands for this version from here on, whatever anybody measured."""
    tx.models.hold_pointable(tenant, name, version)
    why = Why(moved_by=moved_by)
    move = tx.aliases.move(tenant, name, alias, version, why, expected=expected)
    tx.trials.alias_moved(tenant, name, alias, version)
    return move


def promote(
    database: Database,
    tenant: str,
    name: str,
    alias: str,
    asked: Promotion,
    *,
    moved_by: str | None,
) -> Moved:
    """Blocking. ``GateFailed``, ``Conflict`` (``alias_moved``, ``version_not_ready``,
    ``signature_differs``) or ``Unprocessable`` (``metric_not_measured``): nothing was changed."""
    gate = None if asked.gate is None else parse_gate(asked.gate)
    with database.begin() as tx:
        candidate = tx.models.hold_pointable(tenant, name, asked.version)
        check_ready(candidate, field="version")
        stands = tx.aliases.hold(tenant, name, alias)
        check_unmoved(name, alias, stands, asked.expected)
        base = None if stands is None else _version(tx, tenant, name, stands.version)
        if base is not None and (asked.requeue or not asked.allow_other_signature):
            check_stands_in(base, candidate, field="version")
        decision, measured, seen = None, None, None
        if gate is not None:
            measured = values_of(tx, tenant, candidate, gate)
            decision = decide(gate, measured.values)
            seen = _seen(decision, measured)
            if not decision.holds and not asked.dry_run:
                raise _failed(candidate, alias, decision)
        if asked.dry_run:
            return Moved(None, decision, measured)
        move = tx.aliases.move(
            tenant,
            name,
            alias,
            asked.version,
            Why(MoveReason.PROMOTE, gate=asked.gate, seen=seen, note=asked.note, moved_by=moved_by),
            expected=asked.expected,
            generation=0 if stands is None else stands.generation,
        )
        tx.trials.alias_moved(tenant, name, alias, asked.version)
    moved = base is not None and base.id != candidate.id
    requeued = _along(database, base, candidate) if asked.requeue and base and moved else 0
    return Moved(move, decision, measured, requeued)


def roll_back(
    database: Database,
    tenant: str,
    name: str,
    alias: str,
    *,
    expected: int | None = None,
    note: str | None = None,
    with_queued: bool = False,
    moved_by: str | None = None,
) -> Moved:
    """Blocking. The last move is taken back; once more, and the one before it is. ``with_queued``
    takes the jobs along that are queued for the version it leaves."""
    with database.begin() as tx:
        undone = tx.aliases.undoable(tenant, name, alias)
        assert undone.from_version is not None
        version = tx.models.hold_pointable(tenant, name, undone.from_version)
        left = _version(tx, tenant, name, undone.to_version)
        if with_queued:
            check_stands_in(left, version, field="requeue")
        why = Why(MoveReason.ROLLBACK, undone.generation, note=note, moved_by=moved_by)
        move = tx.aliases.move(tenant, name, alias, version.version, why, expected=expected)
        tx.trials.alias_moved(tenant, name, alias, version.version)
    return Moved(move, requeued=_along(database, left, version) if with_queued else 0)


def _along(database: Database, old: ModelVersion, new: ModelVersion) -> int | None:
    """The same after a move that has committed: trouble does not make it undone."""
    try:
        return requeue(database, old, new)
    except Unavailable:
        return None


def requeue(database: Database, old: ModelVersion, new: ModelVersion) -> int:
    """Blocking. The inference jobs queued for one version go to another that can stand in for it,
    each statement as many as may be held at once; how many did. May be repeated."""
    if old.id == new.id:
        says = f"{new.name}:{new.version} answers its jobs already: name another version"
        raise Conflict(says, code="same_version", field="to")
    check_stands_in(old, new, field="to")
    total, moved = 0, MOST
    while moved == MOST:
        with database.begin() as tx:
            moved = tx.jobs.repoint(old.tenant, old.id, new)
        total += moved
    return total


def requeue_by_number(database: Database, tenant: str, name: str, old: int, new: int) -> int:
    """Blocking. ``requeue`` of a model's versions by their numbers; ``NotFound``, or ``Conflict``
    with the field ``from`` or ``to``."""
    with database.begin() as tx:
        to = tx.models.hold_pointable(tenant, name, new)
        left = _version(tx, tenant, name, old)
    if left.state is VersionState.TRAINING:
        says = f"{name}:{old} is still in training: no job is queued for it"
        raise Conflict(says, code="version_in_training", field="from")
    check_ready(to, field="to")
    return requeue(database, left, to)


def comparisons(decision: Decision) -> list[dict[str, object]]:
    """A decision's, for callers."""
    return [asdict(one) for one in decision.seen]


def _version(tx: Transaction, tenant: str, name: str, version: int) -> ModelVersion:
    return tx.models.resolve(tenant, ModelRef(name, version=version), only_shown=True)


def _seen(decision: Decision, measured: Measured) -> Mapping[str, Any]:
    return {"comparisons": comparisons(decision), **measured.told()}


def _failed(candidate: ModelVersion, alias: str, decision: Decision) -> GateFailed:
    failing = [str(one) for one in decision.seen if not one.holds] or [
        str(one) for one in decision.seen
    ]
    return GateFailed(
        f"{candidate.name}:{candidate.version} does not become {alias!r}: {'; '.join(failing)}",
        field="if",
        details=comparisons(decision),
    )
