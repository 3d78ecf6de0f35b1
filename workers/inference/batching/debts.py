"""Who has had how much of the device: device-seconds by tenant, so that the least served is next.

Levels are compared, never spent: what a tenant was given more than another is its debt to it.
One that comes (back) begins at the level of the least served present one: idleness earns nothing,
and leaving sheds no debt. Nobody is taken to lag the most served one by more than ``MOST_LAG_S``:
after a long time without its model a tenant catches up for so long and no longer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

MOST_LAG_S = 10.0
_KEPT_ABSENT = 256  # absent tenants remembered before those without a debt are dropped


class Debts:
    """Device-seconds served, by tenant."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._least = 0.0
        self._most = 0.0

    def arrive(self, tenant: str) -> None:
        """It has work here now, and had none before."""
        self._served[tenant] = max(self._served.get(tenant, 0.0), self._least)

    def survey(self, present: Collection[str]) -> None:
        """Before each choice: who is present, for the levels of now."""
        levels = [self._served[tenant] for tenant in present]
        if not levels:
            return
        self._most = max(levels)
        self._least = max(min(levels), self._most - MOST_LAG_S)
        if len(self._served) > len(present) + _KEPT_ABSENT:
            self._served = {
                tenant: served
                for tenant, served in self._served.items()
                if served > self._least or tenant in present
            }

    def level_s(self, tenant: str) -> float:
        """Its device-seconds, comparable with those of others."""
        return max(self._served.get(tenant, self._least), self._least)

    def ahead_s(self, tenant: str) -> float:
        """What it was given beyond the least served present tenant; at most ``MOST_LAG_S``."""
        return self.level_s(tenant) - self._least

    def charge(self, seconds: float, shares: Mapping[str, float]) -> None:
        """Divide device time among tenants in proportion; negative to take too much back."""
        whole = sum(shares.values())
        for tenant, share in shares.items():
            part = seconds * (share / whole if whole else 1 / len(shares))
            self._served[tenant] = self.level_s(tenant) + part
