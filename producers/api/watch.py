"""A watch: one caller's attention to one thing, and how often to look at it (see ``watcher``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from producers.api.watcher import Watcher

Seen: TypeAlias = tuple[int, bool]  # a number that changes with the thing; whether it is over


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look: every ``share`` of a wait's age, within bounds."""

    least_s: float
    share: float
    most_s: float = 0.5

    def after(self, now_s: float, age_s: float, *, at_least_s: float = 0.0) -> float:
        """When to look again at a wait of this age: on the grid of its own pace."""
        pace_s = max(at_least_s, self._pace_s(age_s))
        grid_s = self.least_s
        while grid_s * 4 <= pace_s:
            grid_s *= 2
        return -(-(now_s + pace_s) // grid_s) * grid_s

    def slack_s(self, age_s: float) -> float:
        """How much sooner it goes along when there is a look anyway: two waits that once fell on
        either side of the grid would otherwise be looked at in turns for good."""
        return max(self.least_s, self._pace_s(age_s) / 4)

    def _pace_s(self, age_s: float) -> float:
        return max(self.least_s, min(self.most_s, age_s * self.share))


ALONE = Pace(0.004, 0.1)  # only looking tells
HEARING = Pace(0.008, 0.5)  # looking is for news that got lost


class Watch:
    """One caller's attention to one thing. News count from its making, not from the waiting:
    what happens while the caller looks for itself is not missed."""

    def __init__(self, watcher: Watcher, kind: str, id_: str, *, is_refused: bool) -> None:
        self._watcher = watcher
        self._woken: asyncio.Future[None] | None = None
        self.kind, self.id = kind, id_
        self.is_refused = is_refused  # too many wait already
        self.satisfied: Callable[[Seen | None], bool] = _never
        self.since_s = self.due_s = 0.0
        self.turn = -1  # its one valid entry in the heap
        self.heard = False
        self.missing = 0  # of the jobs it is gathered from, when last looked at
        self.news = 0  # jobs told of since that look began

    @property
    def is_waiting(self) -> bool:
        """Whether somebody is to be woken."""
        return self._woken is not None and not self._woken.done()

    async def change(self, satisfied: Callable[[Seen | None], bool], timeout_s: float) -> bool:
        """Return when there was news or a look satisfies, after ``timeout_s``, or at the stop.

        The caller looks for itself afterwards: this only says when that is worth it. False: too
        many wait already, and there was no waiting.
        """
        if self.is_refused:
            return False
        if not self.heard and timeout_s > 0 and not self._watcher.closed:
            loop = asyncio.get_running_loop()
            self._woken, self.satisfied = loop.create_future(), satisfied
            self._watcher.plan_first(self, loop)
            timer = loop.call_later(timeout_s, self.wake)
            try:
                await self._woken
            finally:
                timer.cancel()
        self.heard = False
        return True

    def wake(self) -> None:
        """Let the caller look."""
        self.heard = True
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


def _never(_: Seen | None) -> bool:
    return False
