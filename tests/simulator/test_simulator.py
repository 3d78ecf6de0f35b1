"""The product's own code keeps its promises whatever the clock, the broker, the database and the
object store do to it; and a seed is a history."""

from __future__ import annotations

import pytest

from storage.records.errors import DatabaseUnavailable
from tests.simulator.faults import RATES
from tests.simulator.happenings import Broken
from tests.simulator.runs import Total, run_many, run_seeds
from tests.simulator.sqlite import databases
from tests.simulator.world import World

FAKE_SEEDS, SQLITE_SEEDS = 1_000, 40
ONLY_IN_MEMORY = "database: crash takes back a claim"


@pytest.fixture(scope="module")
def many() -> Total:
    """Run once, looked at from several sides."""
    return run_many(0, FAKE_SEEDS, "fakes", processes=2)


def told(total: Total) -> str:
    return "\n".join(story for _, story in total.broken)


def test_every_invariant_holds_over_many_seeds_in_memory(many: Total) -> None:
    assert not many.broken, told(many)
    assert many.seeds == FAKE_SEEDS


def test_every_kind_of_fault_did_happen_and_every_kind_of_end(many: Total) -> None:
    assert set(RATES) <= set(many.faults)
    assert set(many.states) == {"succeeded", "failed", "cancelled", "expired"}
    assert many.states["succeeded"] > FAKE_SEEDS


def test_every_invariant_holds_on_sqlite() -> None:
    total = run_seeds(range(SQLITE_SEEDS), "sqlite")
    assert not total.broken, told(total)


@pytest.mark.parametrize("seed", [3, 17, 256])
def test_a_seed_is_a_history(seed: int) -> None:
    first, second = World(seed, trace=True), World(seed, trace=True)
    assert first.run() == second.run()
    assert first.happenings.lines == second.happenings.lines


def test_the_database_in_memory_makes_the_same_history_as_sqlite() -> None:
    """Event by event: so what holds on the one is not the other's leniency."""
    alike = 0
    with databases() as make:
        for seed in range(6):
            here = World(seed, trace=True)
            here.faults.rates[ONLY_IN_MEMORY] = 0.0
            there = World(seed, make, trace=True)
            there.faults.rates[ONLY_IN_MEMORY] = 0.0
            here.run()
            there.run()
            assert here.happenings.lines == there.happenings.lines, f"seed {seed}"
            alike += len(here.happenings.lines)
    assert alike > 1_000


def test_a_broken_invariant_names_its_seed_and_what_happened_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(self: World) -> None:
        raise Broken("water runs uphill")

    monkeypatch.setattr(World, "_calm", stop)
    total = run_seeds(range(5, 9), "fakes")
    ((seed, story),) = total.broken
    assert seed == 5
    assert "seed 5 on fakes: water runs uphill" in story
    assert "again: python -m tests.simulator --on fakes --seed 5 --trace" in story
    assert len(story.splitlines()) > 20


def test_a_commit_whose_reply_is_lost_took_effect_and_its_caller_is_told_so() -> None:
    world = World(1)
    database = world.api.database
    world.faults.rates = dict.fromkeys(RATES, 0.0) | {"database: reply lost": 1.0}
    with pytest.raises(DatabaseUnavailable), database.begin() as tx:
        tx.groups.create("alice", "g", 1)
    world.faults.rates = dict.fromkeys(RATES, 0.0) | {"database: commit failed": 1.0}
    with pytest.raises(DatabaseUnavailable), database.begin() as tx:
        tx.groups.create("alice", "h", 1)
    assert list(world.inner.tables.groups) == ["g"]
