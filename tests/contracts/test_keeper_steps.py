"""A keeper that dies between any two steps, and two keepers that step on each other: what retention
and pack collection leave behind is the same, and at no moment does a row point to nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from storage.database import Database
from storage.objects import Objects, open_objects
from storage.records.jobs import PackSlice
from storage.records.packs import PackKind
from tests.support.database import ALICE, BOB, ManualClock
from tests.support.retention import DAY_MS, KEPT_MS, Interrupted, Past, Stepwise
from workers.keeper.duty import Duty, as_fields
from workers.keeper.pack_collection import PackCollection, PackCollectionConfig
from workers.keeper.retention import Retention, RetentionConfig

TABLES = ("jobs", "ends", "live", "payloads", "job_labels", "groups", "packs", "files")


def keeper() -> list[Duty]:
    return [
        Retention(RetentionConfig(limit=3, files=1)),
        PackCollection(PackCollectionConfig(limit=3)),
    ]


def settle(past: Past, duties: list[Duty]) -> Counter[str]:
    """Run until nothing is left to do; what was counted."""
    done: Counter[str] = Counter()
    while True:
        more = False
        for duty in duties:
            counts = duty.run_once(past.database, past.objects)
            done += Counter(as_fields(counts))
            more = more or counts.more
        past.check()
        if not more:
            return done


@pytest.fixture
def past(database: Database, tmp_path, clock: ManualClock) -> Past:
    objects: Objects = open_objects(f"file://{tmp_path}/objects")
    return Past(database, objects, clock)


def populate(past: Past) -> dict[str, set[str]]:
    """Old and young things of two tenants; what has to be left of them."""
    ancient = [past.upload(), past.upload(BOB)]
    past.clock.pass_ms(KEPT_MS + DAY_MS)  # older than what any live job may point to
    old = {
        tenant: past.submit(4, tenant, packed=True, metadata={"k": "v"}) for tenant in (ALICE, BOB)
    }
    _, members = past.group(3)
    for tenant, ids in old.items():
        past.succeed(ids, tenant=tenant)
        past.upload(tenant)
    past.succeed(members)
    with past.database.begin() as tx:
        tx.webhooks.complete_groups(None, 9)
    (waiting,) = past.submit(packed=True)  # old and live
    past.pack(PackKind.RESULT)  # its writer died
    past.clock.pass_ms(KEPT_MS + DAY_MS)
    past.succeed(past.submit(2, packed=True))
    with past.database.begin() as tx:
        tx.tenants.ensure(ALICE)
    left = {name: past.keys(name) for name in ("jobs", "ends", "live", "payloads")}
    gone = {*old[ALICE], *old[BOB], *members}
    left = {name: ids - gone for name, ids in left.items()}
    assert waiting in left["live"]
    left["files"] = past.keys("files") - {*ancient}
    return left


def check_left(past: Past, left: dict[str, set[str]]) -> None:
    assert {name: past.keys(name) for name in left} == left
    assert (past.rows("groups"), past.rows("job_labels"), len(left["files"])) == (0, 0, 2)
    # Of the live job and of the young ones; and of these the results.
    assert past.rows("packs") == 3


def test_a_keeper_that_dies_after_any_step_is_followed_by_one_that_ends_its_work(
    past: Past,
) -> None:
    left = populate(past)
    steps, died = 1, 0
    while True:
        stepwise = Stepwise(past.database, past.objects)

        def die() -> None:
            raise Interrupted

        stepwise.then[steps] = die
        duties = keeper()
        try:
            while any(duty.run_once(stepwise, stepwise).more for duty in duties):  # type: ignore[arg-type]
                pass
            break
        except Interrupted:
            died += 1
            steps += 1
            past.check()
    settle(past, keeper())
    check_left(past, left)
    assert died > 12


@pytest.mark.parametrize("first", range(1, 34, 4))
def test_another_keeper_between_any_two_steps_does_no_harm(past: Past, first: int) -> None:
    left = populate(past)
    before = {name: past.rows(name) for name in TABLES}
    stepwise, done = Stepwise(past.database, past.objects), Counter[str]()

    def the_other() -> None:
        for duty in keeper():
            nonlocal done
            done += Counter(as_fields(duty.run_once(past.database, past.objects)))
            past.check()

    for step in range(first, 200, 5):
        stepwise.then[step] = the_other
    duties, more = keeper(), True
    while more:
        more = False
        for duty in duties:
            counts = duty.run_once(stepwise, stepwise)  # type: ignore[arg-type]
            done += Counter(as_fields(counts))
            more = more or counts.more
    done += settle(past, keeper())
    check_left(past, left)
    assert done["jobs"] == before["jobs"] - past.rows("jobs")
    assert done["groups"] == before["groups"] == 1
    assert done["doomed"] == before["packs"] - past.rows("packs")


def test_two_keepers_at_the_same_time_do_each_thing_once(past: Past) -> None:
    left = populate(past)
    before = {name: past.rows(name) for name in TABLES}
    ready, done, faults = threading.Barrier(2), [Counter[str](), Counter[str]()], []

    def run(place: int) -> None:
        duties = keeper()
        ready.wait(60)
        try:
            while True:
                found = [duty.run_once(past.database, past.objects) for duty in duties]
                for counts in found:
                    done[place] += Counter(as_fields(counts))
                if not any(counts.more for counts in found):
                    return
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert faults == []
    together = done[0] + done[1] + settle(past, keeper())
    check_left(past, left)
    assert together["jobs"] == before["jobs"] - past.rows("jobs")
    assert together["doomed"] == before["packs"] - past.rows("packs")


def test_a_walk_that_another_keeper_emptied_ends(past: Past) -> None:
    populate(past)
    mine = keeper()
    assert any(duty.run_once(past.database, past.objects).more for duty in mine)
    settle(past, keeper())
    runs: list[Callable[[], bool]] = [
        lambda duty=duty: duty.run_once(past.database, past.objects).more for duty in mine
    ]
    assert not any(run() for run in runs) or not any(run() for run in runs)


def test_the_input_of_a_live_job_can_be_read_after_all_of_it(past: Past) -> None:
    left = populate(past)
    settle(past, keeper())
    (live,) = left["live"]
    with past.database.read() as tx:
        payload = tx.jobs.payload(ALICE, live)
        assert isinstance(payload, PackSlice)
        pack = tx.packs.get(payload.pack_id)
    assert pack is not None and past.objects.exists(pack.key)
