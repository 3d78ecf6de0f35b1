"""What hangs on a version: who needs it now, what came of it, and where it once stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.records.errors import Conflict
from storage.records.jobs import Millis
from storage.records.models import ModelVersion
from storage.records.trials import TrialKind, TrialState

MOST_SHOWN = 20  # of each kind, in a message


@dataclass(frozen=True, slots=True)
class Dependents:
    """Who would miss a version. ``children`` are versions that a training made from it: they have
    their own artifacts, so they are no hindrance."""

    aliases: tuple[str, ...] = ()
    queued: int = 0  # jobs, the internal ones of trials too
    running: int = 0
    trials: tuple[str, ...] = ()  # ids of running ones
    trainings: tuple[str, ...] = ()  # ids of the jobs that begin with it and have no model yet
    children: tuple[str, ...] = ()  # as ``name:version``

    @property
    def hinder(self) -> list[dict[str, object]]:
        """What keeps it from being deleted, one entry for each kind; empty where nothing does."""
        kinds: Mapping[str, tuple[int, tuple[str, ...]]] = {
            "aliases": (len(self.aliases), self.aliases),
            "queued_jobs": (self.queued, ()),
            "running_jobs": (self.running, ()),
            "trials": (len(self.trials), self.trials),
            "trainings": (len(self.trainings), self.trainings),
        }
        return [
            {"what": what, "count": count} | ({"names": list(names[:MOST_SHOWN])} if names else {})
            for what, (count, names) in kinds.items()
            if count
        ]


def check_unused(version: ModelVersion, found: Dependents) -> None:
    """``Conflict`` with code ``version_in_use`` that names all that depends on the version."""
    hinder = found.hinder
    if not hinder:
        return
    ref = f"{version.name}:{version.version}"
    said = "; ".join(_said(version.name, one) for one in hinder)
    raise Conflict(
        f"{ref} is in use by {said}: move the aliases, and let the work end or cancel it",
        code="version_in_use",
        field="version",
        details=hinder,
    )


def _said(name: str, one: Mapping[str, Any]) -> str:
    """``2 aliases (digits@prod, digits@blue)``."""
    count, what = one["count"], str(one["what"]).replace("_", " ")
    words = what if count != 1 else {"aliases": "alias"}.get(what, what.removesuffix("s"))
    names = [f"{name}@{each}" if "alias" in what else str(each) for each in one.get("names", ())]
    more = ", …" if count > len(names) else ""
    return f"{count:,} {words}" + (f" ({', '.join(names)}{more})" if names else "")


@dataclass(frozen=True, slots=True)
class Stay:
    """An alias stood for the version from one of its moves to the next."""

    alias: str
    generation: int
    since: Millis
    until: Millis | None  # None: it still does
    then: int | None  # the version that it went on to
    why: str
    gate: str | None
    note: str | None
    moved_by: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A trial that the version took part in."""

    trial_id: str
    alias: str
    kind: TrialKind
    is_candidate: bool  # else what the candidate was tried beside
    other: int  # the version on the other side
    share: float
    state: TrialState
    reason: str | None
    created_at: Millis
    ended_at: Millis | None
