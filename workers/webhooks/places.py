"""How many deliveries of each endpoint are claimed at a time.

An endpoint begins with few; one that answers soon gets as many as it answers while we look away,
one that fails gets few again, and one that was left alone is tried with one. Those at sites that
have not answered lately share a part of all places, and tenants take turns in it. So neither some
endpoints that hang nor a tenant with thousands of them can fill the courier between them.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping

from storage.records.webhooks import BREAKS_AFTER

FIRST, MOST = 2, 128
FACTOR = 2  # so many times what was answered last time: it may have waited for more


def places_of(failures: int, *, proven: bool, answered: int, before: int, each: int) -> int:
    """``failures`` in a row; whether its site has answered lately, how many were ``answered``
    since the last look, how many places it had ``before``, and how many may be attempted at a
    time."""
    if failures >= BREAKS_AFTER:
        return 1
    if failures or not proven:
        return min(FIRST, each)
    return min(max(each, FACTOR * answered, before // 2), MOST)


def share(wanted: Mapping[str, int], total: int) -> dict[str, int]:
    """``total`` places for those who want some, as evenly as can be; nobody more than wanted."""
    given: dict[str, int] = {}
    order = sorted(wanted, key=lambda one: wanted[one])
    for position, one in enumerate(order):
        if total <= 0:
            break
        fair = -(-total // (len(order) - position))
        if taken := min(max(0, wanted[one]), fair):
            given[one] = taken
            total -= taken
    return given


def share_by_tenant(
    wanted: Mapping[str, int],
    tenant_of: Mapping[str, str],
    held: Mapping[str, int],
    total: int,
    *,
    sparing: bool = False,
) -> dict[str, int]:
    """``share``, first among tenants: the next place goes to who would have the fewest. ``held``
    is how many a tenant has already. ``sparing``: nobody has more than are left free then, but
    for a single one; so there is something left for whoever comes next."""
    by_tenant: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for endpoint, most in wanted.items():
        if most > 0:
            by_tenant[tenant_of[endpoint]][endpoint] = most
    left = {tenant: sum(one.values()) for tenant, one in by_tenant.items()}
    line = [(held.get(tenant, 0), tenant) for tenant in left]
    heapq.heapify(line)
    taken: Counter[str] = Counter()
    for free in range(total, 0, -1):
        if not line or (sparing and line[0][0] >= max(1, free - 1)):
            break
        has, tenant = line[0]
        taken[tenant] += 1
        if taken[tenant] < left[tenant]:
            heapq.heapreplace(line, (has + 1, tenant))
        else:
            heapq.heappop(line)
    given: dict[str, int] = {}
    for tenant, places in taken.items():
        given |= share(by_tenant[tenant], places)
    return given


def site_of(url: str) -> str:
    """Scheme, host and port of a URL that was found to be good: who answers at it."""
    return "/".join(url.lower().replace("?", "/").split("/", 3)[:3])
