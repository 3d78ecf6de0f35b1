"""Who has had how much of the device: device-seconds by tenant, so that the least served is next.

Levels are compared, never spent: what a tenant was given more than another is its debt to it.
One that comes (back) begins at the level of the least served present one: idleness earns nothing,
and leaving sheds no debt. Nobody is taken to lag the most served one by more than ``MOST_LAG_S``:
after a long time without its model a tenant catches up for so long and no longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

MOST_LAG_S = 10.0
_KEPT_ABSENT = 256  # absent tenants remembered at least: those with the largest debts


class Debts:
    """Device-seconds served in one class, by tenant. ``levels_s`` holds every present tenant."""

    def __init__(self) -> None:
        self.levels_s: dict[str, float] = {}
        self._least_s = 0.0

    def arrive(self, tenant: str) -> None:
        """It has work here now, and had none before."""
        self.levels_s[tenant] = max(self.levels_s.get(tenant, 0.0), self._least_s)

    def survey(self, present: Set[str]) -> None:
        """Before each choice: who is present, for the least and the most of now."""
        levels_s = self.levels_s
        now_s = [levels_s[tenant] for tenant in present]
        if not now_s:
            return
        least_s = max(now_s) - MOST_LAG_S
        if min(now_s) < least_s:
            for tenant in present:
                levels_s[tenant] = max(levels_s[tenant], least_s)
        self._least_s = max(min(now_s), least_s)
        if len(levels_s) > len(present) + 2 * _KEPT_ABSENT:
            absent = sorted(levels_s.keys() - present, key=lambda tenant: levels_s[tenant])
            for tenant in absent[:-_KEPT_ABSENT]:
                del levels_s[tenant]

    def ahead_s(self, tenant: str) -> float:
        """What it was given beyond the least served present tenant; at most ``MOST_LAG_S``."""
        return self.levels_s[tenant] - self._least_s

    def charge(self, s_per_cost: float, costs: Mapping[str, float]) -> None:
        """Each is served what its jobs cost; negative to take back what was too much."""
        for tenant, cost in costs.items():
            self.levels_s[tenant] = self.levels_s.get(tenant, self._least_s) + s_per_cost * cost
