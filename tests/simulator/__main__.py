"""``python -m tests.simulator``: many seeds, or one again with all that happened."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tests.simulator.happenings import Broken
from tests.simulator.runs import Total, opened, quietly, run_many, story
from tests.simulator.world import World

SAID_EVERY_S = 30.0


def replay(seed: int, on: str, *, trace: bool, late: bool) -> int:
    """One seed again."""
    with quietly(), opened(on) as make:
        world = World(seed, make, trace=trace, late=late)
        try:
            ran = world.run()
        except (Exception, Broken) as error:
            print(story(world, error, on, late=late))
            return 1
        print("\n".join(world.happenings.lines))
        print(f"seed {seed} on {on}: {ran.steps} steps, every invariant held; {dict(ran.states)}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--on", choices=("fakes", "sqlite"), default="fakes")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="and print all that happened")
    parser.add_argument("--late", action="store_true", help="only runs with late commits")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return replay(given.seed, given.on, trace=given.trace, late=given.late)
    began_s = time.monotonic()
    said_s = began_s

    def progress(total: Total) -> None:
        nonlocal said_s
        if time.monotonic() > said_s + SAID_EVERY_S:
            said_s = time.monotonic()
            rate = total.seeds / (said_s - began_s)
            print(f"{total.seeds} of {given.seeds} seeds, {rate:.1f}/s", file=sys.stderr)

    total = run_many(
        given.first, given.seeds, given.on, given.processes, late=given.late, progress=progress
    )
    seconds = time.monotonic() - began_s
    print(
        f"{total.seeds} seeds on {given.on} in {seconds:.0f} s ({total.seeds / seconds:.1f}/s):"
        f" {total.steps} steps, {total.events} events"
    )
    print("jobs ended", ", ".join(f"{state}: {n}" for state, n in total.states.most_common()))
    for kind, count in sorted(total.faults.items()):
        print(f"  {count:9d}  {kind}")
    for _, told in total.broken:
        print(told)
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
