"""How many deliveries of each endpoint are claimed at a time.

An endpoint begins with few; one that answers soon gets as many as it answers while we look away,
one that fails gets few again, and one that was left alone is tried with one. So endpoints that
hang cannot fill the courier's places between them.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage.records.webhooks import BREAKS_AFTER

FIRST, MOST = 2, 64
FACTOR = 2  # so many times what was answered last time: it may have waited for more


def places_of(failures: int, answered: int, each: int) -> int:
    """``failures`` in a row and how many were ``answered`` since the last look; ``each`` is how
    many may be attempted at a time."""
    if failures >= BREAKS_AFTER:
        return 1
    if failures or not answered:
        return min(FIRST, each)
    return max(each, min(FACTOR * answered, MOST))


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
