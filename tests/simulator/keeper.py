"""A keeper: the product's duties, each in its own time, and a relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from tests.simulator.clients import Database, Objects
from tests.simulator.relaying import SteppedRelay
from tests.simulator.scheduler import Process
from workers.inference.gate import TROUBLE
from workers.keeper.duty import Duty
from workers.keeper.expiry import Expiry
from workers.keeper.group_completion import GroupCompletion
from workers.keeper.pack_collection import PackCollection, PackCollectionConfig
from workers.keeper.reaper import Reaper
from workers.keeper.sweep import Sweep

if TYPE_CHECKING:
    from tests.simulator.world import World

# As far apart as the product's or further: an idle run costs a step. Packs are stale long after
# the stock has forgotten them, as with the product's defaults. Retention has nothing to do within
# minutes, and nobody is there to be delivered to.
DUTIES: tuple[tuple[Callable[[], Duty], float], ...] = (
    (Sweep, 6.0),
    (Reaper, 4.0),
    (Expiry, 6.0),
    (GroupCompletion, 8.0),
    (lambda: PackCollection(PackCollectionConfig(older_than_s=200.0)), 40.0),
)


class Keeper:
    """One keeper process."""

    def __init__(self, world: World, name: str, *, relays: bool) -> None:
        self.world = world
        self.process = process = Process(world.scheduler, name)
        database, objects = Database(world, process), Objects(world, process)
        if relays:
            SteppedRelay(world, process, database)
        for make, pause_s in DUTIES:
            duty = make()
            every_s = world.pace * pause_s

            def run(duty: Duty = duty, every_s: float = every_s) -> float:
                try:
                    counts = duty.run_once(cast(Any, database), objects)
                except TROUBLE:
                    return every_s
                return 0.0 if counts.more else every_s

            process.thread(duty.name, run, first_s=world.chance.random() * every_s)
