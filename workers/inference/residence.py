"""Which loaded versions leave so that another one fits. Pure: it receives ``now``.

A version leaves when it is the one that was used longest ago. One that has work here keeps its
place for a while first: loading is dear, and two versions that take turns with every batch would
only load. What is loaded to be tried, and not because a job waits, drives out nothing that has
work, or had some as lately as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.inference.ports import LoadedModel

_TURN_S, _TURN_IN_LOADS = 2.0, 10  # how long it stays at least: loading costs a tenth at most


@dataclass(slots=True)
class Resident:
    """A loaded version."""

    model: LoadedModel
    since_s: float
    used_s: float
    has_work: bool = False  # jobs of it wait, or are on their way

    def stays(self, now_s: float, *, urgent: bool) -> bool:
        """Whether it may not be driven out now."""
        turn_s = max(_TURN_S, _TURN_IN_LOADS * self.model.plan.load_s)
        if not urgent:
            return self.has_work or now_s - self.used_s < turn_s
        return self.has_work and now_s - self.since_s < turn_s


@dataclass(frozen=True, slots=True)
class Room:
    """How many versions may be loaded, and how much they may hold together."""

    max_models: int
    budget_bytes: int

    def fits(self, models: Sequence[LoadedModel], more_bytes: int = 0) -> bool:
        """Whether these may be loaded at once. Their passes run one after another."""
        held_bytes = sum(model.plan.memory_bytes for model in models)
        pass_bytes = max((model.plan.pass_bytes for model in models), default=0)
        return (
            len(models) <= self.max_models
            and held_bytes + pass_bytes + more_bytes <= self.budget_bytes
        )

    def leaving(
        self,
        residents: Sequence[Resident],
        retired: Sequence[LoadedModel],
        need_bytes: int,
        now_s: float,
        *,
        urgent: bool,
    ) -> list[Resident] | None:
        """Who goes so that one more fits, of ``residents``, the least recently used first.

        Who has no work goes before who has. None when it has to wait: what would have to go may
        not yet, or has not gone yet. ``retired`` are those that left and still run. One version
        alone always fits.
        """
        staying, going = list(residents), []
        smaller = Room(self.max_models - 1, self.budget_bytes)
        for resident in sorted(residents, key=lambda one: one.has_work):  # otherwise as they are
            models = [one.model for one in staying]
            if not models or smaller.fits([*models, *retired], need_bytes):
                break
            if not resident.stays(now_s, urgent=urgent):
                staying.remove(resident)
                going.append(resident)
        models = [one.model for one in staying]
        if smaller.fits([*models, *retired], need_bytes):
            return going
        return going if not models and not retired else None
