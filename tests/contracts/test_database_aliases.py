"""Aliases move atomically, and each move is kept and can be taken back, on both databases."""

from __future__ import annotations

import threading

import pytest

from storage.database import Database
from storage.records.aliases import AliasMove, MoveReason, Why
from storage.records.errors import Conflict, NotFound
from storage.records.models import ModelFormat, NewVersion
from tests.support.database import ALICE, BOB, START_MS, ManualClock, new_id

NAME = "digits"


def push(database: Database, tenant: str = ALICE, count: int = 1) -> None:
    for _ in range(count):
        with database.begin() as tx:
            tx.models.push(
                tenant, NewVersion(new_id(), NAME, ModelFormat.KERAS, "d", 1, "k", {}, False)
            )


JUST_SET = Why()


def move(database: Database, version: int, why: Why = JUST_SET, **seen: int | None) -> AliasMove:
    with database.begin() as tx:
        tx.models.hold_pointable(ALICE, NAME, version)
        return tx.aliases.move(ALICE, NAME, "prod", version, why, **seen)


def roll_back(database: Database) -> AliasMove:
    with database.begin() as tx:
        undone = tx.aliases.undoable(ALICE, NAME, "prod")
        why = Why(MoveReason.ROLLBACK, undone.generation)
        return tx.aliases.move(ALICE, NAME, "prod", undone.from_version, why)


def stands(database: Database) -> int:
    with database.read() as tx:
        (alias,) = tx.aliases.of_model(ALICE, NAME)
    return alias.version


def test_every_move_is_kept_with_where_it_led_from_and_why(
    database: Database, clock: ManualClock
) -> None:
    push(database, count=2)
    move(database, 1)
    clock.pass_ms(5)
    why = Why(
        MoveReason.PROMOTE,
        gate="accuracy > 0",
        seen={"values": {"accuracy": 0.5}},
        note="ä",
        moved_by="fbk_1",
    )
    move(database, 2, why)
    with database.read() as tx:
        second, first = tx.aliases.history(ALICE, NAME, "prod", limit=9)
        assert tx.aliases.history(ALICE, NAME, "prod", limit=1) == [second]
        assert tx.aliases.history(ALICE, NAME, "prod", limit=9, before=2) == [first]
        assert tx.aliases.history(BOB, NAME, "prod", limit=9) == []
        assert tx.aliases.history(ALICE, NAME, "test", limit=9) == []
    assert first == AliasMove(NAME, "prod", 1, None, 1, Why(), START_MS)
    assert second == AliasMove(NAME, "prod", 2, 1, 2, why, START_MS + 5)


@pytest.mark.parametrize("reason", [MoveReason.SET, MoveReason.PROMOTE])
def test_to_be_put_where_it_stands_is_no_move(database: Database, reason: MoveReason) -> None:
    """So a promotion that is asked for twice is taken back by one rollback."""
    push(database, count=2)
    move(database, 1)
    second = move(database, 2, Why(reason, note="first"))
    assert move(database, 2, Why(reason, note="again")) == second
    assert move(database, 2, Why(reason), expected=2, generation=2) == second
    with database.read() as tx:
        assert len(tx.aliases.history(ALICE, NAME, "prod", limit=9)) == 2
    assert roll_back(database).to_version == 1


def test_rollbacks_go_back_one_move_each(database: Database) -> None:
    push(database, count=4)
    for version in (1, 2, 3):
        move(database, version)
    assert [roll_back(database).to_version, stands(database)] == [2, 2]
    assert [roll_back(database).to_version, stands(database)] == [1, 1]
    with pytest.raises(Conflict) as refused:
        roll_back(database)
    assert refused.value.stable_code == "nothing_to_roll_back"
    # What is moved afterwards is taken back first, and then what was before it is at its end too.
    move(database, 4)
    last = roll_back(database)
    assert (last.from_version, last.to_version, last.why.undoes) == (4, 1, 6)
    with pytest.raises(Conflict):
        roll_back(database)


def test_there_is_no_way_back_without_an_alias(database: Database) -> None:
    push(database)
    push(database, BOB)
    with pytest.raises(NotFound) as missing:
        roll_back(database)
    assert missing.value.stable_code == "alias_not_found"


@pytest.mark.parametrize("seen", [{"expected": 2}, {"generation": 2}, {"generation": 0}])
def test_an_alias_that_moved_meanwhile_stays_where_it_is(
    database: Database, seen: dict[str, int]
) -> None:
    push(database, count=3)
    move(database, 1)
    with pytest.raises(Conflict) as refused:
        move(database, 3, **seen)
    assert refused.value.stable_code == "alias_moved"
    assert stands(database) == 1
    with database.read() as tx:
        assert len(tx.aliases.history(ALICE, NAME, "prod", limit=9)) == 1


@pytest.mark.parametrize("before", [0, 1], ids=["as it is made", "as it moves"])
def test_of_two_that_saw_the_same_one_moves_it(database: Database, before: int) -> None:
    """Both decided while it stood where it does; whoever comes second changes nothing."""
    push(database, count=3)
    if before:
        move(database, 1)
    go = threading.Barrier(2)
    moved: list[AliasMove] = []
    refused: list[str] = []

    def promote(version: int) -> None:
        go.wait(10)
        try:
            moved.append(move(database, version, generation=before))
        except Conflict as error:
            refused.append(error.stable_code)

    both = [threading.Thread(target=promote, args=(version,)) for version in (2, 3)]
    for one in both:
        one.start()
    for one in both:
        one.join(20)
    assert (len(moved), refused) == (1, ["alias_moved"])
    assert stands(database) == moved[0].to_version


def test_no_alias_leads_to_what_cannot_be_served(database: Database) -> None:
    push(database, count=2)
    with database.read() as tx:
        versions = {one.version: one.id for one in tx.models.versions(ALICE, NAME)}
    with database.begin() as tx:
        assert tx.models.mark_broken(versions[1], "it did not load")
    with pytest.raises(Conflict, match="digits:1 is broken: it did not load") as refused:
        move(database, 1)
    assert refused.value.stable_code == "version_broken"
    for missing in (7, 0):
        with pytest.raises(NotFound):
            move(database, missing)


def test_aliases_of_the_same_name_move_each_for_their_tenant(database: Database) -> None:
    for tenant in (ALICE, BOB):
        push(database, tenant, count=2)
        with database.begin() as tx:
            tx.models.hold_pointable(tenant, NAME, 1)
            tx.aliases.move(tenant, NAME, "prod", 1, Why())
    move(database, 2)
    with database.begin() as tx:
        theirs = tx.aliases.hold(BOB, NAME, "prod")
        assert theirs is not None and (theirs.version, theirs.generation) == (1, 1)
        assert [one.to_version for one in tx.aliases.history(BOB, NAME, "prod", limit=9)] == [1]
        with pytest.raises(Conflict):
            tx.aliases.undoable(BOB, NAME, "prod")
    assert roll_back(database).to_version == 1
