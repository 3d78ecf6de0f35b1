"""Packs: one object that holds many small byte strings, and its life.

::

    writing ──(commit)──▶ live ──▶ doomed ──(object deleted)──▶ row gone
       └────(stale: its writer died)───────▲

The row exists before the put, so no object is ever unknown to SQL. Only a ``writing`` row can be
made live, and only a row that is ``doomed`` (by compare-and-swap) may have its object deleted:
a commit and a collector can never both win.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from storage.records.jobs import Millis

STALE_AFTER_MS = 3_600_000
"""A pack goes live within this time of its opening, or never: so whatever points to a result pack
ended within an hour of that pack's opening. (All but a training's run, which points to its last
checkpoint as long as it is there.)"""


class PackState(StrEnum):
    """Where a pack stands."""

    WRITING = "writing"
    LIVE = "live"
    DOOMED = "doomed"


class PackKind(StrEnum):
    """What a pack holds."""

    INPUT = "input"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class NewPack:
    """A pack about to be written."""

    id: str
    tenant: str
    kind: PackKind
    key: str


@dataclass(frozen=True, slots=True)
class PackSummary:
    """What a finished pack amounts to, as its writer says when it asks for it to go live."""

    id: str
    entries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack's row."""

    id: str
    tenant: str
    kind: PackKind
    key: str
    state: PackState
    entries: int
    size_bytes: int
    created_at: Millis
