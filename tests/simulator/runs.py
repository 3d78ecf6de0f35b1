"""Many seeds, one after another or in several processes."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulator.happenings import Broken
from tests.simulator.sqlite import databases
from tests.simulator.world import Maker, World

CHUNK, GARBAGE_EVERY = 50, 20


@dataclass
class Total:
    """What many runs amount to."""

    seeds: int = 0
    steps: int = 0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)  # seed and story

    def add(self, other: Total) -> None:
        self.seeds += other.seeds
        self.steps += other.steps
        self.events += other.events
        self.faults.update(other.faults)
        self.states.update(other.states)
        self.broken += other.broken


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Nothing is logged: trouble is what it is about. And a world is one big knot of circles, which
    is cheaper to take apart by the dozen (``gc.collect``)."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logging.disable(before)


def run_seeds(seeds: Sequence[int], on: str, *, late: bool = False) -> Total:
    """Run them one after another, up to the first that breaks."""
    total = Total()
    with quietly(), opened(on) as make:
        for seed in seeds:
            if total.seeds % GARBAGE_EVERY == 0:
                gc.collect()
            world = World(seed, make, late=late)
            total.seeds += 1
            try:
                ran = world.run()
            except (Exception, Broken) as error:
                total.broken.append((seed, story(world, error, on, late=late)))
                break
            total.steps += ran.steps
            total.events += ran.events
            total.faults += ran.faults
            total.states += ran.states
    return total


def story(world: World, error: BaseException, on: str, *, late: bool) -> str:
    """The seed, what broke, and what happened last."""
    what = str(error) if isinstance(error, Broken) else traceback.format_exc()
    return "\n".join(
        [
            *world.happenings.lines,
            f"seed {world.seed} on {on}: {what}",
            f"again: python -m tests.simulator --on {on}{' --late' if late else ''}"
            f" --seed {world.seed} --trace",
        ]
    )


@contextlib.contextmanager
def opened(on: str) -> Iterator[Maker | None]:
    if on == "fakes":
        yield None
    else:
        with databases() as make:
            yield make


def _work(given: tuple[Sequence[int], str, bool]) -> Total:
    seeds, on, late = given
    return run_seeds(seeds, on, late=late)


def run_many(
    first: int,
    count: int,
    on: str,
    processes: int,
    *,
    late: bool = False,
    progress: Callable[[Total], None] = lambda total: None,
) -> Total:
    """The same in several processes; stops soon after the first break."""
    seeds = range(first, first + count)
    chunks = [(seeds[at : at + CHUNK], on, late) for at in range(0, count, CHUNK)]
    total = Total()
    if processes == 1:
        for chunk in chunks:
            total.add(_work(chunk))
            progress(total)
            if total.broken:
                break
        return total
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done in pool.imap_unordered(_work, chunks):
            total.add(done)
            progress(total)
            if total.broken:
                pool.terminate()
                break
    return total
