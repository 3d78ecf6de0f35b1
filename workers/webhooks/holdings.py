"""What is claimed, by endpoint, and how much more may be: who answered lately gets more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from storage.records.webhooks import Endpoint
from workers.webhooks.places import places_of, share_by_tenant, site_of


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is claimed at a time."""

    each: int  # attempts at one endpoint at a time; claimed ahead for one that answers fast
    most: int  # deliveries in all
    unproven: int  # of these, at sites that have not answered lately
    proven_s: float  # how long an answer counts for its site


@dataclass(slots=True)
class _Held:
    tenant: str
    site: str
    count: int = 0


class Holdings:
    """Begun anew with every ``look``; times are by one monotonic clock."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._held: dict[str, _Held] = {}
        self._answered: Counter[str] = Counter()  # by endpoint, since the last look
        self._answered_s: dict[str, float] = {}  # by site, the last time
        self._before: dict[str, int] = {}  # by endpoint, its places at the last look
        self.total = 0
        self.ahead = 0  # how many could not be claimed at the last look, for the bounds in all

    def take(self, endpoint: Endpoint) -> None:
        """One more of it is claimed."""
        one = self._held.get(endpoint.id)
        if one is None:
            one = self._held[endpoint.id] = _Held(endpoint.tenant, site_of(endpoint.url))
        one.count += 1
        self.total += 1

    def look(self, now_s: float) -> None:
        """What ended from now on counts for the next ``share``."""
        self._answered.clear()
        oldest_s = now_s - self._bounds.proven_s
        self._answered_s = {one: at for one, at in self._answered_s.items() if at > oldest_s}

    def end(self, endpoint_id: str, ended_s: float, *, answered: bool) -> None:
        """One of it ended, or was put back; ``answered`` with whatever status."""
        one = self._held.get(endpoint_id)
        if one is None:  # forgotten meanwhile
            return
        one.count -= 1
        self.total -= 1
        if answered:
            self._answered[endpoint_id] += 1
            self._answered_s[one.site] = ended_s
        if not one.count:
            del self._held[endpoint_id]

    def forget(self) -> None:
        """Nothing is claimed any more."""
        self._held.clear()
        self.total = 0

    def share(self, ready: Sequence[Endpoint]) -> dict[str, int]:
        """How many more of each to claim. Unproven ones come first, as there are few places for
        them in all."""
        tenants = {one.id: one.tenant for one in ready}
        proven = {one.id: site_of(one.url) in self._answered_s for one in ready}
        places = {one.id: self._places(one, proven[one.id]) for one in ready}
        self._before = places
        wanted: dict[bool, dict[str, int]] = {True: {}, False: {}}
        for one_id, most in places.items():
            here = self._held.get(one_id)
            wanted[proven[one_id]][one_id] = max(0, most - (here.count if here else 0))
        held: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for one in self._held.values():
            held[one.site in self._answered_s][one.tenant] += one.count
        free = max(0, self._bounds.most - self.total)
        few = max(0, min(free, self._bounds.unproven - held[False].total()))
        given = share_by_tenant(wanted[False], tenants, held[False], few, sparing=True)
        free -= sum(given.values())
        given |= share_by_tenant(wanted[True], tenants, held[True], free)
        asked = sum(sum(half.values()) for half in wanted.values())
        self.ahead = asked - sum(given.values())
        return given

    def _places(self, endpoint: Endpoint, proven: bool) -> int:
        return places_of(
            endpoint.failures,
            proven=proven,
            answered=self._answered[endpoint.id],
            before=self._before.get(endpoint.id, 0),
            each=self._bounds.each,
        )
