"""Who leaves the device when memory or places are short, and who may stay."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from workers.inference.ports import Plan
from workers.inference.residence import Resident, Room


@dataclass(eq=False)
class Model:
    """As much of a loaded model as matters here."""

    version_id: str
    plan: Plan
    signature: object = None
    calls: list[object] = field(default_factory=list)


def resident(
    name: str,
    mib: int = 1,
    *,
    work: bool = False,
    since_s: float = 0,
    used_s: float = 0,
    load_s: float = 0.1,
    pass_mib: int = 0,
) -> Resident:
    plan = Plan((1,), memory_bytes=mib << 20, pass_bytes=pass_mib << 20, load_s=load_s)
    return Resident(Model(name, plan), since_s, used_s, work)  # type: ignore[arg-type]


def going(
    room: Room,
    residents: list[Resident],
    need_mib: int = 1,
    *,
    now_s: float = 1_000,
    urgent: bool = True,
    retired: tuple[Resident, ...] = (),
) -> list[str] | None:
    found = room.leaving(
        residents, [one.model for one in retired], need_mib << 20, now_s, urgent=urgent
    )
    return None if found is None else [one.model.version_id for one in found]


ROOMY = Room(max_models=2, budget_bytes=1 << 40)
TIGHT = Room(max_models=99, budget_bytes=10 << 20)


def test_nobody_leaves_while_there_is_room() -> None:
    assert going(ROOMY, [resident("a")]) == []
    assert going(TIGHT, [resident("a", 4), resident("b", 4)], 2) == []


def test_the_least_recently_used_leaves_first_and_no_more_than_need_be() -> None:
    three = [resident("a", 3), resident("b", 3), resident("c", 3)]
    assert going(TIGHT, three, 3) == ["a"]
    assert going(TIGHT, three, 6) == ["a", "b"]
    assert going(ROOMY, three[:2]) == ["a"]


def test_the_largest_pass_counts_once_beside_what_all_of_them_hold() -> None:
    two = [resident("a", 3, pass_mib=3), resident("b", 2, pass_mib=2)]
    assert going(TIGHT, two, 2) == []
    assert going(TIGHT, two, 3) == ["a"]


def test_what_has_work_leaves_after_what_has_none() -> None:
    two = [resident("busy", 4, work=True), resident("idle", 4)]
    assert going(TIGHT, two, 4) == ["idle"]


def test_what_has_work_keeps_its_turn_and_leaves_after_it() -> None:
    busy = [resident("busy", 8, work=True, since_s=999, load_s=0.5)]
    assert going(TIGHT, busy, 8, now_s=1_000) is None
    assert going(TIGHT, busy, 8, now_s=1_003.9) is None, "loading took half a second: ten of those"
    assert going(TIGHT, busy, 8, now_s=1_004.1) == ["busy"]


@pytest.mark.parametrize("work", [True, False])
def test_a_version_that_is_only_tried_drives_out_nothing_in_use(work: bool) -> None:
    used = [resident("a", 8, work=work, used_s=0 if work else 996, load_s=0.5)]
    assert going(TIGHT, used, 8, urgent=False) is None
    assert going(TIGHT, used, 8, urgent=True) == ["a"]
    forgotten = [resident("a", 8, used_s=994, load_s=0.5)]
    assert going(TIGHT, forgotten, 8, urgent=False) == ["a"]


def test_what_left_but_still_runs_is_waited_for() -> None:
    still = (resident("old", 8),)
    assert going(TIGHT, [], 8, retired=still) is None
    assert going(TIGHT, [], 8) == []


def test_a_version_larger_than_everything_runs_alone() -> None:
    assert going(TIGHT, [resident("a"), resident("b")], 1_000) == ["a", "b"]
