"""What the service is made of: given by a composition root, frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from producers.api.news import OpenNews
from producers.express import Express
from producers.settings import ApiSettings
from storage.clock import Clock, SystemClock, random_bits
from storage.database import Database
from storage.objects import Objects


def _nothing() -> None:
    """No relay to poke: somebody else's idle tick finds the work."""


def _no_trouble() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class ApiParts:
    """``poke`` wakes the relay after a commit; ``broker_trouble`` says what ails it, if anything.

    ``express`` is a relay in this very process, which takes jobs on their way; without one they
    wait for a relay to find them. ``news`` opens the source of what workers committed.
    ``keyless`` must be true only when the service listens on loopback (``serve`` decides it).
    """

    database: Database
    objects: Objects
    poke: Callable[[], None] = _nothing
    broker_trouble: Callable[[], str | None] = _no_trouble
    express: Express | None = None
    news: OpenNews | None = None
    settings: ApiSettings = field(default_factory=ApiSettings)
    clock: Clock = field(default_factory=SystemClock)
    chance: Callable[[int], int] = random_bits
    keyless: bool = False
