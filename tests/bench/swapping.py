"""Versions swapped under 200 jobs a second: what is lost, what is answered by another version than
it records, and how long a bad candidate goes on after it crossed its limit."""

from __future__ import annotations

from tests.bench.report import Figure, Goal, told
from tests.bench.rig import Rig
from tests.show import swaps
from tests.support import zoo

NAME = "swapping"
LOST, WRONG, RETURN = Goal(0), Goal(0), Goal(10.0)
RATE_PER_S = 200.0


def measure(rig: Rig) -> list[Figure]:
    """One history: a promotion, a rollback, a return."""
    with rig.stack(model=False) as stack:
        with stack.caller() as caller:
            swaps.push_all(caller, zoo.make())
        seen = swaps.run(stack.caller, rate_per_s=RATE_PER_S, phase_s=2.0 if rig.quick else 15.0)
    detail = {
        "jobs": seen.jobs,
        "by_version": {str(version): count for version, count in seen.by_version.items()},
        "failed_of_the_candidate": seen.failed,
        "reason": seen.reason,
    }
    return [
        LOST.of(NAME, "jobs lost in three swaps", len(seen.lost), "jobs", detail=detail),
        WRONG.of(
            NAME,
            "jobs answered by another version than they record",
            len(seen.wrong),
            "jobs",
            detail={"first": list(seen.wrong[:5])},
        ),
        RETURN.of(NAME, "from breach to return", round(seen.breach_to_return_s, 2), "s"),
        told(NAME, "jobs/s submitted one by one meanwhile", round(seen.per_s), "jobs/s"),
    ]
