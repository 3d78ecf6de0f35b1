"""Where an alias stood, and what takes a move back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from storage.records.jobs import Millis


class MoveReason(StrEnum):
    """Why an alias moved."""

    SET = "set"  # somebody said so
    PROMOTE = "promote"  # and its gate held, if there was one
    ROLLBACK = "rollback"  # an earlier move was taken back


@dataclass(frozen=True, slots=True)
class Why:
    """What is kept of a move beside where it led."""

    reason: MoveReason = MoveReason.SET
    undoes: int | None = None  # the generation that a rollback takes back
    gate: str | None = None
    seen: Mapping[str, Any] | None = None  # what the gate was decided by
    note: str | None = None
    moved_by: str | None = None


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move. ``generation`` is the alias's after it."""

    name: str
    alias: str
    generation: int
    from_version: int | None  # None: it was made, or was there before moves were kept
    to_version: int
    why: Why
    moved_at: Millis


def to_undo(moves: Iterable[AliasMove]) -> AliasMove | None:
    """The last move that is not taken back yet, of moves from the last to the first: so a second
    rollback goes one step further. None when there is none, or nobody knows where it led from."""
    undone: set[int] = set()
    for move in moves:
        if move.why.undoes is not None:
            undone.add(move.why.undoes)
        elif move.generation not in undone:
            return move if move.from_version is not None else None
    return None
