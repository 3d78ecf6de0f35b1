"""The five promises that are broken on purpose, in the product's own source, for the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutations.mutant import Edit


@dataclass(frozen=True)
class SimulatedMutant:
    """A broken promise, and how many seeds are enough to see it."""

    name: str
    edits: tuple[Edit, ...]
    on: str
    seeds: int
    says: str  # in the story of the seed that breaks
    late: bool = False  # only runs with late commits: others show it too, but one in hundreds

    @property
    def arguments(self) -> list[str]:
        return ["--on", self.on, "--processes", "1", "--seeds", str(self.seeds)]


LEAVING = "storage/database/jobs/leaving.py"
RUNNING = "storage/database/jobs/running.py"
FAKE = "tests/simulator/fake_database/job_statements.py"

NO_EPOCH_IN_DECISIONS = Edit(RUNNING, " and one.epoch == outcome.epoch", "")

MUTANTS = (
    SimulatedMutant(
        "the commit does not check the epoch",
        (Edit(LEAVING, " AND l.epoch = said.epoch)", ")"), NO_EPOCH_IN_DECISIONS),
        "sqlite",
        25,
        "a commit of epoch",
        late=True,
    ),
    SimulatedMutant(
        "the commit does not check the epoch (in memory)",
        (Edit(FAKE, ' and row["epoch"] == epoch', ""), NO_EPOCH_IN_DECISIONS),
        "fakes",
        60,
        "a commit of epoch",
        late=True,
    ),
    SimulatedMutant(
        "nothing is swept",
        (
            Edit(
                "workers/keeper/sweep.py",
                "rows = tx.jobs.sweep(int(self.config.publish_ttl_s * 1000), limit=limit)",
                "rows = 0",
            ),
        ),
        "fakes",
        200,
        "is stuck",
    ),
    SimulatedMutant(
        "the relay takes what was not confirmed for sent",
        (
            Edit(
                "producers/window/sending.py",
                "failed = report.unroutable | report.refused | report.unknown",
                "failed = report.unroutable",
            ),
        ),
        "fakes",
        200,
        "nobody said that its message is stored",
    ),
    SimulatedMutant(
        "no row of a pack is written before its object is put",
        (
            Edit(
                "workers/inference/pack_stock.py",
                "            for pack in packs:\n                tx.packs.open(pack)\n",
                "",
            ),
        ),
        "sqlite",
        20,
        "SQL never knew of it",
    ),
    SimulatedMutant(
        "the commit does not make the pack live",
        (
            Edit(
                LEAVING,
                "live = work.count(PUBLISH_MANY, ids=work.ids(needed), rows=rows) if needed else 0",
                "live = len(needed)",
            ),
        ),
        "sqlite",
        20,
        "points into pack",
    ),
    SimulatedMutant(
        "messages are not sent as mandatory",
        (
            Edit(
                "storage/queue/channel.py",
                "message.queue, True, False)",
                "message.queue, False, False)",
            ),
        ),
        "fakes",
        400,
        "nobody said that its message is stored",
    ),
)
